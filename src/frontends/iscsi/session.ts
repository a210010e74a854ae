/**
 * A session: an initiator port's hold on a volume, over one or several connections (RFC 7143, sections 4.2, 4.4.3). It
 * owns what the connections share: the order of commands, the claim to the volume, the nexus. What one connection does
 * is in full-feature.ts.
 *
 * A connection's end takes its commands along and nothing else (4.2.2.3, 11.14.5); the session ends with its last one,
 * since at error recovery level 0 nothing is kept (Time2Retain is 0).
 */
import { limits } from '../../base/limits.js';
import type { GatewayError } from '../../base/errors.js';
import type { Clock, Timer } from '../../ports/clock.js';
import type { Log } from '../../ports/log.js';
import type { ClientIdentity, SessionControl } from '../../ports/volume-directory.js';
import { Nexus } from '../../scsi/nexus.js';
import type { ScsiTask } from '../../scsi/task.js';
import { initiatorPortName } from '../../scsi/transport-id.js';
import type { CommandWindow, EarlyCommand } from './command-window.js';
import type { Parameters } from './parameter.js';
import type { ServedUnit, UnitMember } from './served-unit.js';
import { VolumeClaim } from './volume-claim.js';

/** What a session asks of its connections. */
export interface SessionConnection {
  readonly connectionId: number;
  /** Aborts the commands that were begun, all but one; returns whether there was any. */
  abortTasks(except?: ScsiTask): boolean;
  /** False: there is none. */
  abortTask(initiatorTaskTag: number): boolean;
  /** Resolves to whether the peer answers; only to false once the connection is gone. */
  probe(): Promise<boolean>;
  /** What the device was given takes effect, and is answered; the rest is aborted, and the connection ends. */
  logOut(): void;
  /** At once, and nothing more is sent. */
  drop(reason: string): void;
}

export interface SessionIdentity {
  readonly initiatorName: string;
  /** 12 hexadecimal digits. */
  readonly isid: string;
  readonly tsih: number;
}

export interface SessionOptions {
  readonly identity: SessionIdentity;
  /** undefined: a discovery session. */
  readonly served: ServedUnit | undefined;
  /** Of the leading login: what is negotiated for the whole session. */
  readonly parameters: Parameters;
  readonly window: CommandWindow;
  readonly clock: Clock;
  readonly log: Log;
  /** The volume was refused to this session (not told again while the refusal is remembered). */
  readonly refused: (error: GatewayError) => void;
  /** The last connection is gone. */
  readonly ended: (session: Session) => void;
}

export class Session implements UnitMember, SessionControl {
  readonly identity: SessionIdentity;
  readonly served: ServedUnit | undefined;
  readonly parameters: Parameters;
  readonly window: CommandWindow;
  readonly nexus: Nexus;
  readonly claim: VolumeClaim;
  readonly #options: SessionOptions;
  /** By CID. */
  readonly #connections = new Map<number, SessionConnection>();
  #gapTimer: Timer | undefined;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.identity = options.identity;
    this.served = options.served;
    this.parameters = options.parameters;
    this.window = options.window;
    const port = initiatorPortName(options.identity.initiatorName, options.identity.isid);
    this.nexus = options.served?.unit.attach(port) ?? new Nexus(port, 0);
    this.claim = new VolumeClaim({
      volume: options.served?.volume,
      client: this.client,
      control: this,
      clock: options.clock,
      refused: options.refused,
    });
    options.served?.join(this);
  }

  get client(): ClientIdentity {
    const { initiatorName, isid } = this.identity;
    return { frontend: 'iscsi', key: `${initiatorName},${isid}`, description: `iscsi ${initiatorName}` };
  }

  get closed(): boolean {
    return this.#closed;
  }

  get connectionCount(): number {
    return this.#connections.size;
  }

  connection(connectionId: number): SessionConnection | undefined {
    return this.#connections.get(connectionId);
  }

  /** Another connection, or one in the place of that with the same CID, which ends first (6.3.4). */
  join(connection: SessionConnection): void {
    const replaced = this.#connections.get(connection.connectionId);
    this.#connections.set(connection.connectionId, connection);
    if (this.#connections.size > 1 || replaced !== undefined) this.window.mayFill = true;
    replaced?.drop('the initiator made the connection anew');
  }

  /** A connection is gone. */
  left(connection: SessionConnection): void {
    this.window.forget(connection);
    if (this.#connections.get(connection.connectionId) !== connection) return;
    this.#connections.delete(connection.connectionId);
    if (this.#connections.size === 0) this.#close();
    else this.window.advance();
  }

  /** Ends the other connections, after what they were owed by now is sent: one was told to log the session out. */
  logoutOthers(connection: SessionConnection): void {
    for (const each of [...this.#connections.values()]) if (each !== connection) each.logOut();
  }

  /** Keeps a command that came early. The session ends when those before it do not come in time. */
  hold(command: EarlyCommand): void {
    this.window.hold(command);
    if (this.#gapTimer === undefined) this.#watchGap();
  }

  // SessionControl

  /** Whether any of the connections is still answered on. */
  probe(): Promise<boolean> {
    const asked = Array.from(this.#connections.values(), (connection) => connection.probe());
    return new Promise((resolve) => {
      for (const each of asked) void each.then((alive) => alive && resolve(true));
      void Promise.all(asked).then(() => resolve(false));
    });
  }

  /** It outlives its connections; the next login of its initiator's port takes its place (RFC 7143, 6.3.5) before it has the volume. */
  peerHasLeft(): boolean {
    return false;
  }

  evict(reason: string): void {
    this.drop(reason);
  }

  // UnitMember

  /** Aborts the commands that were begun, on every connection. */
  abortTasks(except?: ScsiTask): boolean {
    let found = false;
    for (const connection of this.#connections.values()) found = connection.abortTasks(except) || found;
    return found;
  }

  drop(reason: string): void {
    if (this.#closed) return;
    this.#options.log.info('a session was ended', { initiator: this.identity.initiatorName, reason });
    for (const connection of [...this.#connections.values()]) connection.drop(reason);
    this.#close();
  }

  end(reason: string): void {
    if (this.#closed) return;
    this.#options.log.info('a session was ended', { initiator: this.identity.initiatorName, reason });
    for (const connection of [...this.#connections.values()]) connection.logOut();
  }

  /** Aborts one task, whatever its connection; false: there is none. */
  abortTask(initiatorTaskTag: number): boolean {
    for (const connection of this.#connections.values()) if (connection.abortTask(initiatorTaskTag)) return true;
    return false;
  }

  #watchGap(): void {
    const { expCmdSn } = this.window;
    this.#gapTimer = this.#options.clock.after(limits.iscsiGapMsMax, () => {
      this.#gapTimer = undefined;
      if (!this.window.crowded) return;
      if (this.window.expCmdSn !== expCmdSn) this.#watchGap();
      else this.drop('a command that others wait for did not come (RFC 7143 4.2.2.1)');
    });
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#gapTimer?.cancel();
    this.served?.leave(this);
    this.claim.close();
    this.#options.ended(this);
  }
}
