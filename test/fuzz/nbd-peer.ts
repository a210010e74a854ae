/** The client's end of a fuzzed connection: in memory, or of a socket, with TLS that is real. What comes goes to its judge. */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions } from 'node:tls';
import { GatewayError } from '../../src/base/errors.js';
import type { MemoryStream } from '../fake/memory-stream.js';
import type { MemorySecurity } from '../unit/frontends/nbd/session.js';
import type { NbdJudge } from './nbd-judge.js';

export interface Peer {
  readonly judge: NbdJudge;
  /** It reads nothing for now. */
  readonly stalled: boolean;
  /** Sends a piece. */
  send(bytes: Uint8Array): void;
  /** Hands over what came. */
  look(): void;
  stall(stalled: boolean): void;
  /** Sends no more. */
  end(): void;
  /** Is gone, whatever was under way. */
  destroy(): void;
  /** Begins TLS, where the server waits for it. */
  secure(user: string): Promise<void>;
}

export class MemoryPeer implements Peer {
  stalled = false;
  private ended = false;

  constructor(
    readonly judge: NbdJudge,
    private readonly stream: MemoryStream,
    private readonly security: MemorySecurity,
  ) {
    this.look();
  }

  send(bytes: Uint8Array): void {
    if (this.ended || this.stream.destroyed) return;
    this.judge.sent(bytes);
    this.stream.feed(bytes);
    this.look();
  }

  look(): void {
    this.judge.received(this.stream.output());
    if (this.stream.destroyed) this.judge.closed();
  }

  stall(stalled: boolean): void {
    this.stalled = stalled;
    if (stalled) this.stream.stalled = true;
    else this.stream.take();
    this.look();
  }

  end(): void {
    this.ended = true;
    // In the middle of TLS it is that which notices.
    const isSecuring = this.judge.securing && !this.stream.destroyed;
    this.judge.ended();
    if (isSecuring) this.security.fail(this.stream, 'the client left');
    else this.stream.feedEnd();
    this.look();
  }

  destroy(): void {
    this.ended = true;
    this.judge.abandoned();
    this.stream.destroy();
  }

  secure(user: string): Promise<void> {
    if (this.judge.readyForTls && !this.ended && !this.stream.destroyed) {
      if (user === 'mallory') {
        this.judge.tlsFailed();
        this.security.fail(this.stream, 'nobody knows mallory');
      } else {
        this.judge.securedAs(user);
        this.security.finish(this.stream, user);
      }
      this.look();
    }
    return Promise.resolve();
  }
}

/** What a client shows that is one of the users; undefined: it speaks no TLS at all. */
export type Credentials = (
  user: string,
) => { readonly options: ConnectionOptions; readonly isKnown: boolean } | undefined;

export class SocketPeer implements Peer {
  stalled = false;
  private ended = false;
  private socket: Socket;
  /** A judgement that was passed in an event, for whoever looks. */
  private failure: Error | undefined;

  constructor(
    readonly judge: NbdJudge,
    port: number,
    private readonly credentials: Credentials,
    private readonly changed: () => void,
  ) {
    this.socket = connect(port, '127.0.0.1');
    this.watch(this.socket);
  }

  send(bytes: Uint8Array): void {
    if (this.ended) return;
    this.judge.sent(bytes);
    this.socket.write(bytes);
  }

  look(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  stall(stalled: boolean): void {
    this.stalled = stalled;
    if (stalled) this.socket.pause();
    else this.socket.resume();
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.judge.ended();
    this.socket.end();
  }

  destroy(): void {
    this.ended = true;
    this.judge.abandoned();
    this.socket.destroy();
  }

  async secure(user: string): Promise<void> {
    if (!this.judge.readyForTls || this.ended || this.stalled) return;
    const shown = this.credentials(user);
    if (shown === undefined) {
      this.judge.tlsFailed();
      this.socket.write('this is no hello');
      return;
    }
    const below = this.socket;
    below.removeAllListeners('data');
    const socket = connectTls({ ...shown.options, socket: below });
    this.socket = socket;
    const isSecured = await new Promise<boolean>((resolve) => {
      socket.once('secureConnect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('close', () => resolve(false));
    });
    if (shown.isKnown && !isSecured) throw new GatewayError('tls-failed', `TLS with ${user} failed`);
    if (shown.isKnown) this.judge.securedAs(user);
    else this.judge.tlsFailed();
    this.watch(socket);
    // Closed before it was watched.
    if (socket.closed) this.judge.closed();
  }

  private watch(socket: Socket): void {
    const guard = (judge: () => void): void => {
      try {
        if (socket === this.socket) judge();
      } catch (error) {
        this.failure ??= error as Error;
        socket.destroy();
      }
      this.changed();
    };
    socket.on('data', (chunk: Buffer) => guard(() => this.judge.received(chunk)));
    socket.on('error', () => undefined); // A server that cuts a peer off resets the connection.
    socket.on('close', () => guard(() => this.judge.closed()));
  }
}
