/** Which shards of the map a checkpoint writes anew, and which changes go into its delta: a pure decision. */
import type { ShardChange } from './remote-map-delta.js';
import { SHARD_BLOCKS } from './shard-map.js';

/** A shard whose delta is larger than this is written anew: 1/8 of its blocks. */
export const REWRITE_BLOCKS = SHARD_BLOCKS / 8;
/** Entries of a delta, about; beyond, the most changed shards are written anew, to bound memory and the root. */
export const DELTA_ENTRIES_MAX = 131_072;

export interface ShardPlan {
  readonly rewritten: readonly number[];
  /** All their blocks read as zero now: no shard and no delta. */
  readonly dropped: readonly number[];
  /** Their changes travel in the delta. */
  readonly kept: ReadonlySet<number>;
}

export interface ShardLimits {
  /** Default: REWRITE_BLOCKS. */
  readonly rewriteBlocks?: number | undefined;
  /** Default: DELTA_ENTRIES_MAX. */
  readonly deltaEntriesMax?: number | undefined;
}

/** `again`: shards that must be written anew whatever has changed in them. */
export function planShards(
  changes: ReadonlyMap<number, ShardChange>,
  exists: (shard: number) => boolean,
  again: ReadonlySet<number> = new Set(),
  { rewriteBlocks = REWRITE_BLOCKS, deltaEntriesMax = DELTA_ENTRIES_MAX }: ShardLimits = {},
): ShardPlan {
  const rewritten: number[] = [...again].filter((shard) => !changes.has(shard));
  const dropped: number[] = [];
  const kept: { readonly shard: number; readonly entries: number }[] = [];
  let entries = 0;
  for (const [shard, { written, zeroed }] of changes) {
    if (written === 0 && (zeroed === SHARD_BLOCKS || !exists(shard))) dropped.push(shard);
    else if (written + zeroed > rewriteBlocks || again.has(shard)) rewritten.push(shard);
    else {
      kept.push({ shard, entries: written + zeroed });
      entries += written + zeroed;
    }
  }
  kept.sort((left, right) => left.entries - right.entries);
  for (let most = kept.at(-1); most !== undefined && entries > deltaEntriesMax; most = kept.at(-1)) {
    kept.pop();
    rewritten.push(most.shard);
    entries -= most.entries;
  }
  return { rewritten: rewritten.sort((a, b) => a - b), dropped, kept: new Set(kept.map(({ shard }) => shard)) };
}
