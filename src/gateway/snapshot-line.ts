/**
 * A volume's snapshots between whoever asks for them and its history. What is committed is known from the replicator,
 * which reads it from the bucket; what is durable here and not committed yet, from the volume's log. Together they are
 * what the volume's snapshots are now.
 *
 * Invariants: a name is given once among the snapshots there are; a snapshot or its end is answered once its record is
 * durable, so that it comes true whatever happens to this process. Before the bucket was read, names cannot be known to
 * be free, and nothing is taken.
 */
import type { SnapshotReport } from '../api/gateway-view.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Lsn } from '../base/units.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { SnapshotRecord } from '../engine/log-format.js';
import type { RevertRecord } from '../engine/revert-record.js';
import type { SnapshotRecorder } from '../engine/snapshot-recorder.js';
import type { SnapshotCounts } from '../metrics/source.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { FromReplicator, KnownSnapshot } from '../remote/replication-messages.js';
import { AUTOMATIC_PREFIX, SnapshotSchedule } from './snapshot-schedule.js';

export interface SnapshotLineOptions {
  readonly volume: string;
  readonly schedule: VolumeConfiguration['snapshots'];
  readonly clock: Clock;
  readonly log: Log;
  /** Whether the volume replicates: else it has no snapshots, since they lie in the bucket. */
  readonly replicates: () => boolean;
  /** Why replication has ended for good: what is recorded then would never come true. */
  readonly refusal: () => GatewayError | undefined;
}

/** What a snapshot records into. */
export type SnapshotTarget = Pick<SnapshotRecorder, 'records' | 'sizeBytes' | 'tracking' | 'contentLsn' | 'record'>;

const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

interface Known {
  readonly throughLsn: Lsn;
  readonly snapshots: readonly KnownSnapshot[];
}

export class SnapshotLine {
  /** That must not be deleted for now. */
  needed: string | undefined;
  readonly #options: SnapshotLineOptions;
  #target: SnapshotTarget | undefined;
  #known: Known | undefined;
  #schedule: SnapshotSchedule | undefined;

  constructor(options: SnapshotLineOptions) {
    this.#options = options;
  }

  /** The volume is there. */
  attach(target: SnapshotTarget): void {
    this.#target = target;
  }

  /** Begins the schedule. */
  start(): void {
    const { schedule, clock, log } = this.#options;
    const { everyMs, keep } = schedule;
    const target = this.#target;
    if (everyMs === undefined || target === undefined) return;
    this.#schedule = new SnapshotSchedule({
      everyMs,
      keep,
      clock,
      log,
      list: () => this.#list(target),
      contentLsn: () => target.contentLsn,
      create: () => this.#record(this.recording(), this.#freeName(target, AUTOMATIC_PREFIX)),
      delete: (name) => this.delete(name),
    });
    this.#schedule.start();
  }

  close(): void {
    this.#schedule?.stop();
  }

  #attached(): SnapshotTarget {
    const { volume, replicates } = this.#options;
    if (!replicates()) {
      throw new GatewayError('not-supported', `volume ${volume} does not replicate, and snapshots lie in the bucket`);
    }
    if (this.#target === undefined) throw new GatewayError('volume-closed', `volume ${volume} is not open`);
    return this.#target;
  }

  /** Where one can be recorded now; throws where none would come true. */
  recording(): SnapshotTarget {
    const target = this.#attached();
    const refusal = this.#options.refusal();
    if (refusal !== undefined) throw refusal;
    return target;
  }

  /** One whose content lies in the bucket, with or without its root. not-found; invalid-request: it does not yet. */
  whole(name: string): Pick<RevertRecord, 'snapshotLsn' | 'sizeBytes'> {
    const [snapshotLsn, { sizeBytes }] = this.#named(this.#attached(), name);
    if (this.#known?.snapshots.some(({ lsn }) => lsn === snapshotLsn) === true) return { snapshotLsn, sizeBytes };
    throw new GatewayError('invalid-request', `snapshot ${name} is pending: wait until the bucket has all of it`);
  }

  /** Takes one of the present, named by what is about to happen. */
  async before(what: string): Promise<SnapshotReport> {
    const target = this.recording();
    return this.#record(target, this.#freeName(target, `before-${what}-`));
  }

  /** For metrics; undefined before the bucket was read. */
  counts(): SnapshotCounts | undefined {
    if (this.#known === undefined || this.#target === undefined) return undefined;
    const all = this.#list(this.#target);
    const complete = all.filter(({ state }) => state === 'complete');
    return {
      complete: complete.length,
      pending: all.length - complete.length,
      newestMs: complete.at(-1)?.timeMs,
      exclusiveBytes: complete.reduce((sum, { exclusiveBytes }) => sum + (exclusiveBytes ?? 0), 0),
      failures: this.#schedule?.failures ?? 0,
    };
  }

  received({ throughLsn, snapshots }: Extract<FromReplicator, { type: 'snapshots' }>): void {
    // A new life of the replicator begins where the one before was, or behind it.
    if (throughLsn >= (this.#known?.throughLsn ?? 0)) this.#known = { throughLsn, snapshots };
  }

  /** Oldest first. store-unreachable before the bucket was read. */
  list(): SnapshotReport[] {
    return this.#list(this.#attached());
  }

  #list(target: SnapshotTarget): SnapshotReport[] {
    return [...this.#now(target).values()];
  }

  /** By the LSN of their records. */
  #now(target: SnapshotTarget): Map<Lsn, SnapshotReport> {
    const known = this.#known;
    if (known === undefined) {
      throw new GatewayError(
        'store-unreachable',
        `the snapshots of volume ${this.#options.volume} are not known before its bucket was read; ask again once it was reached`,
      );
    }
    const now = new Map(known.snapshots.map((snapshot) => [snapshot.lsn, reportOf(snapshot)]));
    for (const record of target.records) {
      if (record.lsn <= known.throughLsn) continue;
      if (record.snapshotLsn !== 0) now.delete(record.snapshotLsn);
      else now.set(record.lsn, pendingReport(record, target));
    }
    return now;
  }

  /**
   * Everything acknowledged before this call is in it; resolves once it is durable here. Without a name it is named by the
   * time.
   */
  async create(asked: string | undefined): Promise<SnapshotReport> {
    const target = this.recording();
    const name = asked ?? this.#freeName(target, '');
    if (!namePattern.test(name)) {
      throw new GatewayError(
        'invalid-request',
        `"${shown(name)}" is not a name of a snapshot; write 1 to 63 of a-z, 0-9 and -, not beginning with -`,
      );
    }
    if (name.startsWith(AUTOMATIC_PREFIX)) {
      throw new GatewayError(
        'invalid-request',
        `"${name}": names that begin with ${AUTOMATIC_PREFIX} are those of automatic snapshots, which are deleted by schedule; write another`,
      );
    }
    return this.#record(target, name);
  }

  async delete(name: string): Promise<void> {
    const target = this.recording();
    const [lsn] = this.#named(target, name);
    if (name === this.needed)
      throw new GatewayError('invalid-request', `volume ${this.#options.volume} is being reverted to snapshot ${name}`);
    await target.record(name, lsn);
  }

  #named(target: SnapshotTarget, name: string): readonly [Lsn, SnapshotReport] {
    const found = [...this.#now(target)].findLast(([, snapshot]) => snapshot.name === name);
    if (found !== undefined) return found;
    throw new GatewayError('not-found', `volume ${this.#options.volume} has no snapshot "${shown(name)}"`);
  }

  async #record(target: SnapshotTarget, name: string): Promise<SnapshotReport> {
    const all = this.#list(target);
    if (all.some((other) => other.name === name))
      throw new GatewayError('volume-exists', `volume ${this.#options.volume} has a snapshot "${name}" already`);
    if (all.length >= limits.snapshotsMax) {
      throw new GatewayError(
        'invalid-request',
        `volume ${this.#options.volume} has ${all.length} snapshots, the most it can have; delete some first`,
      );
    }
    return pendingReport(await target.record(name, 0), target);
  }

  /** 2026-11-25t22-00-00z behind the prefix, and with a number behind that where two are taken within a second. */
  #freeName(target: SnapshotTarget, prefix: string): string {
    const taken = new Set(this.#list(target).map(({ name }) => name));
    const time = new Date(this.#options.clock.wallMs()).toISOString().replace(/\.\d+Z$/, 'z');
    const base = prefix + time.replaceAll(':', '-').toLowerCase();
    for (let more = 1; ; more++) {
      const name = more === 1 ? base : `${base}-${more}`;
      if (!taken.has(name)) return name;
    }
  }
}

function reportOf({ name, lsn, pointLsn, wallMs, ...sizes }: KnownSnapshot): SnapshotReport {
  const state = sizes.referencedBytes === undefined ? 'pending' : 'complete';
  return { name, lsn: pointLsn, timeMs: wallMs, state, late: pointLsn !== lsn, ...sizes };
}

function pendingReport({ name, lsn, wallMs }: SnapshotRecord, target: SnapshotTarget): SnapshotReport {
  const { sizeBytes, tracking } = target;
  const unknown = { referencedBytes: undefined, exclusiveBytes: undefined };
  return { name, lsn, timeMs: wallMs, state: 'pending', late: tracking, sizeBytes, ...unknown };
}

/** What somebody wrote, fit for one line of a message. */
function shown(name: string): string {
  const plain = JSON.stringify(name).slice(1, -1);
  return plain.length > 80 ? `${plain.slice(0, 80)}…` : plain;
}
