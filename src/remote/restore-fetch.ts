/**
 * Fetches every live block of a book into a sink: segment by segment, only the frames that hold live blocks, several
 * segments at once within a bound. Each frame's tag and each block's sum is verified before it is handed on (P3).
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB } from '../base/units.js';
import { SUM_REMOTE, SUM_ZERO } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { RemoteBook } from './remote-map-book.js';
import type { MapFile } from './remote-map-file.js';
import type { ObjectSealer } from './seal.js';
import { FRAME_PLAIN_BYTES } from './seal-header.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { MAP_PAGE_BLOCKS, MAP_PAGE_BYTES, MapEntries } from './shard-map.js';
import { livesIn, openTableShard } from './shard-table.js';
import type { SegmentRow } from './shard-table.js';

const MEMORY_BYTES_MAX = 64 * MIB;
const FRAME_BLOCKS = FRAME_PLAIN_BYTES / BLOCK_BYTES;

export interface RestoreProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** Where blocks go; engine/restore-sink.ts implements it. Called one after another. */
export interface BlockSink {
  write(
    firstBlock: number,
    bytes: Uint8Array,
    start: number,
    blockCount: number,
    blockSums: Uint32Array,
    sumsStart: number,
  ): Promise<void>;
}

export interface FetchOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly request: StoreRequest;
  readonly sink: BlockSink;
  readonly log: Log;
  readonly progress: (progress: RestoreProgress) => void;
}

/** Returns how many blocks are lost in the bucket too: they are handed on with the sum 1. */
export async function fetchLive(book: RemoteBook, options: FetchOptions): Promise<number> {
  const rows = liveRows(book, options);
  const state = new FetchState(book.map.file, options, book.mappedBlocks * BLOCK_BYTES);
  const widest = MEMORY_BYTES_MAX / (2 * limits.segmentBytesDefault);
  const lanes = Array.from({ length: Math.min(limits.uploadsInflightMax, widest) }, async () => {
    for (let row = await rows.next(); row.done !== true && !state.failed; row = await rows.next()) {
      await state.segment(row.value);
    }
  });
  const ends = await Promise.allSettled(
    lanes.map(async (lane) => {
      try {
        await lane;
      } catch (error) {
        state.failed = true;
        throw error;
      }
    }),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  state.finish();
  return state.lostBlocks;
}

/** What is staged only is nobody's yet. */
async function* liveRows(book: RemoteBook, options: FetchOptions): AsyncGenerator<SegmentRow, void, undefined> {
  const { store, sealer, request } = options;
  const end = book.staged?.firstNumber ?? Infinity;
  for (const reference of book.table.tableShards) {
    if (!reference.live.some((live) => live > 0)) continue;
    const bytes = await store.get(sealer.names.shard(reference), request);
    for (const row of openTableShard(sealer, reference, bytes)) {
      if (row.number < end && livesIn(reference, row)) yield row;
    }
  }
  for (const { row, liveBlocks } of book.table.tail) if (row.number < end && liveBlocks > 0) yield row;
}

/** Consecutive live blocks of one extent. */
interface LiveRun {
  readonly firstBlock: number;
  readonly blockCount: number;
  readonly payload: number;
}

class FetchState {
  failed = false;
  lostBlocks = 0;
  readonly #map: MapFile;
  readonly #options: FetchOptions;
  readonly #totalBytes: number;
  #doneBytes = 0;
  #writing: Promise<void> = Promise.resolve();

  constructor(map: MapFile, options: FetchOptions, totalBytes: number) {
    this.#map = map;
    this.#options = options;
    this.#totalBytes = totalBytes;
    this.#report();
  }

  async segment(row: SegmentRow): Promise<void> {
    const { store, sealer, request } = this.#options;
    const head = await readSegmentHead(store, sealer, row, request);
    if (head.kind !== 'segment') {
      throw new GatewayError('remote-gap', `segment ${row.epoch}-${row.number} is missing, and its blocks with it`);
    }
    const runs = await this.#liveRuns(head);
    if (runs.length === 0) return;
    const payload = await fetchFrames(head, runs, this.#options);
    const { sums } = head.index;
    for (const run of runs) this.#verify(sealer.names.segment(row), run, payload, sums);
    await this.#write(runs, payload, sums);
  }

  #verify(
    name: string,
    { firstBlock, blockCount, payload: at }: LiveRun,
    payload: Uint8Array,
    sums: Uint32Array,
  ): void {
    const { checksums, log } = this.#options;
    for (let next = 0; next < blockCount; next++) {
      const start = (at + next) * BLOCK_BYTES;
      const bad = checksums.verifyBlocks(payload, start, blockCount - next, firstBlock + next, sums, at + next);
      if (bad < 0) break;
      next += bad;
      if (sums[at + next] !== SUM_REMOTE) {
        const what = `block ${firstBlock + next} does not have the sum that its index states`;
        throw new GatewayError('object-damaged', `${name}: ${what}`);
      }
      this.lostBlocks++;
      log.warn(`block ${firstBlock + next} had rotted before it was replicated: it will read as an error`);
    }
    if (sums.subarray(at, at + blockCount).includes(SUM_ZERO)) {
      throw new GatewayError('object-damaged', `${name}: a payload block has the sum of none`);
    }
  }

  /** Lanes fetch at once; the sink is written by one after another. */
  #write(runs: readonly LiveRun[], payload: Uint8Array, sums: Uint32Array): Promise<void> {
    const { sink } = this.#options;
    this.#writing = this.#writing.then(async () => {
      for (const { firstBlock, blockCount, payload: at } of runs) {
        await sink.write(firstBlock, payload, at * BLOCK_BYTES, blockCount, sums, at);
        this.#doneBytes += blockCount * BLOCK_BYTES;
      }
      this.#report();
    });
    return this.#writing;
  }

  /** Every live block was there. */
  finish(): void {
    if (this.#doneBytes === this.#totalBytes) return;
    throw new GatewayError(
      'object-damaged',
      `the map names ${this.#totalBytes} bytes of live blocks, the segments hold ${this.#doneBytes} of them`,
    );
  }

  #report(): void {
    this.#options.progress({ doneBytes: this.#doneBytes, totalBytes: this.#totalBytes });
  }

  async #liveRuns(segment: OpenedSegment): Promise<LiveRun[]> {
    const { extents } = segment.index;
    const page = new Uint8Array(MAP_PAGE_BYTES);
    const entries = new MapEntries(page);
    const runs: LiveRun[] = [];
    let loaded = -1;
    for (let at = 0; at < extents.count; at++) {
      const first = extents.firstBlock[at] ?? 0;
      const payload = extents.payload[at] ?? 0;
      const count = extents.blockCount[at] ?? 0;
      let begun = -1;
      for (let offset = 0; offset <= count; offset++) {
        let live = false;
        if (offset < count) {
          const block = first + offset;
          const number = Math.floor(block / MAP_PAGE_BLOCKS);
          if (number !== loaded) await this.#map.readPages(number, 1, page, 0);
          loaded = number;
          const entry = block % MAP_PAGE_BLOCKS;
          live = entries.segment(entry) === segment.key.number && entries.payload(entry) === payload + offset;
        }
        if (live && begun < 0) begun = offset;
        if (!live && begun >= 0) {
          runs.push({ firstBlock: first + begun, blockCount: offset - begun, payload: payload + begun });
          begun = -1;
        }
      }
    }
    return runs;
  }
}

/** The payload of a segment, with at least the frames that the runs lie in; neighbouring frames come by one GET. */
async function fetchFrames(
  segment: OpenedSegment,
  runs: readonly LiveRun[],
  options: FetchOptions,
): Promise<Uint8Array> {
  const { store, sealer, request } = options;
  const { frames } = segment;
  const wanted = new Uint8Array(frames.count + 1);
  for (const { payload, blockCount } of runs) {
    const last = Math.floor((payload + blockCount - 1) / FRAME_BLOCKS);
    for (let frame = Math.floor(payload / FRAME_BLOCKS); frame <= last; frame++) wanted[frame] = 1;
  }
  const plain = Buffer.allocUnsafeSlow(segment.index.payloadBlocks * BLOCK_BYTES);
  const name = sealer.names.segment(segment.key);
  for (let first = 0; first < frames.count;) {
    let end = first;
    while (wanted[end] === 1) end++;
    if (end > first) {
      const { start } = frames.range(first);
      const lastRange = frames.range(end - 1);
      const lengthBytes = lastRange.start + lastRange.lengthBytes - start;
      const sealed = await store.get(name, { ...request, range: { start, lengthBytes } });
      for (let frame = first; frame < end; frame++) {
        const range = frames.range(frame);
        const from = range.start - start;
        plain.set(frames.open(frame, sealed.subarray(from, from + range.lengthBytes)), frame * FRAME_PLAIN_BYTES);
      }
    }
    first = end + 1;
  }
  return plain;
}
