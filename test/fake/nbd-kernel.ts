/**
 * A kernel's NBD device and the server that it talks to, as nbd-watch sees them, without a kernel: which connections live,
 * what the kernel does with a socket that it is given, and the messages that it sends when one dies.
 */
import { GatewayError } from '../../src/base/errors.js';
import { encodeGreeting, encodeOptionError, encodeOptionReply } from '../../src/frontends/nbd/option-codec.js';
import {
  option,
  optionReply,
  readU32,
  transmissionFlag,
  wireBytes,
  writeU16,
  writeU32,
  writeU64,
} from '../../src/frontends/nbd/wire.js';
import type { OptionError } from '../../src/frontends/nbd/wire.js';
import type {
  AttachSettings,
  ConnectedSocket,
  DialedConnection,
  NbdDevice,
  NbdDialer,
  Patience,
} from '../../src/ports/nbd-device.js';

/** What one connection leads to. Its server may be gone. */
class FakeSocket implements ConnectedSocket {
  static lastFd = 100;
  readonly fd = ++FakeSocket.lastFd;
  /** The watcher has let go of it. */
  closed = false;
  constructor(readonly serverLife: number) {}
  close(): void {
    this.closed = true;
  }
}

/** The gateway: up or not, and what it answers. Every start is another life, which old connections do not reach. */
export class FakeNbdServer implements NbdDialer {
  up = true;
  life = 1;
  sizeBytes = 1 << 20;
  readOnly = false;
  multiConn = true;
  refusal: OptionError | undefined;
  /** Takes connections and never answers. */
  mute = false;
  /** In place of a proper answer. */
  answer: ((proper: Uint8Array) => Uint8Array) | undefined;
  dials = 0;
  /** NBD_OPT_INFO that were answered. */
  infos = 0;
  readonly sockets: FakeSocket[] = [];

  /** Those that were handed out and not closed by the watcher again. */
  openCount(): number {
    return this.sockets.filter(({ closed }) => !closed).length;
  }

  dial(signal: AbortSignal): Promise<DialedConnection> {
    this.dials += 1;
    if (!this.up || signal.aborted) {
      return Promise.reject(new GatewayError('gateway-unreachable', 'nobody answers'));
    }
    return Promise.resolve(this.#connection());
  }

  #connection(): DialedConnection {
    const socket = new FakeSocket(this.life);
    let bytes: Buffer = Buffer.from(this.mute ? new Uint8Array(0) : encodeGreeting());
    let closed: (() => void) | undefined;
    const ended = new Promise<never>((_, reject) => {
      closed = () => reject(new GatewayError('gateway-unreachable', 'the connection ended'));
    });
    ended.catch(() => undefined);
    return {
      secure: undefined,
      read: (lengthBytes) => {
        if (this.mute) return ended;
        if (bytes.length < lengthBytes) {
          return Promise.reject(new GatewayError('gateway-unreachable', 'the connection ended'));
        }
        const part = bytes.subarray(0, lengthBytes);
        bytes = bytes.subarray(lengthBytes);
        return Promise.resolve(part);
      },
      write: (sent) => {
        if (this.mute || sent.length < wireBytes.optionHeader) return;
        const type = readU32(sent, 8);
        bytes = Buffer.concat([bytes, this.#answer(type)]);
        if (type === option.info) this.infos += 1;
      },
      detach: () => {
        this.sockets.push(socket);
        return Promise.resolve(socket);
      },
      close: () => closed?.(),
    };
  }

  #answer(type: number): Uint8Array {
    const proper = Buffer.concat(type === option.abort ? [] : this.#answers(type));
    return this.answer?.(proper) ?? proper;
  }

  #answers(type: number): Uint8Array[] {
    if (this.refusal !== undefined) return [encodeOptionError(type, this.refusal, 'because')];
    const data = new Uint8Array(12);
    const { hasFlags, readOnly, sendFlush, canMultiConn } = transmissionFlag;
    writeU64(data, 2, this.sizeBytes);
    writeU16(data, 10, hasFlags | sendFlush | (this.readOnly ? readOnly : 0) | (this.multiConn ? canMultiConn : 0));
    const name = new Uint8Array(4);
    writeU32(name, 0, 0x0001_6161); // NBD_INFO_NAME, which nobody asked for
    return [
      encodeOptionReply(type, optionReply.info, name),
      encodeOptionReply(type, optionReply.info, data),
      encodeOptionReply(type, optionReply.ack),
    ];
  }
}

export class FakeNbdDevice implements NbdDevice {
  readonly name = 'nbd0';
  attached: { sockets: FakeSocket[]; sizeBytes: number; readOnly: boolean; backend: string | undefined } | undefined;
  patience: Patience | undefined;
  /** By position in attached.sockets. */
  dead = new Set<number>();
  /** Messages that are lost instead of sent. */
  loseMessages = 0;
  /** Where the kernel was given connections of more than one size. */
  readonly sizes: number[] = [];
  #callback: ((which: 'one' | 'all') => void) | undefined;

  constructor(readonly server: FakeNbdServer) {}

  /** As another program left it: with these connections, all alive. */
  attachedBefore(connections: number, backend: string | undefined): void {
    const { life, sizeBytes, readOnly } = this.server;
    const sockets = Array.from({ length: connections }, () => new FakeSocket(life));
    this.attached = { sockets, sizeBytes, readOnly, backend };
  }

  aliveCount(): number {
    return (this.attached?.sockets.length ?? 0) - this.dead.size;
  }

  /** The connection breaks, and the kernel says so. */
  kill(position: number): void {
    if (this.attached === undefined || this.dead.has(position)) return;
    this.dead.add(position);
    if (this.loseMessages > 0) this.loseMessages -= 1;
    else this.#callback?.('one');
  }

  /** Everything that led to a server that is no more. */
  killAll(): void {
    for (const position of this.attached?.sockets.keys() ?? []) this.kill(position);
  }

  messagesWereLost(): void {
    this.#callback?.('all');
  }

  isAttached(): Promise<boolean> {
    return Promise.resolve(this.attached !== undefined);
  }
  sizeBytes(): Promise<number> {
    return Promise.resolve(this.attached?.sizeBytes ?? 0);
  }
  isReadOnly(): Promise<boolean> {
    return Promise.resolve(this.attached?.readOnly ?? false);
  }
  connectionsMin(): Promise<number> {
    return Promise.resolve(1);
  }
  backend(): Promise<string | undefined> {
    return Promise.resolve(this.attached?.backend);
  }
  isInUse(): Promise<boolean> {
    return Promise.resolve(false);
  }

  attach({ sockets, sizeBytes, flags, backend, patience }: AttachSettings): Promise<void> {
    const readOnly = (flags & transmissionFlag.readOnly) !== 0;
    this.attached = { sockets: sockets.map((socket) => this.#take(socket)), sizeBytes, readOnly, backend };
    this.patience = patience;
    this.sizes.push(sizeBytes);
    return Promise.resolve();
  }

  setPatience(patience: Patience): Promise<void> {
    this.patience = patience;
    return Promise.resolve();
  }

  replaceDead(socket: ConnectedSocket): Promise<void> {
    if (this.attached === undefined) return Promise.reject(new GatewayError('gateway-unreachable', 'not attached'));
    const taken = this.#take(socket);
    const [position] = this.dead;
    if (position === undefined) return Promise.resolve();
    this.attached.sockets[position] = taken;
    this.dead.delete(position);
    // The server died since: the kernel finds out as soon as it reads.
    if (taken.serverLife !== this.server.life) this.kill(position);
    return Promise.resolve();
  }

  setSize(sizeBytes: number): Promise<void> {
    if (this.attached !== undefined) this.attached.sizeBytes = sizeBytes;
    this.sizes.push(sizeBytes);
    return Promise.resolve();
  }

  detach(): Promise<void> {
    this.attached = undefined;
    return Promise.resolve();
  }

  onDead(callback: (which: 'one' | 'all') => void): void {
    this.#callback = callback;
  }

  #take(socket: ConnectedSocket): FakeSocket {
    if (!(socket instanceof FakeSocket) || socket.closed) throw new Error('the kernel is given an open descriptor');
    return socket;
  }
}
