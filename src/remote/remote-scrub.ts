/**
 * Reads every live block that the bucket holds, and says which segments are missing or damaged and which blocks of the
 * volume live in them, so that their owner can send those again. Reads only; the store's budget paces it.
 *
 * A segment that dies meanwhile may be gone: it counts only if blocks still live in it when all was read.
 *
 * A turn at the book can take as long as a checkpoint that is being written, so it is taken once for many segments.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { BookKeeper } from './book-keeper.js';
import type { RemoteBook } from './remote-map-book.js';
import { isDamage } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { readPayload, readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { MapEntries, SHARD_BLOCKS } from './shard-map.js';
import { isOfRow, livesIn, openTableShard } from './shard-table.js';
import type { SegmentRow } from './shard-table.js';

/** Their indexes are held meanwhile, some ten KiB each; and whoever hears of their blocks looks at each of those. */
const SEGMENTS_PER_TURN = 8;

export interface RemoteScrubOptions {
  readonly keeper: BookKeeper;
  /** Gives up after a few attempts. */
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly createdSizeBytes: number;
  readonly request: StoreRequest;
  readonly progress: (doneBytes: number, totalBytes: number) => void;
  /** Blocks whose newest remote copy was read, and their block sums. */
  readonly live: (blocks: Float64Array, sums: Uint32Array) => void;
}

export interface RemoteDamage {
  /** Its name in the bucket. */
  readonly object: string;
  readonly problem: string;
  /** Blocks of the volume whose only remote copy was there. */
  readonly blocks: readonly BlockNumber[];
}

export interface RemoteScrub {
  /** Blocks that were read. */
  readonly blocks: number;
  readonly damages: readonly RemoteDamage[];
}

export async function scrubRemote(options: RemoteScrubOptions): Promise<RemoteScrub> {
  const { keeper, sealer, progress } = options;
  const { rows, damages } = await keeper.use((book) => liveRows(book, options));
  const total = rows.reduce((sum, { payloadBlocks }) => sum + payloadBlocks, 0);
  const problems = new Map<number, string>();
  let done = 0;
  const read: OpenedSegment[] = [];
  for (const row of rows) {
    const found = await readWhole(row, options);
    if (typeof found === 'string') problems.set(row.number, found);
    else read.push(found);
    if (read.length >= SEGMENTS_PER_TURN) await tellLive(read.splice(0), options);
    done += row.payloadBlocks;
    progress(done * BLOCK_BYTES, total * BLOCK_BYTES);
  }
  await tellLive(read, options);
  if (problems.size > 0) {
    const living = await keeper.use((book) => blocksIn(book, problems, options.createdSizeBytes));
    for (const row of rows) {
      const [problem, blocks] = [problems.get(row.number), living.get(row.number)];
      if (problem !== undefined && blocks !== undefined)
        damages.push({ object: sealer.names.segment(row), problem, blocks });
    }
  }
  return { blocks: total, damages };
}

async function liveRows(
  book: RemoteBook,
  { store, sealer, request }: RemoteScrubOptions,
): Promise<{ rows: SegmentRow[]; damages: RemoteDamage[] }> {
  const damages: RemoteDamage[] = [];
  const rows = book.table.tail.filter(({ liveBlocks }) => liveBlocks > 0).map(({ row }) => row);
  for (const shard of book.table.tableShards) {
    const name = sealer.names.shard(shard);
    try {
      const all = openTableShard(sealer, shard, await store.get(name, request));
      rows.push(...all.filter((row) => livesIn(shard, row)));
    } catch (error) {
      if (!isDamage(error)) throw error;
      damages.push({ object: name, problem: error.message, blocks: [] });
    }
  }
  return { rows, damages };
}

/** The segment, which is sound; else what is wrong with it. */
async function readWhole(row: SegmentRow, options: RemoteScrubOptions): Promise<OpenedSegment | string> {
  const { store, sealer, request } = options;
  const name = sealer.names.segment(row);
  try {
    const head = await readSegmentHead(store, sealer, row, request);
    if (head.kind === 'absent') return `${name}: it is missing`;
    if (head.kind !== 'segment' || !isOfRow(row, head)) {
      return `${name}: another object lies in its place`;
    }
    return sumProblem(head, await readPayload(store, sealer, head, request), options) ?? head;
  } catch (error) {
    if (isDamage(error)) return error.message;
    // The table that names it is of this version, and whoever wrote that had read it.
    if (error instanceof GatewayError && error.code === 'format-newer')
      return `${name}: its header says a newer format version than it was sent with`;
    throw error;
  }
}

async function tellLive(segments: readonly OpenedSegment[], { keeper, live }: RemoteScrubOptions): Promise<void> {
  if (segments.length === 0) return;
  await keeper.use(async (book) => {
    for (const segment of segments) await tellSegment(book, segment, live);
  });
}

async function tellSegment(
  { map }: RemoteBook,
  { key, index }: OpenedSegment,
  live: RemoteScrubOptions['live'],
): Promise<void> {
  const blocks: number[] = [];
  const sums: number[] = [];
  const { extents } = index;
  for (let at = 0; at < extents.count; at++) {
    for (let run = 0; run < (extents.blockCount[at] ?? 0); run++) {
      const block = (extents.firstBlock[at] ?? 0) + run;
      const payload = (extents.payload[at] ?? 0) + run;
      const place = await map.place(block);
      if (place?.segment !== key.number || place.payload !== payload) continue;
      blocks.push(block);
      sums.push(index.sums[payload] ?? 0);
    }
  }
  live(Float64Array.from(blocks), Uint32Array.from(sums));
}

/** What was sealed must be what its index says: rot before the sealing passes every tag. */
function sumProblem(
  { key, index }: OpenedSegment,
  payload: Uint8Array,
  { checksums, sealer }: RemoteScrubOptions,
): string | undefined {
  const { extents, sums } = index;
  for (let at = 0; at < extents.count; at++) {
    const [first = 0, count = 0, start = 0] = [extents.firstBlock[at], extents.blockCount[at], extents.payload[at]];
    const bad = checksums.verifyBlocks(payload, start * BLOCK_BYTES, count, first, sums, start);
    if (bad >= 0) return `${sealer.names.segment(key)}: a block of it had rotted before it was sent`;
  }
  return undefined;
}

/** Blocks of the volume that live in any of the segments, by segment number. */
async function blocksIn(
  book: RemoteBook,
  wanted: ReadonlyMap<number, string>,
  createdSizeBytes: number,
): Promise<Map<number, BlockNumber[]>> {
  const found = new Map<number, BlockNumber[]>();
  const shards = Math.ceil((book.sizeBytes ?? createdSizeBytes) / BLOCK_BYTES / SHARD_BLOCKS);
  for (let shard = 0; shard < shards; shard++) {
    const entries = new MapEntries(await book.map.merged(shard));
    for (let at = 0; at < SHARD_BLOCKS; at++) {
      const number = entries.segment(at);
      if (number === 0 || !wanted.has(number)) continue;
      const blocks = found.get(number) ?? [];
      blocks.push(shard * SHARD_BLOCKS + at);
      found.set(number, blocks);
    }
  }
  return found;
}
