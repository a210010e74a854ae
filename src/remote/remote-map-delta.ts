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
  eachRun(overlay, (first, count, place) => {
    for (let block = first; block < first + count;) {
      const shard = Math.floor(block / SHARD_BLOCKS);
      const end = Math.min(first + count, (shard + 1) * SHARD_BLOCKS);
      if (place === ZERO_LOCATION) of(shard).zeroed += end - block;
      else of(shard).written += end - block;
      block = end;
    }
  });
  return changes;
}

/** The delta's columns, without the shards that `skip` names. */
export function deltaOf(overlay: Overlay, skip: (shard: number) => boolean): MapDelta {
  const rows = new DeltaRows();
  eachRun(overlay, (first, count, place) => {
    for (let block = first; block < first + count;) {
      const shard = Math.floor(block / SHARD_BLOCKS);
      const end = Math.min(first + count, (shard + 1) * SHARD_BLOCKS);
      if (!skip(shard)) rows.add(block, end - block, place === ZERO_LOCATION ? place : place + block - first);
      block = end;
    }
  });
  return rows.columns();
}

/** The rows of a delta, neighbours joined. */
class DeltaRows {
  readonly #firsts: number[] = [];
  readonly #counts: number[] = [];
  readonly #places: number[] = [];

  add(first: number, count: number, place: number): void {
    const last = this.#firsts.length - 1;
    const lastCount = this.#counts[last] ?? 0;
    const lastPlace = this.#places[last] ?? 0;
    const follows =
      last >= 0 &&
      (this.#firsts[last] ?? 0) + lastCount === first &&
      lastCount + count <= DELTA_BLOCKS_MAX &&
      (lastPlace === ZERO_LOCATION ? place === ZERO_LOCATION : place === lastPlace + lastCount);
    if (follows) this.#counts[last] = lastCount + count;
    else {
      this.#firsts.push(first);
      this.#counts.push(count);
      this.#places.push(place);
    }
  }

  columns(): MapDelta {
    const isZero = (place: number): boolean => place === ZERO_LOCATION;
    return {
      count: this.#firsts.length,
      firstBlock: Float64Array.from(this.#firsts),
      blockCount: Uint32Array.from(this.#counts),
      segment: Float64Array.from(this.#places, (place) => (isZero(place) ? 0 : Math.floor(place / PLACE_SEGMENT))),
      payload: Uint16Array.from(this.#places, (place) => (isZero(place) ? 0 : place % PLACE_SEGMENT)),
    };
  }
}

/**
 * What the overlay shows, ascending: runs of places that follow each other, and of zeros (place: ZERO_LOCATION). A visitor, since
 * a delta has up to a hundred thousand of them.
 */
function eachRun(overlay: Overlay, visit: (first: BlockNumber, count: number, place: number) => void): void {
  const { table, extents } = overlay;
  const blocks = table.sortedBlocks();
  let at = 0;
  /** Visible table entries below `end`; inside a zero range, what lies between them is zero from `from` on. */
  const upTo = (end: number, from: number | undefined): void => {
    let zeroFrom = from;
    for (let block = blocks[at]; block !== undefined && block < end; block = blocks[++at]) {
      const slot = overlay.lookup(block);
      if (slot < 0) continue;
      const place = table.locationAt(slot);
      if (zeroFrom !== undefined && place !== ZERO_LOCATION) {
        if (block > zeroFrom) visit(zeroFrom, block - zeroFrom, ZERO_LOCATION);
        zeroFrom = block + 1;
      }
      if (zeroFrom === undefined || place !== ZERO_LOCATION) visit(block, 1, place);
    }
    if (zeroFrom !== undefined && end > zeroFrom) visit(zeroFrom, end - zeroFrom, ZERO_LOCATION);
  };
  for (const { start, end } of extents) {
    upTo(start, undefined);
    upTo(end, start);
  }
  upTo(Infinity, undefined);
}
