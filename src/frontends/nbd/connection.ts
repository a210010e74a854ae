/**
 * One NBD connection: its stream, its handshake and then its transmission phase, its hold on a volume, its end.
 *
 * However it ends, `#close` runs once: the transmission is closed first (nothing of it reaches the device any more),
 * then the attachment is released, so that the next holder of the volume never meets a write of this one.
 */
import { assert } from '../../base/assert.js';
import { GatewayError, ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Clock, Timer } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { SecuredPeer, Stream, StreamHandler, StreamSecurity } from '../../ports/stream.js';
import type {
  Attachment,
  ClientIdentity,
  ServedVolume,
  SessionControl,
  VolumeDirectory,
} from '../../ports/volume-directory.js';
import { refusalOf } from './admission.js';
import type { TlsMode } from './admission.js';
import { Handshake } from './handshake.js';
import type { HandshakeHost } from './handshake.js';
import type { Negotiated } from './negotiated.js';
import type { ReplyBufferPool } from './reply-buffer.js';
import { isPeerThere } from './peer-watch.js';
import { Transmission } from './transmission.js';

/** What a connection needs of its server. */
export interface ConnectionHost {
  readonly directory: VolumeDirectory;
  readonly clock: Clock;
  readonly log: Log;
  readonly pool: ReplyBufferPool;
  readonly tls: TlsMode;
  /** There where TLS is not off. */
  readonly security: StreamSecurity | undefined;
  /** Bytes of replies that one connection may hold now. */
  replyBudgetBytes(): number;
  /** Takes the volume for a client within the limits of the server. */
  attach(volume: ServedVolume, client: ClientIdentity, control: SessionControl): Promise<Attachment>;
  loggedIn(): void;
  rejected(reason: string): void;
  closed(connection: NbdConnection): void;
}

export class NbdConnection implements StreamHandler, HandshakeHost, SessionControl {
  readonly id: number;
  readonly tls: TlsMode;
  client: ClientIdentity;
  readonly startedMs: number;
  readonly #host: ConnectionHost;
  readonly #stream: Stream;
  #log: Log;
  #handshake: Handshake;
  #secured: SecuredPeer | undefined;
  #handshakeTimer: Timer | undefined;
  #handshakeEndsMs: number;
  #transmission: Transmission | undefined;
  #volume: ServedVolume | undefined;
  #attachment: Attachment | undefined;
  #closed = false;

  constructor(host: ConnectionHost, stream: Stream, id: number) {
    this.id = id;
    this.#host = host;
    this.#stream = stream;
    this.tls = host.tls;
    this.client = identify(stream, undefined);
    this.startedMs = host.clock.wallMs();
    this.#log = this.#createLog();
    this.#handshake = new Handshake(this);
    this.#handshakeEndsMs = host.clock.nowMs() + limits.handshakeMsMax;
    this.#startHandshakeTimer();
  }

  get directory(): VolumeDirectory {
    return this.#host.directory;
  }

  /** The name of the volume that it has attached. */
  get volume(): string | undefined {
    return this.#attachment === undefined ? undefined : this.#volume?.device.name;
  }

  get secured(): boolean {
    return this.#secured !== undefined;
  }

  get pendingBytes(): number {
    return this.#stream.pendingBytes;
  }

  get inHandshake(): boolean {
    return this.#transmission === undefined;
  }

  get requests(): number {
    return this.#transmission?.requests ?? 0;
  }

  get inflight(): number {
    return this.#transmission?.inflight ?? 0;
  }

  get receivedBytes(): number {
    return this.#stream.receivedBytes;
  }

  get writtenBytes(): number {
    return this.#stream.writtenBytes;
  }

  received(buffer: Uint8Array, start: number, end: number): number {
    if (this.#closed) return end - start;
    try {
      return (this.#transmission ?? this.#handshake).received(buffer, start, end);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      if (this.inHandshake) this.rejected(new GatewayError('invalid-request', error.message));
      this.#abort(error.message);
      return end - start;
    }
  }

  /** The client closed its side, with DISC before or without. */
  ended(): void {
    if (this.#transmission === undefined) this.#abort('the client left during the handshake');
    else this.#transmission.finish();
  }

  closed(error: Error | undefined): void {
    this.#close(error === undefined ? 'closed' : error.message);
    this.#host.closed(this);
  }

  send(bytes: Uint8Array): void {
    this.#stream.write(bytes, 0, bytes.length, () => undefined);
  }

  refusal(volume: ServedVolume): GatewayError | undefined {
    return refusalOf(volume, this.#secured);
  }

  secure(clientFlags: number): void {
    const { security } = this.#host;
    assert(security !== undefined, 'STARTTLS is refused where TLS is off');
    security.secure(this.#stream, (outcome) => {
      if (this.#closed) return;
      if (outcome instanceof GatewayError) {
        this.rejected(outcome);
        this.#abort(outcome.message);
        return;
      }
      this.#secured = outcome;
      this.client = identify(this.#stream, outcome);
      this.#log = this.#createLog();
      this.#log.debug('over TLS', { cipher: outcome.cipher });
      this.#handshake = new Handshake(this, clientFlags);
    });
  }

  async attach(volume: ServedVolume): Promise<void> {
    // An attach may probe and evict a dead holder first: that time is not the client's.
    this.#handshakeTimer?.cancel();
    const startedMs = this.#host.clock.nowMs();
    this.#volume = volume;
    try {
      const attachment = await this.#host.attach(volume, this.client, this);
      if (this.#closed) attachment.release();
      else this.#attachment = attachment;
    } finally {
      if (this.#attachment === undefined && !this.#closed) {
        this.#handshakeEndsMs += this.#host.clock.nowMs() - startedMs;
        this.#startHandshakeTimer();
        this.#stream.resume();
      }
    }
  }

  transmit(volume: ServedVolume, negotiated: Negotiated): void {
    if (this.#closed) return;
    this.#transmission = new Transmission({
      stream: this.#stream,
      device: volume.device,
      access: volume.reservations.unregistered,
      form: negotiated.form,
      contexts: negotiated.contextsFor(volume.device.name),
      stats: volume.nbd.stats,
      clock: this.#host.clock,
      pool: this.#host.pool,
      replyBudgetBytes: () => this.#host.replyBudgetBytes(),
      fail: (reason) => this.#abort(reason),
    });
    this.#host.loggedIn();
    this.#log.info('attached', { volume: volume.device.name });
    this.#stream.resume();
  }

  end(reason: string): void {
    this.#log.info('handshake ended', { reason });
    this.#handshakeTimer?.cancel();
    this.#stream.end();
  }

  rejected(error: GatewayError): void {
    this.#host.rejected(error.code);
    this.#log.warn('a client was refused', { code: error.code, reason: error.message });
  }

  async probe(): Promise<boolean> {
    return !this.#closed && (await isPeerThere(this.#stream, this.#host.clock)) && !this.isClosed;
  }

  peerHasLeft(): boolean {
    return this.#stream.peerHasLeft();
  }

  private get isClosed(): boolean {
    return this.#closed;
  }

  evict(reason: string): void {
    this.#abort(reason);
  }

  /** The gateway stops: what is in flight is answered, then the stream ends. */
  finish(): void {
    if (this.#transmission === undefined) this.#abort('the gateway stops');
    else this.#transmission.finish();
  }

  /** Ends at once. */
  abort(reason: string): void {
    this.#abort(reason);
  }

  #createLog(): Log {
    return this.#host.log.child('nbd', { connection: this.id, client: this.client.description });
  }

  #startHandshakeTimer(): void {
    const leftMs = Math.max(0, this.#handshakeEndsMs - this.#host.clock.nowMs());
    this.#handshakeTimer = this.#host.clock.after(leftMs, () => {
      this.rejected(new GatewayError('handshake-timeout', 'the handshake took too long'));
      this.#abort('the handshake took too long');
    });
  }

  #abort(reason: string): void {
    this.#close(reason);
    this.#stream.destroy();
  }

  #close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handshakeTimer?.cancel();
    this.#handshake.close();
    this.#transmission?.close();
    this.#attachment?.release();
    this.#attachment = undefined;
    this.#log.info('connection closed', { reason, volume: this.#volume?.device.name });
  }
}

/** "A client is: its TLS identity, else its peer address, else its Unix uid". */
function identify({ peer }: Stream, secured: SecuredPeer | undefined): ClientIdentity {
  const where = peer.kind === 'tcp' ? peer.address : `unix:${peer.path}`;
  // Where the kernel does not say who it is, everyone who may open the socket is one client.
  const local = peer.kind === 'unix' && peer.userId !== undefined ? `uid ${peer.userId}` : where;
  if (secured?.user === undefined) {
    const description = local === where ? `nbd ${where}` : `nbd ${local} at ${where}`;
    return { frontend: 'nbd', key: `nbd:${local}`, description };
  }
  const user = JSON.stringify(secured.user);
  return { frontend: 'nbd', key: `nbd:tls:${user}`, description: `nbd ${user} at ${where}` };
}
