/**
 * Connections to an NBD server that a kernel is to have: dialed and negotiated through Node, then taken away from it.
 * Node must not read a byte after that, so it closes its own descriptor before the kernel gets the copy.
 *
 * A connection is kept alive every few seconds, so that a gateway whose machine vanished is noticed while nothing is
 * under way to it. TCP_USER_TIMEOUT is left alone on purpose: it also ends the connection to a gateway that only does not
 * read for a while, because it throttles writes.
 */
import { closeSync } from 'node:fs';
import { createConnection } from 'node:net';
import type { Socket } from 'node:net';
import { GatewayError } from '../base/errors.js';
import type { ConnectedSocket, DialedConnection, NbdDialer } from '../ports/nbd-device.js';
import type { ListenAddress } from '../ports/stream.js';
import { loadAddon } from './addon.js';
import { installKernelTls } from './kernel-tls.js';
import { NbdTls } from './nbd-tls.js';
import type { NbdTlsCredentials } from './nbd-tls.js';
import { descriptorOf } from './socket-descriptor.js';

/** Idle time after which the kernel asks whether the server's machine is still there (then every second, ten times). */
const KEEPALIVE_IDLE_MS = 5000;

export interface DialerTls {
  /** Asked anew for each connection: certificates are replaced now and then. */
  readonly credentials: () => Promise<NbdTlsCredentials>;
  /** For a test, in place of the kernel. */
  readonly install?: typeof installKernelTls;
}

export class SystemNbdDialer implements NbdDialer {
  readonly #address: ListenAddress;
  readonly #tls: DialerTls | undefined;

  /** `tls`: connections are encrypted, by the kernel once it has them. */
  constructor(address: ListenAddress, tls?: DialerTls) {
    this.#address = address;
    this.#tls = tls;
  }

  dial(signal: AbortSignal): Promise<DialedConnection> {
    const address = this.#address;
    const shown = address.kind === 'unix' ? address.path : `${address.host} port ${address.port}`;
    return new Promise((resolve, reject) => {
      const socket =
        address.kind === 'unix' ? createConnection(address.path) : createConnection(address.port, address.host);
      const refuse = (reason: string): void => {
        signal.removeEventListener('abort', giveUp);
        socket.destroy();
        reject(new GatewayError('gateway-unreachable', `nobody answers at ${shown}: ${reason}`));
      };
      const giveUp = (): void => refuse('no answer in time');
      const onError = (error: Error): void => refuse(error.message);
      socket.once('error', onError);
      socket.once('connect', () => {
        signal.removeEventListener('abort', giveUp);
        socket.off('error', onError);
        if (address.kind === 'tcp') {
          socket.setNoDelay(true);
          socket.setKeepAlive(true, KEEPALIVE_IDLE_MS);
        }
        resolve(new NodeConnection(socket, this.#tls));
      });
      signal.addEventListener('abort', giveUp, { once: true });
      if (signal.aborted) giveUp();
    });
  }
}

class NodeConnection implements DialedConnection {
  readonly secure: (() => Promise<void>) | undefined;
  readonly #socket: Socket;
  /** What is read and written: the socket, or TLS over it. */
  #top: Socket;
  #tls: NbdTls | undefined;
  readonly #install: typeof installKernelTls;
  #ended: Error | undefined;
  /** A read that waits. */
  #rouse: (() => void) | undefined;

  constructor(socket: Socket, tls: DialerTls | undefined) {
    this.#socket = this.#top = socket;
    this.#install = tls?.install ?? installKernelTls;
    this.#watch(socket);
    this.secure = tls && (async () => this.#secure(await tls.credentials()));
  }

  #watch(socket: Socket): void {
    socket.on('readable', () => this.#rouse?.());
    socket.on('end', () => this.#end(new Error('it closed the connection')));
    socket.on('error', (error) => this.#end(error));
    socket.on('close', () => this.#end(new Error('the connection is closed')));
  }

  async #secure(credentials: NbdTlsCredentials): Promise<void> {
    const below = this.#socket;
    if (this.#ended !== undefined || below.readableLength > 0)
      throw new GatewayError('gateway-unreachable', 'the server sent more than it was asked for');
    below.removeAllListeners('readable');
    this.#tls = await NbdTls.over(below, credentials);
    this.#top = this.#tls.socket;
    this.#watch(this.#top);
  }

  async read(lengthBytes: number): Promise<Uint8Array> {
    for (;;) {
      const bytes = this.#top.read(lengthBytes) as Buffer | null;
      // At its end a stream hands out what is left, which may be less.
      if (bytes?.length === lengthBytes) return bytes;
      if (this.#ended !== undefined || bytes !== null) {
        const reason = this.#ended?.message ?? 'it closed the connection';
        throw new GatewayError('gateway-unreachable', `the gateway did not finish the negotiation: ${reason}`);
      }
      await new Promise<void>((resolve) => (this.#rouse = resolve));
      this.#rouse = undefined;
    }
  }

  write(bytes: Uint8Array): void {
    this.#top.write(bytes);
  }

  async detach(): Promise<ConnectedSocket> {
    const socket = this.#socket;
    const own = descriptorOf(socket);
    if (this.#ended !== undefined || own === undefined) {
      throw new GatewayError('gateway-unreachable', 'the gateway ended the connection');
    }
    if (socket.readableLength > 0 || socket.writableLength > 0) {
      throw new GatewayError('gateway-unreachable', 'the server sent more than the negotiation');
    }
    const keys = this.#tls?.release();
    const fd = loadAddon().duplicateDescriptor(own);
    if (fd < 0) throw new GatewayError('gateway-unreachable', `no descriptor: ${loadAddon().errorText(-fd)}`);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    this.#tls?.socket.destroy();
    socket.destroy();
    await closed;
    let open = true;
    const close = (): void => {
      if (open) closeSync(fd);
      open = false;
    };
    try {
      if (keys !== undefined) this.#install(fd, keys.transmit, keys.receive);
    } catch (error) {
      close();
      throw error;
    }
    return { fd, close };
  }

  close(): void {
    this.#tls?.socket.destroy();
    this.#socket.destroy();
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#rouse?.();
  }
}
