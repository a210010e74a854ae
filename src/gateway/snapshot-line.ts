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
import type { Lsn } from '../base/units.js';
import type { SnapshotRecord } from '../engine/log-format.js';
import type { Clock } from '../ports/clock.js';
import type { FromReplicator, KnownSnapshot } from '../remote/replication-messages.js';

/** What a snapshot records into; engine/volume.ts is one. */
export interface SnapshotTarget {
  readonly name: string;
  readonly sizeBytes: number;
  /** Found in the log, or made since: oldest first. */
  readonly snapshotRecords: readonly SnapshotRecord[];
  recordSnapshot(name: string, snapshotLsn: Lsn): Promise<SnapshotRecord>;
}

const namePattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

export class SnapshotLine {
  readonly #clock: Clock;
  #known: { readonly throughLsn: Lsn; readonly snapshots: readonly KnownSnapshot[] } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  received({ throughLsn, snapshots }: Extract<FromReplicator, { type: 'snapshots' }>): void {
    // A new life of the replicator begins where the one before was, or behind it.
    if (throughLsn >= (this.#known?.throughLsn ?? 0)) this.#known = { throughLsn, snapshots };
  }

  /** Oldest first. store-unreachable before the bucket was read. */
  list(volume: SnapshotTarget): SnapshotReport[] {
    const known = this.#known;
    if (known === undefined) {
      throw new GatewayError(
        'store-unreachable',
        `the snapshots of volume ${volume.name} are not known before its bucket was read; ask again once it was reached`,
      );
    }
    let list = known.snapshots.map(reportOf);
    for (const { lsn, name, snapshotLsn, wallMs } of volume.snapshotRecords) {
      if (lsn <= known.throughLsn) continue;
      if (snapshotLsn !== 0) list = list.filter((snapshot) => snapshot.lsn !== snapshotLsn);
      else {
        const { sizeBytes } = volume;
        list.push({ name, lsn, timeMs: wallMs, state: 'pending', sizeBytes, referencedBytes: undefined });
      }
    }
    return list;
  }

  /** Everything acknowledged before this call is in it. Without a name it is named by the time. */
  async create(volume: SnapshotTarget, asked: string | undefined): Promise<SnapshotReport> {
    const taken = new Set(this.list(volume).map(({ name }) => name));
    const name = asked ?? freeName(this.#clock.wallMs(), taken);
    if (!namePattern.test(name)) {
      throw new GatewayError(
        'invalid-request',
        `"${name}" is not a name of a snapshot; write 1 to 63 of a-z, 0-9 and -, not beginning with -`,
      );
    }
    if (taken.has(name)) {
      throw new GatewayError('volume-exists', `volume ${volume.name} has a snapshot "${name}" already`);
    }
    const { sizeBytes } = volume;
    const { lsn, wallMs } = await volume.recordSnapshot(name, 0);
    return { name, lsn, timeMs: wallMs, state: 'pending', sizeBytes, referencedBytes: undefined };
  }

  async delete(volume: SnapshotTarget, name: string): Promise<void> {
    const snapshot = this.list(volume).findLast((one) => one.name === name);
    if (snapshot === undefined) {
      throw new GatewayError('not-found', `volume ${volume.name} has no snapshot "${name}"`);
    }
    await volume.recordSnapshot(name, snapshot.lsn);
  }
}

function reportOf({ name, lsn, wallMs, sizeBytes, referencedBytes }: KnownSnapshot): SnapshotReport {
  const state = referencedBytes === undefined ? 'pending' : 'complete';
  return { name, lsn, timeMs: wallMs, state, sizeBytes, referencedBytes };
}

/** 2026-11-25t22-00-00z, and with a number behind where two are taken within a second. */
function freeName(wallMs: number, taken: ReadonlySet<string>): string {
  const base = new Date(wallMs)
    .toISOString()
    .replace(/\.\d+Z$/, 'z')
    .replaceAll(':', '-')
    .toLowerCase();
  for (let more = 1; ; more++) {
    const name = more === 1 ? base : `${base}-${more}`;
    if (!taken.has(name)) return name;
  }
}
