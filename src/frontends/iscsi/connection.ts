/**
 * One connection: framing, its login phase, then a session. Ends the connection, and nothing else, when the peer breaks
 * the protocol or does not finish its login in time.
 */
import { assert } from '../../base/assert.js';
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Checksums } from '../../ports/checksum.js';
import type { Clock, Timer } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { Stream, StreamHandler } from '../../ports/stream.js';
import type { FullFeature } from './full-feature.js';
import { Login } from './login.js';
import type { LoginOptions } from './login.js';
import { LoginPhase } from './login-phase.js';
import type { LoginPhaseHost } from './login-phase.js';
import type { PduBufferPool, Sender } from './pdu-buffer.js';
import { PduReader } from './pdu-reader.js';
import { PduWriter } from './pdu-writer.js';
import type { Sequence } from './sequence.js';
import type { LoginStatus } from './wire.js';

export interface ConnectionOptions {
  readonly id: number;
  readonly stream: Stream;
  readonly pool: PduBufferPool;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly log: Log;
  readonly login: LoginOptions;
  readonly host: ConnectionHost;
}

export interface ConnectionHost {
  /** A login is complete: makes or joins its session, after ending what it replaces; or says why it cannot. */
  admit(admitted: AdmittedLogin): FullFeature | { readonly status: LoginStatus; readonly reason: string };
  refused(login: Login, status: LoginStatus, reason: string): void;
  closed(connection: Connection): void;
}

export interface AdmittedLogin {
  readonly login: Login;
  readonly sequence: Sequence;
  readonly writer: PduWriter;
  readonly stream: Stream;
  /** Ends the connection after what was gathered is sent. */
  readonly end: () => void;
  readonly destroy: () => void;
  /** Ends the connection, with a line in the log. */
  readonly cutOff: (reason: string) => void;
}

export class Connection implements StreamHandler, Sender, LoginPhaseHost {
  readonly #options: ConnectionOptions;
  readonly #stream: Stream;
  readonly #reader: PduReader;
  readonly #writer: PduWriter;
  readonly #login: Login;
  readonly #timer: Timer;
  #fullFeature: FullFeature | undefined;
  /** The reader left bytes over. */
  #held = false;
  /** Milliseconds since 1970. */
  readonly startedMs: number;

  constructor(options: ConnectionOptions) {
    const { checksums, stream, pool } = options;
    this.#options = options;
    this.#stream = stream;
    this.startedMs = options.clock.wallMs();
    this.#login = new Login(options.login);
    this.#writer = new PduWriter({ stream, pool, sender: this, checksums });
    const sink = new LoginPhase({ login: this.#login, writer: this.#writer, host: this });
    this.#reader = new PduReader({ checksums, sink, dataBytesMax: limits.iscsiTextBytesMax });
    this.#timer = options.clock.after(limits.handshakeMsMax, () => this.cutOff('the login took too long'));
  }

  get id(): number {
    return this.#options.id;
  }

  get receivedBytes(): number {
    return this.#stream.receivedBytes;
  }

  get writtenBytes(): number {
    return this.#stream.writtenBytes;
  }

  /** undefined in the login phase. */
  get fullFeature(): FullFeature | undefined {
    return this.#fullFeature;
  }

  /** Ends the connection after what was gathered is sent. */
  end(): void {
    this.#reader.stopped = true;
    this.#timer.cancel();
    this.#writer.flush();
    this.#fullFeature?.close();
    this.#stream.end();
  }

  destroy(): void {
    this.#reader.stopped = true;
    this.#timer.cancel();
    this.#fullFeature?.close();
    this.#stream.destroy();
  }

  /** Asks the initiator to log out, and ends soon. */
  finish(): void {
    if (this.#fullFeature === undefined) this.end();
    else this.#fullFeature.finish();
  }

  /** Ends the connection for a reason that is worth a line in the log. */
  cutOff(reason: string): void {
    const { peer } = this.#stream;
    const from = peer.kind === 'tcp' ? peer.address : peer.path;
    this.#options.log.warn('a connection was cut off', { from, reason });
    this.end();
  }

  // StreamHandler

  received(buffer: Uint8Array, start: number, end: number): number {
    this.#fullFeature?.wakesUp();
    let used = end - start;
    try {
      used = this.#reader.receive(buffer, start, end);
      this.#held = used < end - start;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#settle();
      this.cutOff(error.message);
    }
    this.#settle();
    return used;
  }

  ended(): void {
    // An initiator that sends no more wants nothing more; what it was owed by now has been sent.
    this.end();
  }

  closed(error: Error | undefined): void {
    this.#reader.stopped = true;
    this.#timer.cancel();
    this.#fullFeature?.close();
    this.#writer.discard();
    if (error !== undefined) this.#options.log.debug('a connection broke', { error: error.message });
    this.#options.host.closed(this);
  }

  // Sender

  progressed(): void {
    this.#fullFeature?.progressed();
    if (!this.#held || this.#writer.overloaded) return;
    this.#held = false;
    this.#stream.resume();
  }

  // LoginPhaseHost

  complete(sequence: Sequence): { readonly tsih: number } | { readonly status: LoginStatus; readonly reason: string } {
    const admitted = this.#options.host.admit({
      login: this.#login,
      sequence,
      writer: this.#writer,
      stream: this.#stream,
      end: () => this.end(),
      destroy: () => this.destroy(),
      cutOff: (reason) => this.cutOff(reason),
    });
    if ('status' in admitted) return admitted;
    this.#fullFeature = admitted;
    return { tsih: admitted.session.identity.tsih };
  }

  begin(): void {
    const fullFeature = this.#fullFeature;
    assert(fullFeature !== undefined, 'a session is made before it begins');
    const { headerDigest, dataDigest } = this.#login.parameters;
    this.#timer.cancel();
    this.#reader.headerDigest = headerDigest;
    this.#reader.dataDigest = dataDigest;
    this.#writer.headerDigest = headerDigest;
    this.#writer.dataDigest = dataDigest;
    this.#reader.dataBytesMax = limits.iscsiDataSegmentBytesMax;
    this.#reader.sink = fullFeature;
    fullFeature.wakesUp();
  }

  refused(status: LoginStatus, reason: string): void {
    this.#options.host.refused(this.#login, status, reason);
    this.end();
  }

  #settle(): void {
    if (this.#fullFeature === undefined) this.#writer.flush();
    else this.#fullFeature.settle();
  }
}
