/**
 * How far a volume's records have come, into the image and into the bucket, and the superblocks that say so.
 *
 * The tail of the log follows from it: the place before which nobody needs the log, where a recovery would begin. It is
 * where the synced image ends, or an earlier place that the bucket needs:
 *
 *   draining    where the replicator reads on
 *   tracking    where a round began, as long as the log can hold everything since; else none
 *
 * Invariants: the image ends where it does durably, sums included, before it is said to (P4). Whether the bucket is kept
 * up by the log or by the dirty map is decided here; a replicator that has not heard of it changes nothing of that.
 */
import type { Lsn } from '../base/units.js';
import type { LogCursor, ReplicationState } from '../ports/replication.js';
import type { Log } from './log.js';
import type { Rounds } from './rounds.js';
import type { Superblock, SuperblockWriter } from './superblock.js';

export interface DurableProgressOptions {
  readonly log: Pick<Log, 'durableLsn'>;
  readonly rounds: Pick<Rounds, 'moment' | 'named' | 'secured'>;
  readonly superblock: SuperblockWriter;
  /** That was found. Its tail: the log has everything from there on. */
  readonly newest: Pick<Superblock, 'tail' | 'destageCursor' | 'replication'>;
  /** The rest of a superblock: identity, boot, size. */
  readonly identity: () => Pick<Superblock, 'volumeUuid' | 'bootId' | 'sizeBytes'>;
  readonly replicated: boolean;
}

/** What the newest superblock says. */
interface Recorded {
  readonly replicatedLsn: Lsn;
  readonly fenced: boolean;
  readonly destagedLsn: Lsn;
  readonly segmentNumber: number;
}

export class DurableProgress {
  readonly superblock: SuperblockWriter;
  replication: ReplicationState;
  /** Where the image, as synced, ends. */
  synced: LogCursor;
  private readonly options: DurableProgressOptions;
  /** While tracking: where a round began, as long as the log can hold everything since. */
  private held: LogCursor | undefined;
  private recorded: Recorded;
  private identityChanged = false;

  constructor(options: DurableProgressOptions) {
    const { superblock, newest, rounds } = options;
    this.options = options;
    this.superblock = superblock;
    this.replication = newest.replication;
    this.synced = newest.destageCursor;
    this.recorded = recordedBy(this.replication, this.synced);
    const { moment } = rounds;
    if (moment !== undefined && newest.tail.lsn <= moment.cursor.lsn) this.held = moment.cursor;
  }

  get destagedLsn(): Lsn {
    return this.synced.lsn - 1;
  }

  /** Where recovery would begin: before it the log is not needed. */
  get tail(): LogCursor {
    const { replicated } = this.options;
    const needed = this.tracking ? this.held : this.replication.cursor;
    return replicated && needed !== undefined && needed.lsn < this.synced.lsn ? needed : this.synced;
  }

  /** The log does not hold all that the bucket lacks; the dirty map does. */
  get tracking(): boolean {
    return this.replication.keeping === 'tracking';
  }

  /** Every record up to here is in a recovery point that this volume has heard of. */
  get replicatedLsn(): Lsn {
    const { keeping, replicatedLsn, cursor } = this.replication;
    return keeping === 'draining' ? Math.max(replicatedLsn, cursor.lsn - 1) : replicatedLsn;
  }

  /** The log lets go of what the bucket lacks, whatever a round that goes on brings: only the dirty map knows of it. */
  get keepsNothing(): boolean {
    return this.tracking && this.held === undefined;
  }

  /** The replicator says how far the bucket is. */
  heard(state: ReplicationState): void {
    const { keeping, cursor } = this.replication;
    // How it is kept is decided here; what was said before that was heard may name an earlier place.
    const stands = keeping === 'tracking' || state.cursor.lsn < cursor.lsn;
    this.replication = { ...state, keeping, cursor: stands ? cursor : state.cursor };
  }

  /** The dirty map has all that the bucket lacks. */
  track(): void {
    this.replication = { ...this.replication, keeping: 'tracking' };
  }

  /** A round begins, of the image as it is synced. */
  holdLog(): void {
    this.held = this.synced;
  }

  /** While tracking: the log is full, and goes on without what a round has begun with. */
  letLogGo(): void {
    this.held = undefined;
  }

  /**
   * The bucket has all that is before `cursor`, where its round began. Where the log still holds everything since, the log
   * is followed again; else the dirty map goes on.
   */
  endRound(cursor: LogCursor): Pick<ReplicationState, 'keeping' | 'cursor'> {
    const keeping = this.held?.lsn === cursor.lsn ? 'draining' : 'tracking';
    this.replication = { ...this.replication, keeping, cursor };
    this.held = undefined;
    return { keeping, cursor };
  }

  /** The volume's size is another one. */
  changeIdentity(): void {
    this.identityChanged = true;
  }

  /** There is more to be said of the bucket, or of the volume, than the newest superblock says. */
  get isOutdated(): boolean {
    const { replicatedLsn, fenced, segmentNumber } = this.replication;
    return (
      replicatedLsn !== this.recorded.replicatedLsn ||
      fenced !== this.recorded.fenced ||
      // What is staged need not be kept any more.
      (this.tracking && segmentNumber !== this.recorded.segmentNumber) ||
      this.identityChanged
    );
  }

  /** It was fenced, and no superblock says so. */
  get fenceUnrecorded(): boolean {
    return this.replication.fenced && !this.recorded.fenced;
  }

  /** Up to here records are in the image, as the newest superblock says. */
  get recordedDestagedLsn(): Lsn {
    return this.recorded.destagedLsn;
  }

  /** Writes a superblock, durably; calls must not overlap. `clean`: the last one, of a volume that is closed. */
  async record(clean = false): Promise<void> {
    const { log, superblock, identity, rounds } = this.options;
    const replication = this.replication;
    const destageCursor = this.synced;
    this.identityChanged = false;
    await superblock.write({
      ...identity(),
      tail: this.tail,
      destageCursor,
      durableLsn: log.durableLsn,
      destagedLsn: destageCursor.lsn - 1,
      replication,
      round: rounds.named,
      clean,
    });
    if (replication.staged !== undefined) rounds.secured(replication.staged);
    this.recorded = recordedBy(replication, destageCursor);
  }

  /** Either of them may be the one that is read next. */
  async recordInBoth(): Promise<void> {
    await this.record();
    await this.record();
  }
}

function recordedBy({ replicatedLsn, fenced, segmentNumber }: ReplicationState, destageCursor: LogCursor): Recorded {
  return { replicatedLsn, fenced, destagedLsn: destageCursor.lsn - 1, segmentNumber };
}
