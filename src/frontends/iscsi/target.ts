/**
 * The iSCSI target: accepts connections for every volume of the directory, one target per volume with LUN 0, and keeps
 * the sessions (RFC 7143).
 *
 * A login with TSIH 0 under the name, ISID and target of a session that exists replaces that session (reinstatement,
 * section 6.3.5): the old one's connection is closed and its commands are dropped before the new one begins.
 */
import type { ErrorCode } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import type { Checksums } from '../../ports/checksum.js';
import type { Clock } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { Random } from '../../ports/random.js';
import type { ListenAddress, Listener, Stream, StreamFactory, StreamHandler } from '../../ports/stream.js';
import type { ChapSecrets, ServedVolume, VolumeDirectory } from '../../ports/volume-directory.js';
import { Connection } from './connection.js';
import type { AdmittedLogin, ConnectionHost } from './connection.js';
import type { Login } from './login.js';
import type { DigestPolicy } from './parameter.js';
import { PduBufferPool } from './pdu-buffer.js';
import type { TargetNaming } from './send-targets.js';
import { ServedUnit } from './served-unit.js';
import { Session } from './session.js';
import { loginStatus } from './wire.js';
import type { LoginStatus } from './wire.js';

export interface IscsiTargetOptions {
  readonly directory: VolumeDirectory;
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
    readonly discoveryChap?: ChapSecrets;
  };
  /** Told of every login, for the counters. */
  readonly observer?: LoginObserver;
}

export interface LoginObserver {
  loggedIn(): void;
  rejected(reason: ErrorCode): void;
}

/** A normal session, as the API shows it. */
export interface IscsiSessionReport {
  readonly volume: string;
  readonly initiatorName: string;
  readonly isid: string;
  readonly peer: string;
  /** It has the volume, not only inquired about it. */
  readonly holdsVolume: boolean;
}

const TSIH_MAX = 0xffff;
const DRAIN_POLL_MS = 10;

export class IscsiTarget implements ConnectionHost {
  readonly #options: IscsiTargetOptions;
  readonly #naming: TargetNaming;
  readonly #pool = new PduBufferPool();
  readonly #listeners = new Set<Listener>();
  readonly #connections = new Set<Connection>();
  readonly #units = new Map<string, ServedUnit>();
  /** By TSIH. */
  readonly #sessions = new Map<
    number,
    { readonly session: Session; readonly stream: Stream; readonly end: () => void }
  >();
  #lastTsih = 0;
  #closing = false;

  constructor(options: IscsiTargetOptions) {
    this.#options = options;
    this.#naming = {
      directory: options.directory,
      targetPrefix: options.options.targetPrefix,
      advertise: options.options.advertise,
    };
  }

  /** @throws GatewayError listen-refused */
  async listen(streams: StreamFactory, address: ListenAddress, setting = 'iscsi.listen'): Promise<Listener> {
    const listener = await streams.listen({ address, setting, accept: (stream) => this.accept(stream) });
    this.#listeners.add(listener);
    return listener;
  }

  /** Serves a connection; undefined: there are too many, or the target is closing. */
  accept(stream: Stream): StreamHandler | undefined {
    if (this.#closing) return undefined;
    if (this.#connections.size >= limits.connectionsMax) {
      this.#options.observer?.rejected('session-limit');
      return undefined;
    }
    const { checksums, clock, log, random, options } = this.#options;
    const connection = new Connection({
      stream,
      pool: this.#pool,
      checksums,
      clock,
      log,
      login: {
        naming: this.#naming,
        digests: options.digests,
        discoveryChap: options.discoveryChap,
        random,
        hasSession: (tsih) => this.#sessions.has(tsih),
      },
      host: this,
    });
    this.#connections.add(connection);
    return connection;
  }

  /** Normal sessions. */
  sessions(): readonly IscsiSessionReport[] {
    return [...this.#sessions.values()].flatMap(({ session, stream }) => {
      if (session.served === undefined) return [];
      const { initiatorName, isid } = session.identity;
      const { peer } = stream;
      return [
        {
          volume: session.served.volume.device.name,
          initiatorName,
          isid,
          peer: peer.kind === 'tcp' ? `${peer.address}:${peer.port}` : peer.path,
          holdsVolume: session.holdsVolume,
        },
      ];
    });
  }

  /** Stops accepting, waits for commands under way (at most limits.lingerMsMax), then closes every connection. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    const { clock } = this.#options;
    const deadlineMs = clock.nowMs() + limits.lingerMsMax;
    while (this.#isBusy() && clock.nowMs() < deadlineMs) await clock.sleep(DRAIN_POLL_MS);
    for (const connection of [...this.#connections]) connection.end();
  }

  // ConnectionHost

  admit(admitted: AdmittedLogin): Session | { readonly status: LoginStatus; readonly reason: string } {
    const { login } = admitted;
    if (this.#closing) return { status: loginStatus.serviceUnavailable, reason: 'the gateway is stopping' };
    const served = login.volume === undefined ? undefined : this.#unitOf(login.volume);
    this.#replace(login, served);
    if (served !== undefined && served.memberCount >= limits.connectionsPerVolumeMax) {
      return { status: loginStatus.outOfResources, reason: 'too many sessions on the volume' };
    }
    const tsih = this.#freeTsih();
    if (tsih === undefined) return { status: loginStatus.outOfResources, reason: 'too many sessions' };
    const session = new Session({
      identity: {
        initiatorName: login.initiatorName,
        isid: login.isid,
        tsih,
        connectionId: login.connectionId,
      },
      served,
      naming: this.#naming,
      parameters: login.parameters,
      sequence: admitted.sequence,
      stream: admitted.stream,
      writer: admitted.writer,
      clock: this.#options.clock,
      log: this.#options.log,
      end: admitted.end,
      destroy: admitted.destroy,
    });
    this.#sessions.set(tsih, { session, stream: admitted.stream, end: admitted.end });
    this.#options.observer?.loggedIn();
    this.#options.log.info('an initiator logged in', {
      initiator: login.initiatorName,
      volume: login.volume?.device.name ?? 'discovery',
    });
    return session;
  }

  refused(login: Login, status: LoginStatus, reason: string): void {
    this.#options.observer?.rejected(rejectionCodes[status] ?? 'invalid-request');
    this.#options.log.warn('a login was refused', { initiator: login.initiatorName, reason });
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
    const { session } = connection;
    if (session !== undefined && this.#sessions.get(session.identity.tsih)?.session === session) {
      this.#sessions.delete(session.identity.tsih);
    }
  }

  #isBusy(): boolean {
    return [...this.#sessions.values()].some(({ session }) => session.commandsUnderWay > 0);
  }

  /** A volume that was removed and made anew is another device: its unit is another too. */
  #unitOf(volume: ServedVolume): ServedUnit {
    const { name } = volume.device;
    const known = this.#units.get(name);
    if (known?.volume === volume) return known;
    const made = new ServedUnit(volume);
    this.#units.set(name, made);
    return made;
  }

  #replace(login: Login, served: ServedUnit | undefined): void {
    if (served === undefined) return;
    for (const { session } of this.#sessions.values()) {
      const { initiatorName, isid } = session.identity;
      if (session.served !== served || initiatorName !== login.initiatorName || isid !== login.isid) continue;
      this.#sessions.delete(session.identity.tsih);
      session.drop('the initiator logged in again');
    }
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
