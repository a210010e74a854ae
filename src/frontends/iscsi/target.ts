/**
 * The iSCSI target: accepts connections for every volume of the directory, one target per volume with LUN 0, and keeps
 * the sessions (RFC 7143).
 *
 * A login with TSIH 0 under the name, ISID and target of a session that exists replaces that session (reinstatement,
 * section 6.3.5): the old one's connections are closed and its commands are dropped before the new one begins. A login
 * with the TSIH of a session is another connection of it, or with the same CID a new one in the place of the old
 * (sections 6.3.1, 6.3.4).
 */
import type { ErrorCode } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Checksums } from '../../ports/checksum.js';
import type { Clock } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { Random } from '../../ports/random.js';
import type { ListenAddress, Listener, Stream, StreamFactory, StreamHandler } from '../../ports/stream.js';
import type { ChapSecrets, ClientIdentity, ServedVolume, VolumeDirectory } from '../../ports/volume-directory.js';
import { Connection } from './connection.js';
import type { AdmittedLogin, ConnectionHost } from './connection.js';
import { FullFeature } from './full-feature.js';
import type { Login } from './login.js';
import { joinedParameters } from './parameter.js';
import type { DigestPolicy } from './parameter.js';
import { PduBufferPool } from './pdu-buffer.js';
import { targetName } from './send-targets.js';
import type { TargetNaming } from './send-targets.js';
import { ServedUnit } from './served-unit.js';
import type { Sequence } from './sequence.js';
import { Session } from './session.js';
import { loginStatus } from './wire.js';
import type { LoginStatus } from './wire.js';

export interface IscsiTargetOptions {
  readonly directory: VolumeDirectory;
  readonly streams: StreamFactory;
  readonly clock: Clock;
  readonly log: Log;
  readonly checksums: Checksums;
  readonly random: Random;
  readonly options: {
    /** "iqn.2026-11.io.keepgate". */
    readonly targetPrefix: string;
    /** host:port that SendTargets gives out; empty: the address that the initiator reached. */
    readonly advertise: readonly string[];
    readonly digests: DigestPolicy;
  };
  readonly discoveryChap?: ChapSecrets | undefined;
}

/** One connection, as `keepgate status` and /v1/sessions show it. */
export interface IscsiConnectionInfo {
  readonly id: number;
  /** undefined during the login. */
  readonly client: ClientIdentity | undefined;
  /** undefined during the login, and of a discovery session. */
  readonly volume: string | undefined;
  /** It has the volume, not only inquired about it. */
  readonly holdsVolume: boolean;
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly inflight: number;
  readonly receivedBytes: number;
  readonly writtenBytes: number;
}

const TSIH_MAX = 0xffff;

export class IscsiTarget implements ConnectionHost {
  /** Sessions that reached the full-feature phase, since the start. */
  logins = 0;
  /** Refused logins and connections by reason (an error code), since the start. */
  readonly rejections = new Map<string, number>();

  /** What discovery sessions from now on prove; undefined: nothing. */
  discoveryChap: ChapSecrets | undefined;

  readonly #options: IscsiTargetOptions;
  readonly #naming: TargetNaming;
  readonly #pool = new PduBufferPool();
  readonly #listeners: Listener[] = [];
  readonly #connections = new Set<Connection>();
  readonly #units = new Map<string, ServedUnit>();
  /** By TSIH. */
  readonly #sessions = new Map<number, Session>();
  #lastTsih = 0;
  #nextId = 1;
  #closing = false;
  #onLastClosed: (() => void) | undefined;

  constructor(options: IscsiTargetOptions) {
    this.#options = options;
    this.discoveryChap = options.discoveryChap;
    this.#naming = {
      directory: options.directory,
      targetPrefix: options.options.targetPrefix,
      advertise: options.options.advertise,
    };
  }

  /** Rejects with listen-refused; listeners that were opened before stay until `close`. */
  async listen(addresses: readonly ListenAddress[]): Promise<readonly ListenAddress[]> {
    for (const address of addresses) {
      const listener = await this.#options.streams.listen({
        address,
        setting: 'iscsi.listen',
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

  get connections(): readonly IscsiConnectionInfo[] {
    return Array.from(this.#connections, (connection) => ({
      id: connection.id,
      client: connection.fullFeature?.session.client,
      volume: connection.fullFeature?.session.served?.volume.device.name,
      holdsVolume: connection.fullFeature?.session.claim.held ?? false,
      startedMs: connection.startedMs,
      inflight: connection.fullFeature?.commandsUnderWay ?? 0,
      receivedBytes: connection.receivedBytes,
      writtenBytes: connection.writtenBytes,
    }));
  }

  /** Ends a connection; false when there is none with that id. */
  disconnect(id: number, reason: string): boolean {
    for (const connection of this.#connections) {
      if (connection.id !== id) continue;
      connection.cutOff(reason);
      return true;
    }
    return false;
  }

  /**
   * Stops accepting, asks initiators to log out, lets what is in flight be answered, then closes; cuts off what takes
   * longer than half the stop's time.
   */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#listeners.splice(0).map((listener) => listener.close()));
    const allClosed = new Promise<void>((resolve) => (this.#onLastClosed = resolve));
    for (const connection of [...this.#connections]) connection.finish();
    const timer = this.#options.clock.after(limits.shutdownMsMax / 2, () => {
      for (const connection of [...this.#connections]) connection.destroy();
    });
    if (this.#connections.size > 0) await allClosed;
    timer.cancel();
  }

  // ConnectionHost

  admit(admitted: AdmittedLogin): FullFeature | { readonly status: LoginStatus; readonly reason: string } {
    const { login, sequence } = admitted;
    if (this.#closing) return { status: loginStatus.serviceUnavailable, reason: 'the gateway is stopping' };
    const joined = login.session;
    if (joined?.closed === true) {
      return { status: loginStatus.sessionDoesNotExist, reason: 'the session ended during the login' };
    }
    const replaced = joined?.connection(login.connectionId);
    if (joined !== undefined && replaced === undefined && joined.connectionCount >= joined.parameters.connectionsMax) {
      return {
        status: loginStatus.tooManyConnections,
        reason: 'the session has as many connections as were agreed on',
      };
    }
    const served = login.volume === undefined ? undefined : this.#unitOf(login.volume);
    if (joined === undefined) this.#replace(login, served);
    const isFull = served !== undefined && served.connectionCount >= limits.connectionsPerVolumeMax;
    if (isFull && replaced === undefined) {
      return { status: loginStatus.outOfResources, reason: 'too many connections to the volume' };
    }
    const session = joined ?? this.#createSession(login, sequence, served);
    if (session === undefined) return { status: loginStatus.outOfResources, reason: 'too many sessions' };
    const connection = new FullFeature({
      ...admitted,
      session,
      connectionId: login.connectionId,
      naming: this.#naming,
      parameters: joined === undefined ? login.parameters : joinedParameters(joined.parameters, login.parameters),
      clock: this.#options.clock,
      log: this.#options.log,
    });
    session.join(connection);
    this.#options.log.info('an initiator logged in', {
      initiator: login.initiatorName,
      volume: login.volume?.device.name ?? 'discovery',
      connection: session.connectionCount,
    });
    return connection;
  }

  refused(login: Login, status: LoginStatus, reason: string): void {
    this.#rejected(rejectionCodes[status] ?? 'invalid-request');
    this.#options.log.warn('a login was refused', { initiator: login.initiatorName, reason });
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
    if (this.#connections.size === 0) this.#onLastClosed?.();
  }

  /** A connection; undefined: there are too many, or the target is closing. */
  #accept(stream: Stream): StreamHandler | undefined {
    if (this.#closing) return undefined;
    if (this.#connections.size >= limits.connectionsMax && !this.#dropOldestLogin()) {
      this.#rejected('session-limit');
      return undefined;
    }
    const { checksums, clock, log, random, options } = this.#options;
    const connection = new Connection({
      id: this.#nextId++,
      stream,
      pool: this.#pool,
      checksums,
      clock,
      log,
      login: {
        naming: this.#naming,
        digests: options.digests,
        discoveryChap: this.discoveryChap,
        random,
        findSession: (tsih) => this.#sessions.get(tsih),
      },
      host: this,
    });
    this.#connections.add(connection);
    return connection;
  }

  /** Connections that never finish their login must not keep initiators out until they time out. */
  #dropOldestLogin(): boolean {
    for (const connection of this.#connections) {
      if (connection.fullFeature !== undefined) continue;
      this.#rejected('session-limit');
      connection.cutOff('too many connections: the oldest unfinished login gives way');
      this.#connections.delete(connection);
      return true;
    }
    return false;
  }

  #rejected(reason: ErrorCode): void {
    this.rejections.set(reason, (this.rejections.get(reason) ?? 0) + 1);
  }

  /** A volume that was removed and made anew is another device: its unit is another too. */
  #unitOf(volume: ServedVolume): ServedUnit {
    const { name } = volume.device;
    const known = this.#units.get(name);
    if (known?.volume === volume) return known;
    const made = new ServedUnit(volume, targetName(this.#naming, volume));
    this.#units.set(name, made);
    return made;
  }

  #replace(login: Login, served: ServedUnit | undefined): void {
    if (served === undefined) return;
    for (const session of this.#sessions.values()) {
      const { initiatorName, isid } = session.identity;
      if (session.served !== served || initiatorName !== login.initiatorName || isid !== login.isid) continue;
      this.#sessions.delete(session.identity.tsih);
      session.drop('the initiator logged in again');
    }
  }

  /** undefined: there are too many. */
  #createSession(login: Login, sequence: Sequence, served: ServedUnit | undefined): Session | undefined {
    const tsih = this.#freeTsih();
    if (tsih === undefined) return undefined;
    const { clock, log } = this.#options;
    const session = new Session({
      identity: { initiatorName: login.initiatorName, isid: login.isid, tsih },
      served,
      parameters: login.parameters,
      window: sequence.window,
      clock,
      log,
      refused: (error) => {
        this.#rejected(error.code);
        log.warn('an initiator may not use the volume', {
          initiator: login.initiatorName,
          code: error.code,
          reason: error.message,
        });
      },
      ended: () => this.#sessions.delete(tsih),
    });
    this.#sessions.set(tsih, session);
    this.logins++;
    return session;
  }

  #freeTsih(): number | undefined {
    if (this.#sessions.size >= limits.connectionsMax) return undefined;
    do this.#lastTsih = (this.#lastTsih % TSIH_MAX) + 1;
    while (this.#sessions.has(this.#lastTsih));
    return this.#lastTsih;
  }
}

/** What the counters call a refused login. */
const rejectionCodes: Readonly<Partial<Record<LoginStatus, ErrorCode>>> = {
  [loginStatus.authenticationFailure]: 'access-denied',
  [loginStatus.authorizationFailure]: 'access-denied',
  [loginStatus.notFound]: 'not-found',
  [loginStatus.serviceUnavailable]: 'volume-closed',
  [loginStatus.outOfResources]: 'session-limit',
  [loginStatus.tooManyConnections]: 'session-limit',
};
