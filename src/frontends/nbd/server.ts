/**
 * The NBD server: listeners, connections and their limits, and what the API and the metrics show of them.
 *
 * Memory: replies under construction and replies that peers have not taken are bounded by nbdReplyBytesMax in all,
 * shared out evenly among the connections; one receive buffer serves all of them (ports/stream.ts).
 */
import { assert } from '../../base/assert.js';
import { GatewayError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Clock } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type {
  InheritedSocket,
  ListenAddress,
  Listener,
  Stream,
  StreamFactory,
  StreamHandler,
  StreamSecurity,
} from '../../ports/stream.js';
import type {
  Attachment,
  ClientIdentity,
  ServedVolume,
  SessionControl,
  VolumeDirectory,
} from '../../ports/volume-directory.js';
import type { TlsMode } from './admission.js';
import { NbdConnection } from './connection.js';
import type { ConnectionHost } from './connection.js';
import { ReplyBufferPool } from './reply-buffer.js';

export interface NbdServerOptions {
  readonly directory: VolumeDirectory;
  readonly streams: StreamFactory;
  readonly clock: Clock;
  readonly log: Log;
  /** Default: off. */
  readonly tls?: TlsMode;
}

/** One connection, as `keepgate status` and /v1/sessions show it. */
export interface NbdConnectionInfo {
  readonly id: number;
  readonly client: ClientIdentity;
  /** undefined during the handshake. */
  readonly volume: string | undefined;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly requests: number;
  readonly inflight: number;
  readonly receivedBytes: number;
  readonly writtenBytes: number;
}

export class NbdServer implements ConnectionHost {
  readonly directory: VolumeDirectory;
  readonly clock: Clock;
  readonly log: Log;
  readonly tls: TlsMode;
  readonly pool = new ReplyBufferPool();
  /** Of STARTTLS from now on; there before `listen` where TLS is not off. */
  security: StreamSecurity | undefined;
  /** Connections that entered the transmission phase, since the start. */
  logins = 0;
  /** Refused exports and connections by reason (an error code), since the start. */
  readonly rejections = new Map<string, number>();

  readonly #streams: StreamFactory;
  readonly #listeners: Listener[] = [];
  readonly #connections = new Set<NbdConnection>();
  #nextId = 1;
  #closing = false;
  #onLastClosed: (() => void) | undefined;

  constructor(options: NbdServerOptions) {
    this.directory = options.directory;
    this.clock = options.clock;
    this.log = options.log;
    this.tls = options.tls ?? 'off';
    this.#streams = options.streams;
  }

  /** Rejects with listen-refused, or as `check` throws; listeners that were opened before stay until `close`. */
  async listen(
    addresses: readonly (ListenAddress | InheritedSocket)[],
    check: (bound: ListenAddress) => void = () => undefined,
  ): Promise<readonly ListenAddress[]> {
    assert(this.tls === 'off' || this.security !== undefined, 'TLS has certificates or keys before anybody connects');
    for (const address of addresses) {
      const listener = await this.#streams.listen({
        address,
        setting: 'nbd.listen',
        check,
        accept: (stream) => this.#accept(stream),
      });
      this.#listeners.push(listener);
    }
    return this.addresses;
  }

  /** Where it listens, with the ports that the system chose. */
  get addresses(): readonly ListenAddress[] {
    return this.#listeners.map((listener) => listener.address);
  }

  get connections(): readonly NbdConnectionInfo[] {
    return Array.from(this.#connections, (connection) => ({
      id: connection.id,
      client: connection.client,
      volume: connection.volume,
      startedMs: connection.startedMs,
      requests: connection.requests,
      inflight: connection.inflight,
      receivedBytes: connection.receivedBytes,
      writtenBytes: connection.writtenBytes,
    }));
  }

  /** Ends a connection; false when there is none with that id. */
  disconnect(id: number, reason: string): boolean {
    for (const connection of this.#connections) {
      if (connection.id !== id) continue;
      connection.abort(reason);
      return true;
    }
    return false;
  }

  /** Stops accepting, lets what is in flight be answered, then closes; cuts off what takes longer than half the stop's time. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()));
    const allClosed = new Promise<void>((resolve) => (this.#onLastClosed = resolve));
    for (const connection of [...this.#connections]) connection.finish();
    const timer = this.clock.after(limits.shutdownMsMax / 2, () => {
      for (const connection of [...this.#connections]) connection.abort('the gateway stops');
    });
    if (this.#connections.size > 0) await allClosed;
    timer.cancel();
  }

  replyBudgetBytes(): number {
    const share = limits.nbdReplyBytesMax / Math.max(1, this.#connections.size);
    return Math.max(limits.nbdReplyBytesPerConnectionMin, Math.min(limits.nbdReplyBytesPerConnectionMax, share));
  }

  attach(volume: ServedVolume, client: ClientIdentity, control: SessionControl): Promise<Attachment> {
    const { name } = volume.device;
    let attached = 0;
    for (const connection of this.#connections) if (connection.volume === name) attached++;
    if (attached >= limits.connectionsPerVolumeMax) {
      const message = `${name} has ${attached} NBD connections, the most that a volume may have`;
      return Promise.reject(new GatewayError('session-limit', message));
    }
    return volume.attach(client, control);
  }

  loggedIn(): void {
    this.logins++;
  }

  rejected(reason: string): void {
    this.rejections.set(reason, (this.rejections.get(reason) ?? 0) + 1);
  }

  closed(connection: NbdConnection): void {
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#onLastClosed?.();
  }

  #accept(stream: Stream): StreamHandler | undefined {
    if (this.#closing) return undefined;
    if (this.#connections.size >= limits.connectionsMax && !this.#dropOldestHandshake()) {
      this.rejected('session-limit');
      return undefined;
    }
    const connection = new NbdConnection(this, stream, this.#nextId++);
    this.#connections.add(connection);
    return connection;
  }

  /** Connections that never finish their handshake must not keep clients out until they time out. */
  #dropOldestHandshake(): boolean {
    for (const connection of this.#connections) {
      if (!connection.inHandshake) continue;
      this.rejected('session-limit');
      connection.abort('too many connections: the oldest unfinished handshake gives way');
      this.#connections.delete(connection);
      return true;
    }
    return false;
  }
}
