/** Which segments are worth compacting: a pure decision over live counts, taken after each checkpoint has counted. */

/** A segment of the valid history. */
export interface SegmentLife {
  readonly number: number;
  readonly live: number;
  /** Payload blocks, live or dead. */
  readonly payload: number;
}

/** Compaction starts where half of a segment is dead. */
const LIVE_SHARE_MAX = 0.5;
/** With more than this stored for each live block, compaction takes turns with normal groups instead of waiting for a lull. */
const STORED_SHARE_MAX = 1.4;

export interface CompactionPlan {
  /** Segment numbers, the emptiest first; none that is wholly dead: those are only deleted. */
  readonly sources: readonly number[];
  readonly urgent: boolean;
}

export function planCompaction(segments: Iterable<SegmentLife>): CompactionPlan {
  const sparse: SegmentLife[] = [];
  let live = 0;
  let stored = 0;
  for (const segment of segments) {
    live += segment.live;
    if (segment.live > 0) stored += segment.payload;
    if (segment.live > 0 && segment.live <= segment.payload * LIVE_SHARE_MAX) sparse.push(segment);
  }
  sparse.sort((left, right) => left.live / left.payload - right.live / right.payload || left.number - right.number);
  return { sources: sparse.map(({ number }) => number), urgent: stored > live * STORED_SHARE_MAX };
}
