/**
 * What one volume asks of its bucket, in requests: the one model behind `doctor --cost` and docs/scale.md. Steady
 * state, no failures. Each figure is an upper bound or close to it where it depends on what is overwritten; how far a
 * real gateway is from it is held by test/scale.
 */
import { BLOCK_BYTES } from '../base/units.js';
import { limits } from '../base/limits.js';
import { DELTA_ENTRIES_MAX, REWRITE_BLOCKS } from '../remote/checkpoint-plan.js';
import { AGE_MS_DUE, LIVE_SHARE_DUE, SEGMENTS_DUE } from '../remote/checkpoint-writer.js';
import { CHECKPOINTS_KEPT } from '../remote/kept-checkpoints.js';
import { SHARD_BLOCKS, SHARD_BYTES } from '../remote/shard-map.js';
import { TABLE_SHARD_NUMBERS } from '../remote/shard-table.js';
import { RACERS } from '../remote/store-probe.js';

export const SECONDS_PER_DAY = 86_400;
/** Bytes that compaction sends for each that is written, under random overwriting of all that lives (docs/performance.md). */
export const MOVED_SHARE_MAX = 1.27;
/** Bytes in the bucket for each that lives, where compaction is on: a little over what was measured. */
export const STORED_SHARE_MAX = 1.7;
/** An extent of the delta in a checkpoint's root. */
const DELTA_EXTENT_BYTES = 18;

export interface VolumeLoad {
  readonly liveBytes: number;
  /** Sent in a day, after coalescing. */
  readonly changesBytesPerDay: number;
  readonly objectBytes: number;
  /** A group is sent when its oldest write is so old. */
  readonly intervalSeconds: number;
  /** Moments at which something is written, whenever they come; default: each block at its own. */
  readonly writesPerDay?: number;
  /** Of a day, in which all of it is written; default: the whole. */
  readonly activeSeconds?: number;
  /** What the changes are spread over evenly; default: all that lives. */
  readonly spreadBytes?: number;
  /** Bytes that compaction moves for each that is written; 0 with `compaction: off`; default: the most. */
  readonly movedShare?: number;
}

/** Requests in a day, by what they are for. PUTs unless it says otherwise. */
export interface DailyRequests {
  readonly segments: number;
  readonly compacted: number;
  readonly checkpoints: number;
  readonly mapShards: number;
  readonly tableShards: number;
  /** GETs: the head of each segment that compaction empties; its blocks come from the local copy. */
  readonly gets: number;
  readonly lists: number;
  readonly deletes: number;
  /** Bytes of checkpoints and shards, which come on top of the blocks. */
  readonly mapBytes: number;
}

/** Requests of one occasion. */
export interface Requests {
  readonly puts: number;
  readonly gets: number;
  readonly lists: number;
  readonly deletes: number;
}

export function dailyRequests(load: VolumeLoad): DailyRequests {
  const { liveBytes, changesBytesPerDay, objectBytes } = load;
  const { activeSeconds = SECONDS_PER_DAY, spreadBytes = liveBytes, movedShare = MOVED_SHARE_MAX } = load;
  const segments = segmentsPerDay(load);
  if (segments === 0) return nothing;
  const movedBytes = changesBytesPerDay * movedShare;
  const compacted = movedBytes / objectBytes;
  const sentBytes = changesBytesPerDay + movedBytes;
  const checkpoints = activeSeconds / checkpointSeconds(load, { activeSeconds, segments, compacted, sentBytes });
  const changedEntries = sentBytes / BLOCK_BYTES;
  const shards = Math.max(1, Math.ceil(spreadBytes / (SHARD_BLOCKS * BLOCK_BYTES)));
  // A shard takes its changes along from checkpoint to checkpoint until it has too many, or, where the delta is full, until
  // it is one of the most changed ones: those that stay have between none and that many.
  const changedAtOnce = changedEntries / checkpoints / shards;
  const entriesPerShard = Math.min(
    REWRITE_BLOCKS + changedAtOnce / 2,
    (2 * DELTA_ENTRIES_MAX) / shards + changedAtOnce,
  );
  const isRewritten = spreadBytes / BLOCK_BYTES / shards > entriesPerShard;
  const mapShards = isRewritten ? changedEntries / entriesPerShard : 0;
  const tableShards = (segments + compacted) / TABLE_SHARD_NUMBERS;
  const deltaEntries = Math.min(DELTA_ENTRIES_MAX, (shards * REWRITE_BLOCKS) / 2, spreadBytes / BLOCK_BYTES);
  const puts = segments + compacted + checkpoints + mapShards + tableShards;
  const deleting = movedShare > 0;
  return {
    segments,
    compacted,
    checkpoints,
    mapShards,
    tableShards,
    gets: deleting ? segments + compacted : 0,
    // Pins, once or twice for each checkpoint, whose oldest predecessor goes; and one look through the bucket.
    lists: deleting ? 2 * checkpoints + lookThrough(load) : 0,
    deletes: deleting ? puts : 0,
    mapBytes: mapShards * SHARD_BYTES + checkpoints * deltaEntries * DELTA_EXTENT_BYTES,
  };
}

const nothing: DailyRequests = {
  segments: 0,
  compacted: 0,
  checkpoints: 0,
  mapShards: 0,
  tableShards: 0,
  gets: 0,
  lists: 0,
  deletes: 0,
  mapBytes: 0,
};

function segmentsPerDay(load: VolumeLoad): number {
  const { changesBytesPerDay, objectBytes, intervalSeconds, activeSeconds = SECONDS_PER_DAY } = load;
  const { writesPerDay: writes = changesBytesPerDay / BLOCK_BYTES } = load;
  if (writes === 0) return 0;
  // The clock of a group starts with its first write, which comes a gap after the last group was cut.
  const groups = activeSeconds / (intervalSeconds + activeSeconds / writes);
  return Math.max(groups, changesBytesPerDay / objectBytes);
}

/** What of a day's requests is billed as a PUT: listings are, with every provider. */
export function dailyPuts({ segments, compacted, checkpoints, mapShards, tableShards, lists }: DailyRequests): number {
  return segments + compacted + checkpoints + mapShards + tableShards + lists;
}

/** Between two checkpoints: by age, by segments or by bytes, and never more than one for a commit. */
function checkpointSeconds(
  { liveBytes, objectBytes }: VolumeLoad,
  day: { activeSeconds: number; segments: number; compacted: number; sentBytes: number },
): number {
  const { activeSeconds, segments, compacted, sentBytes } = day;
  const commitSeconds = activeSeconds / (segments + compacted);
  const bytesDue = Math.max(liveBytes * LIVE_SHARE_DUE, 2 * objectBytes);
  const due = Math.min(
    AGE_MS_DUE / 1000 + commitSeconds / 2,
    SEGMENTS_DUE * commitSeconds,
    (bytesDue / sentBytes) * activeSeconds,
  );
  return Math.max(due, commitSeconds);
}

/** Pages of a listing of everything that a volume has, and of probes that were left behind. */
function lookThrough(load: VolumeLoad): number {
  return Math.ceil(objectsOf(load) / limits.listingKeysMax) + 1;
}

/**
 * Objects in the bucket with compaction: what was sent by the clock is small, and stays until half of it was overwritten,
 * at random; everything else was sent, or moved, as whole segments.
 */
export function objectsOf(load: VolumeLoad): number {
  const { liveBytes, changesBytesPerDay, objectBytes, spreadBytes = liveBytes } = load;
  const daysUntilHalfDead = changesBytesPerDay === 0 ? 0 : (Math.LN2 * spreadBytes) / changesBytesPerDay;
  const whole = (liveBytes * STORED_SHARE_MAX) / objectBytes;
  const shards = liveBytes / (SHARD_BLOCKS * BLOCK_BYTES);
  return Math.ceil(segmentsPerDay(load) * daysUntilHalfDead + whole + shards) + CHECKPOINTS_KEPT;
}

/**
 * A start of a gateway, for each volume that is then written: the probe of conditional PUTs, key, volume and head; then
 * which version wrote the newest epoch and checkpoint, the next epoch, its fence, and what was committed since the last
 * checkpoint; and the listings that deletion begins with. A volume that is not written stops before the epoch.
 */
export function startRequests(options: {
  readonly segmentsSinceCheckpoint: number;
  readonly objects: number;
}): Requests {
  const { segmentsSinceCheckpoint, objects } = options;
  const probe = RACERS + 1;
  return {
    puts: probe + 2,
    gets: 6 + segmentsSinceCheckpoint + 1 + CHECKPOINTS_KEPT,
    // Keys, epochs, checkpoints five times, everything, and probes that were left behind.
    lists: 7 + Math.ceil(objects / limits.listingKeysMax) + 1,
    deletes: 1,
  };
}

/** Another volume under the same prefix that is looked at for its name: a step of the listing; key and volume. */
const LISTS_PER_OTHER = 1;
const GETS_PER_OTHER = 2;

/**
 * The first start of a new volume, which looks whether any of the others under the prefix has its name. Volumes that one
 * gateway creates at once look once for all of them.
 */
export function createRequests(othersUnderPrefix: number): Requests {
  return {
    // The probe; key, volume, epoch.
    puts: RACERS + 1 + 3,
    gets: 3 + GETS_PER_OTHER * othersUnderPrefix,
    lists: 6 + LISTS_PER_OTHER * othersUnderPrefix,
    deletes: 1,
  };
}

/** A whole restore by name: two GETs for each segment that has live blocks, more where these are scattered in it. */
export function restoreRequests(options: {
  readonly segments: number;
  readonly mapShards: number;
  /** Ranges of neighbouring frames with live blocks in a segment. */
  readonly rangesPerSegment?: number;
  /** Whose heads are read once more: the chain behind the newest checkpoint. */
  readonly segmentsSinceCheckpoint?: number;
  readonly othersUnderPrefix?: number;
}): Requests {
  const { segments, mapShards, rangesPerSegment = 1, segmentsSinceCheckpoint = 0, othersUnderPrefix = 0 } = options;
  const tableShards = Math.floor(segments / TABLE_SHARD_NUMBERS);
  return {
    puts: 2,
    gets:
      4 +
      mapShards +
      tableShards +
      segments * (1 + rangesPerSegment) +
      segmentsSinceCheckpoint +
      GETS_PER_OTHER * othersUnderPrefix,
    // The keys of each are listed too.
    lists: 4 + (LISTS_PER_OTHER + 1) * othersUnderPrefix,
    deletes: 2,
  };
}
