/**
 * How far the bucket is, as a life of the replicator knows it. What changes here is told to the volume, which records it and
 * lets go of the log (P4): so nothing is said before all that it covers is acknowledged.
 */
import type { LogCursor, ReplicationState } from '../ports/replication.js';
import type { Lsn } from '../base/units.js';
import type { FromReplicator } from './replication-messages.js';
import type { ChainPoint } from './segment-point.js';

export class ReplicatorProgress {
  #state: ReplicationState;
  readonly #emit: (message: FromReplicator) => void;

  constructor(state: ReplicationState, emit: (message: FromReplicator) => void) {
    this.#state = state;
    this.#emit = emit;
  }

  get state(): ReplicationState {
    return this.#state;
  }

  /** The log does not hold what the bucket lacks. */
  get tracking(): boolean {
    return this.#state.keeping === 'tracking';
  }

  /** The newest recovery point is this one. */
  committed(point: ChainPoint, cursor: LogCursor, lastLsn: Lsn, staged = this.#state.staged): void {
    this.#tell({
      ...(staged === undefined ? {} : { staged }),
      replicatedLsn: Math.max(lastLsn, this.#state.replicatedLsn),
      cursor,
      remoteEpoch: point.epoch,
      segmentNumber: point.number,
      // A copy of its own: a view would drag its whole buffer through structured clone.
      chainHead: Uint8Array.from(point.link),
    });
  }

  /** The log up to there holds nothing that the bucket lacks. */
  passedOver(lastLsn: Lsn, cursor: LogCursor): void {
    // Before the first segment there is nothing that the state could be checked against at the next start.
    if (this.#state.segmentNumber === 0 || lastLsn <= this.#state.replicatedLsn) return;
    this.#tell({ replicatedLsn: lastLsn, cursor });
  }

  /** A start knows no more of a round that was begun than that it goes on. */
  goesOn(staged: NonNullable<ReplicationState['staged']>): void {
    this.#tell({ staged });
  }

  applied(mapAppliedThrough: number): void {
    this.#tell({ mapAppliedThrough });
  }

  tookOver(): void {
    this.#tell({ fenced: false });
  }

  /** The volume knows it already: it ended the round. */
  roundEnded(end: Pick<ReplicationState, 'keeping' | 'cursor'> | undefined): void {
    this.#state = { ...this.#state, ...end };
  }

  fenced(reason: string): void {
    this.#state = { ...this.#state, fenced: true };
    this.#emit({ type: 'fenced', state: this.#state, reason });
  }

  #tell(change: Partial<ReplicationState>): void {
    this.#state = { ...this.#state, ...change };
    this.#emit({ type: 'state', state: this.#state });
  }
}
