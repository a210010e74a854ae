/**
 * The delta of a remote map (remote-map.ts) as the columns that a checkpoint has, and back: an overlay whose "LSN" is a
 * segment number and whose location is a place, segment number * 65536 + payload index.
 */
import type { BlockNumber } from '../base/units.js';
import { ZERO_LOCATION } from '../engine/block-table.js';
import { Overlay } from '../engine/overlay.js';
import { DELTA_BLOCKS_MAX } from './checkpoint.js';
import type { MapDelta } from './checkpoint.js';
import { SHARD_BLOCKS } from './shard-map.js';

/** Exact in a double up to 2^37 segments. */
export const PLACE_SEGMENT = 65_536;

/** `number`: the segment number at or below which all of it is known to be. */
export function overlayOf(delta: MapDelta, number: number): Overlay {
  const overlay = new Overlay();
  for (let at = 0; at < delta.count; at++) {
    const first = delta.firstBlock[at] ?? 0;
    const count = delta.blockCount[at] ?? 0;
    const segment = delta.segment[at] ?? 0;
    if (segment === 0) overlay.zero(first, count, number, false);
    else {
      const place = segment * PLACE_SEGMENT + (delta.payload[at] ?? 0);
      for (let block = 0; block < count; block++) overlay.table.set(first + block, number, place + block, 0);
    }
  }
  return overlay;
}

/** How much of one shard a delta changes. */
export interface ShardChange {
  written: number;
  zeroed: number;
}

/** Every shard that the delta touches. */
export function shardChanges(overlay: Overlay): Map<number, ShardChange> {
  const changes = new Map<number, ShardChange>();
  const of = (shard: number): ShardChange => {
    const known = changes.get(shard);
    if (known !== undefined) return known;
    const fresh = { written: 0, zeroed: 0 };
    changes.set(shard, fresh);
    return fresh;
  };
  for (const { first, count, place } of runsOf(overlay)) {
    for (let block = first; block < first + count;) {
      const shard = Math.floor(block / SHARD_BLOCKS);
      const end = Math.min(first + count, (shard + 1) * SHARD_BLOCKS);
      if (place === ZERO_LOCATION) of(shard).zeroed += end - block;
      else of(shard).written += end - block;
      block = end;
    }
  }
  return changes;
}

/** The delta's columns, without the shards that `skip` names. */
export function deltaOf(overlay: Overlay, skip: (shard: number) => boolean): MapDelta {
  const rows: { first: number; count: number; place: number }[] = [];
  for (const run of runsOf(overlay)) {
    for (let block = run.first; block < run.first + run.count;) {
      const shard = Math.floor(block / SHARD_BLOCKS);
      const end = Math.min(run.first + run.count, (shard + 1) * SHARD_BLOCKS);
      if (!skip(shard))
        addRow(rows, block, end - block, run.place === ZERO_LOCATION ? run.place : run.place + block - run.first);
      block = end;
    }
  }
  return {
    count: rows.length,
    firstBlock: Float64Array.from(rows, ({ first }) => first),
    blockCount: Uint32Array.from(rows, ({ count }) => count),
    segment: Float64Array.from(rows, ({ place }) => (place === ZERO_LOCATION ? 0 : Math.floor(place / PLACE_SEGMENT))),
    payload: Uint16Array.from(rows, ({ place }) => (place === ZERO_LOCATION ? 0 : place % PLACE_SEGMENT)),
  };
}

function addRow(
  rows: { first: number; count: number; place: number }[],
  first: number,
  count: number,
  place: number,
): void {
  const last = rows.at(-1);
  const follows =
    last !== undefined &&
    last.first + last.count === first &&
    last.count + count <= DELTA_BLOCKS_MAX &&
    (last.place === ZERO_LOCATION ? place === ZERO_LOCATION : place === last.place + last.count);
  if (follows) last.count += count;
  else rows.push({ first, count, place });
}

interface Run {
  readonly first: BlockNumber;
  readonly count: number;
  readonly place: number;
}

/** What the overlay shows, ascending: runs of places that follow each other, and of zeros. */
function* runsOf(overlay: Overlay): Generator<Run, void, undefined> {
  const { table, extents } = overlay;
  const blocks = table.sortedBlocks();
  let at = 0;
  /** Visible table entries below `end`; inside a zero range, what lies between them is zero from `from` on. */
  function* upTo(end: number, from: number | undefined): Generator<Run, void, undefined> {
    let zeroFrom = from;
    for (let block = blocks[at]; block !== undefined && block < end; block = blocks[++at]) {
      const slot = overlay.lookup(block);
      if (slot < 0) continue;
      const place = table.locationAt(slot);
      if (zeroFrom !== undefined && place !== ZERO_LOCATION) {
        if (block > zeroFrom) yield { first: zeroFrom, count: block - zeroFrom, place: ZERO_LOCATION };
        zeroFrom = block + 1;
      }
      if (zeroFrom === undefined || place !== ZERO_LOCATION) yield { first: block, count: 1, place };
    }
    if (zeroFrom !== undefined && end > zeroFrom)
      yield { first: zeroFrom, count: end - zeroFrom, place: ZERO_LOCATION };
  }
  for (const { start, end } of extents) {
    yield* upTo(start, undefined);
    yield* upTo(end, start);
  }
  yield* upTo(Infinity, undefined);
}
