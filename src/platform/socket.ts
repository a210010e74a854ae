/**
 * An accepted connection: the Stream port over a Node socket.
 *
 * The one place that knows how Node can read into a reused buffer. `net.createServer({ onread })` silently ignores the
 * option; only a socket made with `new net.Socket({ handle, onread })` honours it. So the listener accepts with
 * pauseOnConnect, the handle is taken out of Node's own socket, and that empty socket is destroyed at once (which also
 * keeps the server's count of connections right). test/unit/platform/socket.test.ts fails when Node changes any of it.
 *
 * All streams share one receive buffer: libuv asks for it right before read(2) and hands it over right after, on one
 * thread, so nothing can come between. Only bytes that a handler left over are copied, into a buffer of their own,
 * which lives until they are used up; reading stands still meanwhile.
 */
import { Socket } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { assert } from '../base/assert.js';
import { limits } from '../base/limits.js';
import type { PeerSilence, Stream, StreamHandler, StreamPeer } from '../ports/stream.js';
import { loadAddon } from './addon.js';
import type { BusyPoll } from './busy-poll.js';
import { Gathering } from './gathering.js';

/** What Node keeps inside a socket; private, hence only here. */
interface SocketInside {
  _handle: SocketHandle | null;
}

interface SocketHandle {
  /** -1 once it is closed. */
  readonly fd?: number;
}

interface OnReadOptions {
  readonly handle: SocketHandle;
  readonly allowHalfOpen: boolean;
  readonly pauseOnCreate: boolean;
  readonly onread: { readonly buffer: Uint8Array; readonly callback: (count: number) => boolean };
}

const SocketWithHandle = Socket as unknown as new (options: OnReadOptions) => Socket;

/** What is hung on it runs at the end of this turn, behind what was before. */
const settled = Promise.resolve();

/** Idle time after which the kernel asks whether the peer is still there (then every second, ten times). */
const KEEPALIVE_IDLE_MS = 5000;

export class NetStream implements Stream {
  readonly peer: StreamPeer;
  receivedBytes = 0;
  writtenBytes = 0;

  #socket: Socket;
  readonly #handle: SocketHandle;
  readonly #addon = loadAddon();
  /** Of the kernel's socket while bytes may be sent past Node's; else -1. */
  #descriptor: number;
  readonly #buffer: Buffer;
  readonly #poll: BusyPoll;
  readonly #gathering = new Gathering();
  /** Since the event loop handed something over. */
  #arrivals = 0;
  /** Why nothing more could be received, behind bytes that are to be handed over first; a negative errno, or 0. */
  #failure = 0;
  #handler: StreamHandler | undefined;
  /** What the handler left over: remainder[remainderStart…]. */
  #remainder: Uint8Array | undefined;
  #remainderStart = 0;
  /** The handler left bytes over and has not called resume since. */
  #held = false;
  #paused = false;
  #delivering = false;
  #resumed = false;
  #advanceScheduled = false;
  #peerEnded = false;
  #ending = false;
  #error: Error | undefined;
  #endTimer: NodeJS.Timeout | undefined;
  /** One entry per write that Node has not reported yet, in order; undefined where the buffer was free at once. */
  readonly #writes: ((() => void) | undefined)[] = [];

  /** Takes the connection out of `accepted`, as Node's server made it with pauseOnConnect. */
  constructor(accepted: Socket, peer: StreamPeer, buffer: Buffer, poll: BusyPoll) {
    this.#poll = poll;
    const inside = accepted as unknown as SocketInside;
    const handle = inside._handle;
    assert(typeof handle === 'object' && handle !== null, 'Node hands over an accepted socket with its handle');
    inside._handle = null;
    this.#descriptor = handle.fd ?? -1;
    accepted.destroy();
    this.peer = peer;
    this.#handle = handle;
    this.#buffer = buffer;
    this.#socket = new SocketWithHandle({
      handle,
      allowHalfOpen: true,
      pauseOnCreate: true,
      onread: { buffer, callback: (count) => this.#onRead(count) },
    });
    if (peer.kind === 'tcp') {
      this.#socket.setNoDelay(true);
      this.#socket.setKeepAlive(true, KEEPALIVE_IDLE_MS);
    }
    this.#watch(this.#socket);
  }

  /** A socket that another one has taken the place of has nothing to say any more. */
  #watch(socket: Socket): void {
    socket.on('end', () => {
      if (socket === this.#socket) this.#onEnd();
    });
    socket.on('error', (error) => {
      if (socket === this.#socket) this.#error = error;
    });
    socket.on('close', () => {
      if (socket === this.#socket) this.#onClose();
    });
  }

  /** Begins to read; once. */
  start(handler: StreamHandler): void {
    assert(this.#handler === undefined, 'a stream is started once');
    this.#handler = handler;
    if (!this.#paused) this.#socket.resume();
  }

  /**
   * Stops reading, and hands out the socket once the kernel has everything that was written; never where it was closed
   * before. Until `replaceSocket` nothing may be written; closing goes on as ever.
   */
  takeSocket(ready: (socket: Socket) => void): void {
    this.#paused = true;
    this.#socket.pause();
    const proceed = (): void => {
      if (!this.#socket.destroyed) ready(this.#socket);
    };
    // After the call of the handler that asks for it, and after the reports of what was written.
    if (this.#socket.writableLength === 0) setImmediate(proceed);
    else this.#socket.once('drain', () => setImmediate(proceed));
  }

  /** Goes on with a socket that was laid over the one of `takeSocket`. It is read by way of `data`, with copies. */
  replaceSocket(socket: Socket): void {
    this.#descriptor = -1;
    this.#socket = socket;
    this.#watch(socket);
    this.#paused = false;
    socket.on('data', (chunk: Buffer) => {
      if (!this.#take(chunk, chunk.length)) socket.pause();
    });
  }

  get pendingBytes(): number {
    return this.#socket.writableLength;
  }

  get destroyed(): boolean {
    return this.#socket.destroyed;
  }

  write(bytes: Uint8Array, start: number, end: number, released: () => void): boolean {
    if (this.#socket.destroyed || this.#ending) return true;
    this.writtenBytes += end - start;
    const rest = start + this.#sendNow(bytes, start, end);
    if (rest === end) return true;
    const chunk = Buffer.from(bytes.buffer, bytes.byteOffset + rest, end - rest);
    this.#socket.write(chunk, this.#onWritten);
    const taken = this.#socket.writableLength === 0;
    this.#writes.push(taken ? undefined : released);
    return taken;
  }

  /** What the kernel takes at once need not go through Node's queues. Whatever is wrong comes out when Node writes the rest. */
  #sendNow(bytes: Uint8Array, start: number, end: number): number {
    if (this.#descriptor < 0 || this.#socket.writableLength > 0) return 0;
    return Math.max(0, this.#addon.sendNow(this.#descriptor, bytes, start, end));
  }

  pause(): void {
    this.#paused = true;
    if (!this.#delivering) this.#socket.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#held = false;
    this.#resumed = true;
    if (!this.#delivering) this.#schedule();
  }

  silence(): PeerSilence | undefined {
    const { fd = -1 } = this.#handle;
    if (this.peer.kind !== 'tcp' || fd < 0) return undefined;
    const unanswered = this.#addon.tcpUnanswered(fd);
    const silentMs = this.#addon.tcpSilentMs(fd);
    return unanswered < 0 || silentMs < 0 ? undefined : { unanswered, silentMs };
  }

  peerHasLeft(): boolean {
    const { fd = -1 } = this.#handle;
    return this.#peerEnded || fd < 0 || this.#addon.peerHasLeft(fd) === 1;
  }

  end(): void {
    if (this.#ending || this.#socket.destroyed) return;
    this.#ending = true;
    this.#remainder = undefined;
    this.#endTimer = setTimeout(() => this.#socket.destroy(), limits.lingerMsMax);
    this.#endTimer.unref();
    // Closing while bytes of the peer lie unread makes the kernel reset the connection, and the peer may lose replies
    // that are under way: send the end, then read and drop until the peer closes too.
    this.#socket.once('finish', () => {
      if (this.#peerEnded) this.#socket.destroy();
    });
    this.#socket.end();
    this.#socket.resume();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  readonly #onWritten = (): void => {
    this.#writes.shift()?.();
  };

  /** Node's callback for buffer[0, count); false stops reading until socket.resume. */
  #onRead(count: number): boolean {
    this.#arrivals = 0;
    return this.#receive(count);
  }

  /** Hands over buffer[0, count), and what is gathered behind it; false: read no further until socket.resume. */
  #receive(count: number): boolean {
    const arrived = this.#gather(count);
    this.#arrivals += this.#gathering.arrivals;
    const { writtenBytes } = this;
    const goesOn = this.#take(this.#buffer, arrived);
    if (this.#failure < 0) {
      this.#break(this.#failure);
      return true;
    }
    const answered = this.writtenBytes > writtenBytes;
    const small = arrived <= this.#gathering.arrivals * limits.singleRequestBytesMax;
    if (answered && goesOn && small && this.#arrivals < limits.arrivalsAwakeMax) void settled.then(this.#stayAwake);
    return goesOn;
  }

  /** Behind what else was left to the end of this turn, such as to begin the sync that a flush waits for. */
  readonly #stayAwake = (): void => {
    const received = this.#receiveSoon();
    if (received > 0 && !this.#receive(received)) this.#socket.pause();
  };

  /** Behind the `received` bytes of one arrival, what else the peer is sending. Returns how many bytes there are. */
  #gather(received: number): number {
    let arrived = received;
    this.#gathering.begin();
    while (this.#gathering.wantsMore && arrived < limits.gatheredBytesMax && this.#descriptor >= 0) {
      const more = this.#addon.receiveSoon(this.#descriptor, this.#buffer, arrived, limits.gatherQuietUs);
      if (more < 0) this.#failure = more;
      if (more <= 0) break;
      arrived += more;
      this.#gathering.arrived();
    }
    this.#gathering.end();
    return arrived;
  }

  /** What follows closely on what was just answered; 0: nothing does, or it is the loop's to read. */
  #receiveSoon(): number {
    const awakeUs = this.#poll.answered();
    if (awakeUs === 0 || this.#descriptor < 0 || this.#isStopped()) return 0;
    const received = this.#addon.receiveSoon(this.#descriptor, this.#buffer, 0, awakeUs);
    if (received < 0) this.#break(received);
    return received;
  }

  /** The kernel says what is wrong once, and to whom asks first; from then on the connection looks as if the peer had ended it. */
  #break(failure: number): void {
    this.#socket.destroy(new Error(`read ${getSystemErrorName(failure)}`));
  }

  /** bytes[0, count) has arrived; false: read no further until socket.resume. */
  #take(bytes: Uint8Array, count: number): boolean {
    this.receivedBytes += count;
    if (this.#ending) return true;
    const used = this.#deliver(bytes, 0, count);
    if (used < count && !this.#socket.destroyed && !this.#isEnding()) {
      this.#remainder = Uint8Array.prototype.slice.call(bytes, used, count);
      this.#remainderStart = 0;
      this.#hold();
      return false;
    }
    return !this.#paused;
  }

  /** Behind a call, because TypeScript believes that no call changes what was just tested. */
  #isEnding(): boolean {
    return this.#ending;
  }

  #deliver(bytes: Uint8Array, start: number, end: number): number {
    const handler = this.#handler;
    assert(handler !== undefined, 'nothing is read before the stream was started');
    this.#delivering = true;
    this.#resumed = false;
    const used = handler.received(bytes, start, end);
    this.#delivering = false;
    assert(used >= 0 && used <= end - start, 'a handler uses up at most what it was given');
    return used;
  }

  /** Bytes are left over: wait for resume, unless the handler called it in the same breath. */
  #hold(): void {
    if (this.#resumed) this.#schedule();
    else this.#held = true;
  }

  #schedule(): void {
    if (this.#advanceScheduled || this.#handler === undefined) return;
    this.#advanceScheduled = true;
    // After the other sockets that are ready: a peer whose requests never end must not keep the loop for itself.
    setImmediate(() => {
      this.#advanceScheduled = false;
      this.#advance();
    });
  }

  /** Hands over what is left, then reads on. */
  #advance(): void {
    if (this.#paused || this.#held || this.#ending || this.#socket.destroyed) return;
    const remainder = this.#remainder;
    if (remainder !== undefined) {
      this.#remainderStart += this.#deliver(remainder, this.#remainderStart, remainder.length);
      if (this.#remainderStart < remainder.length) {
        this.#hold();
        return;
      }
      this.#remainder = undefined;
      if (this.#peerEnded) this.#handler?.ended();
      if (this.#isStopped()) return;
    }
    this.#socket.resume();
  }

  /** What a handler may have asked for while it was called. */
  #isStopped(): boolean {
    return this.#paused || this.#ending || this.#socket.destroyed;
  }

  #onEnd(): void {
    this.#peerEnded = true;
    if (this.#ending) {
      if (this.#socket.writableFinished) this.#socket.destroy();
      return;
    }
    // Laid over another socket, this one may say so while the handler has not used up what came before.
    if (this.#remainder === undefined) this.#handler?.ended();
  }

  #onClose(): void {
    clearTimeout(this.#endTimer);
    this.#remainder = undefined;
    this.#handler?.closed(this.#error);
  }
}
