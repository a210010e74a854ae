/**
 * Reads every live block that the bucket holds, and what leads to it: roots, shards of the map and of the segment table
 * (remote-scrub-shard.ts). Says what is missing or damaged, who needs it, and which blocks of the volume live in it, so that
 * their owner can send those again. Reads only; the store's budget paces it.
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
import type { SegmentKey } from './name.js';
import { epochOf } from './checkpoint.js';
import { ShardScrub } from './remote-scrub-shard.js';
import type { DamagedSegment } from './remote-scrub-shard.js';
import { isDamage } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { readPayload, readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { MapEntries, SHARD_BLOCKS, SHARD_BYTES } from './shard-map.js';
import { isOfRow, livesIn, TABLE_SHARD_NUMBERS } from './shard-table.js';
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
  /** Whoever restores the newest recovery point needs it, until there is a newer checkpoint. */
  readonly current: boolean;
  /** An older checkpoint needs it, or is it. */
  readonly older: boolean;
  /** Snapshots that need it. */
  readonly snapshots: readonly string[];
}

export interface RemoteScrub {
  /** Blocks that were read. */
  readonly blocks: number;
  readonly damages: readonly RemoteDamage[];
}

/** A segment that somebody needs. */
interface Wanted extends SegmentKey {
  /** undefined: the shard of the table that has it is damaged, and the segment speaks for itself. */
  readonly row: SegmentRow | undefined;
  /** Those of its payload; 0: only the chain leads through it. */
  readonly blocks: number;
}

export async function scrubRemote(options: RemoteScrubOptions): Promise<RemoteScrub> {
  const { keeper, sealer, progress } = options;
  const view = await keeper.use((book) => Promise.resolve(viewOf(book)));
  const damaged = new Map<number, DamagedSegment>();
  const shards = new ShardScrub(view, damaged, options);
  const wanted = await wantedSegments(view, shards);
  const blocks = wanted.reduce((sum, segment) => sum + segment.blocks, 0);
  const totalBytes = blocks * BLOCK_BYTES + view.mapShards.length * SHARD_BYTES;
  let doneBytes = 0;
  const done = (lengthBytes: number): void => progress((doneBytes += lengthBytes), totalBytes);
  for (const shard of view.mapShards) {
    await shards.mapShard(shard);
    done(SHARD_BYTES);
  }
  const read: OpenedSegment[] = [];
  for (const segment of wanted) {
    const found = await readWhole(segment, options);
    if (typeof found === 'string')
      damaged.set(segment.number, { object: sealer.names.segment(segment), problem: found });
    else read.push(found);
    if (read.length >= SEGMENTS_PER_TURN) await tellLive(read.splice(0), options);
    done(segment.blocks * BLOCK_BYTES);
  }
  await tellLive(read, options);
  await shards.roots();
  return { blocks, damages: await damagesOf(damaged, shards, options) };
}

/** What the newest checkpoint and all behind it need, without waiting for the store. */
function viewOf({ root, snapshots, epochs, mapShards, table }: RemoteBook) {
  return {
    root,
    snapshots,
    epochs: [...epochs],
    mapShards: [...mapShards.values()],
    tableShards: table.tableShards.map((shard) => ({ ...shard, live: shard.live.slice() })),
    tail: table.tail,
  };
}

/** Segments in which blocks live, and all behind the newest checkpoint, which a restore walks through. */
async function wantedSegments(
  { root, epochs, tableShards, tail }: ReturnType<typeof viewOf>,
  shards: ShardScrub,
): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for (const shard of tableShards) {
    const rows = await shards.tableShard(shard);
    for (const row of rows ?? [])
      if (livesIn(shard, row)) wanted.push({ epoch: row.epoch, number: row.number, row, blocks: row.payloadBlocks });
    if (rows !== undefined) continue;
    for (const [at, blocks] of shard.live.entries()) {
      const number = shard.tableIndex * TABLE_SHARD_NUMBERS + at;
      if (blocks > 0) wanted.push({ epoch: epochOf(epochs, number), number, row: undefined, blocks });
    }
  }
  for (const { row, liveBlocks } of tail) {
    const { epoch, number } = row;
    if (liveBlocks > 0) wanted.push({ epoch, number, row, blocks: row.payloadBlocks });
    else if (number > (root?.number ?? 0)) wanted.push({ epoch, number, row, blocks: 0 });
  }
  return wanted;
}

/** All that is damaged and needed still. */
async function damagesOf(
  segments: ReadonlyMap<number, DamagedSegment>,
  shards: ShardScrub,
  { keeper, createdSizeBytes }: RemoteScrubOptions,
): Promise<RemoteDamage[]> {
  const damages = new Map<string, RemoteDamage>();
  for (const { object, problem, needed } of await shards.damages())
    damages.set(object, { object, problem, ...needed, blocks: [], snapshots: [...needed.snapshots] });
  if (segments.size > 0)
    await keeper.use(async (book) => {
      const living = await blocksIn(book, segments, createdSizeBytes);
      for (const [number, { object, problem }] of segments) {
        const blocks = living.get(number) ?? [];
        if (blocks.length === 0 && number <= (book.root?.number ?? 0)) continue;
        const { snapshots = [], older = false } = damages.get(object) ?? {};
        damages.set(object, { object, problem, blocks, current: true, older, snapshots });
      }
    });
  return [...damages.values()];
}

/** The segment, which is sound; else what is wrong with it. */
async function readWhole(segment: Wanted, options: RemoteScrubOptions): Promise<OpenedSegment | string> {
  const { store, sealer, request } = options;
  const { epoch, number, row, blocks } = segment;
  const name = sealer.names.segment(segment);
  try {
    const head = await readSegmentHead(store, sealer, { epoch, number }, request);
    if (head.kind === 'absent') return `${name}: it is missing`;
    if (head.kind !== 'segment' || (row !== undefined && !isOfRow(row, head))) {
      return `${name}: another object lies in its place`;
    }
    if (blocks === 0) return head;
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
  wanted: ReadonlyMap<number, unknown>,
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
