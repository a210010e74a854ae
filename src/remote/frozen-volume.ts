/**
 * A volume at one recovery point, read from the bucket (ports/hydration.ts). The map says in which segment a block lies,
 * the segment's index vouches for its content, and ranged GETs bring the frames that hold it; whatever else of the
 * recovery point lies in those frames comes along. Nothing is handed on that was not authenticated, found where the map
 * says, and checked against its block sum (P3): what is missing or damaged is an error that names the object.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import { SUM_REMOTE, SUM_ZERO } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { FrozenRun, FrozenVolume } from '../ports/hydration.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { FrameFetch } from './frame-fetch.js';
import type { FrozenBook } from './frozen-book.js';
import type { ObjectSealer } from './seal.js';
import { FRAME_PLAIN_BYTES } from './seal-header.js';
import type { OpenedSegment } from './segment-reader.js';
import type { SegmentRow } from './shard-table.js';

export const FRAME_BLOCKS = FRAME_PLAIN_BYTES / BLOCK_BYTES;
/** Segments that one fetch reads from at a time. */
const LANES = 8;
/** With more frames than this, a fetch keeps of those that hold little of it only what it is for: bounds its memory. */
const WHOLE_FRAMES_MAX = 8;

export interface FrozenVolumeOptions {
  readonly book: FrozenBook;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  /** For reads on demand; repeats what fails until the request is aborted. */
  readonly store: ObjectStore;
}

/** Where somebody reads to, and whether others may want the same right after. */
export interface ReadLane {
  readonly store: ObjectStore;
  readonly request: StoreRequest;
  readonly keep: boolean;
}

export interface ReadOutcome {
  readonly runs: readonly FrozenRun[];
  /** Why not all is among them. */
  readonly failure: Error | undefined;
}

interface Wanted {
  readonly block: BlockNumber;
  readonly payload: number;
}

export class BucketVolume implements FrozenVolume {
  readonly book: FrozenBook;
  readonly #options: FrozenVolumeOptions;
  readonly #frames: FrameFetch;
  #fetching = 0;
  #idle: (() => void)[] = [];

  constructor(options: FrozenVolumeOptions) {
    this.#options = options;
    this.book = options.book;
    this.#frames = new FrameFetch(options.sealer);
  }

  async fetch(first: BlockNumber, count: number, request: StoreRequest): Promise<readonly FrozenRun[]> {
    this.#fetching++;
    try {
      const { runs, failure } = await this.read(first, count, { store: this.#options.store, request, keep: true });
      if (failure !== undefined) throw failure;
      return runs;
    } finally {
      this.#fetching--;
      if (this.#fetching === 0) for (const wake of this.#idle.splice(0)) wake();
    }
  }

  mapped(first: BlockNumber, count: number, request: StoreRequest): Promise<Uint8Array<ArrayBuffer>> {
    return this.book.map.mapped(first, count, request);
  }

  /** Resolves when nobody fetches on demand. */
  async idle(): Promise<void> {
    if (this.#fetching > 0) await new Promise<void>((resolve) => void this.#idle.push(resolve));
  }

  /** As fetch, for whoever is in no hurry, and can use what there is where segments are damaged. */
  async read(first: BlockNumber, count: number, lane: ReadLane): Promise<ReadOutcome> {
    const { runs, segments } = await this.#places(first, count, lane.request);
    const frames = new Set<string>();
    for (const [segment, blocks] of segments) {
      for (const { payload } of blocks) frames.add(`${segment}/${Math.floor(payload / FRAME_BLOCKS)}`);
    }
    const whole = frames.size <= WHOLE_FRAMES_MAX;
    const left = segments.entries();
    let failure: Error | undefined;
    const work = async (): Promise<void> => {
      for (const [segment, blocks] of left) {
        try {
          const row = await this.book.table.row(segment, lane.request);
          runs.push(...(await this.#fromSegment(row, blocks, whole, lane)));
        } catch (error) {
          failure ??= error instanceof Error ? error : new Error(String(error));
          if (!isOfOneObject(error)) return;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(LANES, segments.size) }, work));
    return { runs, failure };
  }

  /** The index of a segment, which has to be there. */
  head(row: SegmentRow, lane: ReadLane): Promise<OpenedSegment> {
    return this.#frames.head(row, lane.store, lane.request);
  }

  /** What of the recovery point lies in these frames of a segment, as far as `isThere` says so; `frames` ascend. */
  async frames(
    segment: OpenedSegment,
    row: SegmentRow,
    frames: readonly number[],
    isThere: (block: BlockNumber, payload: number) => boolean,
    lane: ReadLane,
  ): Promise<FrozenRun[]> {
    const bytes = await this.#frames.frames(row, frames, lane);
    return frames.flatMap((frame, at) => this.#runsOf(segment, frame, bytes[at] ?? new Uint8Array(0), isThere));
  }

  /** What reads as zero, and where all else lies. */
  async #places(
    first: BlockNumber,
    count: number,
    request: StoreRequest,
  ): Promise<{ readonly runs: FrozenRun[]; readonly segments: ReadonlyMap<number, Wanted[]> }> {
    const { map } = this.book;
    const runs: FrozenRun[] = [];
    const segments = new Map<number, Wanted[]>();
    let zeros = 0;
    for (let block = first; block < first + count; block++) {
      const known = map.placeNow(block);
      const place = known === 'unknown' ? await map.place(block, request) : known;
      if (place === undefined) {
        zeros++;
        continue;
      }
      if (zeros > 0) runs.push({ firstBlock: block - zeros, blockCount: zeros, payload: undefined });
      zeros = 0;
      const wanted = { block, payload: place.payload };
      const inSegment = segments.get(place.segment);
      if (inSegment === undefined) segments.set(place.segment, [wanted]);
      else inSegment.push(wanted);
    }
    if (zeros > 0) runs.push({ firstBlock: first + count - zeros, blockCount: zeros, payload: undefined });
    return { runs, segments };
  }

  async #fromSegment(
    row: SegmentRow,
    blocks: readonly Wanted[],
    whole: boolean,
    lane: ReadLane,
  ): Promise<readonly FrozenRun[]> {
    const wanted = new Map(blocks.map(({ block, payload }) => [payload, block]));
    const frames = [...new Set(blocks.map(({ payload }) => Math.floor(payload / FRAME_BLOCKS)))];
    frames.sort((left, right) => left - right);
    const [segment, bytes] = await Promise.all([
      this.#frames.head(row, lane.store, lane.request),
      this.#frames.frames(row, frames, lane),
    ]);
    for (const { block, payload } of blocks) {
      if (payload >= segment.index.payloadBlocks || blockAt(segment, payload) !== block) {
        throw this.#damaged(segment, `it does not hold block ${block} where the map says`);
      }
    }
    const { map } = this.book;
    const lies = (block: BlockNumber, payload: number): boolean => {
      if (wanted.get(payload) === block) return true;
      const place = map.placeNow(block);
      return typeof place === 'object' && place.segment === row.number && place.payload === payload;
    };
    return frames.flatMap((frame, at) => {
      const plain = bytes[at] ?? new Uint8Array(0);
      const first = frame * FRAME_BLOCKS;
      let here = 0;
      for (let payload = first; payload < first + FRAME_BLOCKS; payload++) if (wanted.has(payload)) here++;
      if (whole || here >= FRAME_BLOCKS / 2) return this.#runsOf(segment, frame, plain, lies);
      return this.#runsOf(segment, frame, plain, (block, payload) => wanted.get(payload) === block).map(copied);
    });
  }

  /** Verified runs of the blocks of a frame that are there. */
  #runsOf(
    segment: OpenedSegment,
    frame: number,
    bytes: Uint8Array,
    isThere: (block: BlockNumber, payload: number) => boolean,
  ): FrozenRun[] {
    const runs: FrozenRun[] = [];
    const first = frame * FRAME_BLOCKS;
    const end = first + bytes.length / BLOCK_BYTES;
    for (let payload = first; payload < end;) {
      const firstBlock = blockAt(segment, payload);
      let count = 0;
      while (
        payload + count < end &&
        (count === 0 || blockAt(segment, payload + count) === firstBlock + count) &&
        isThere(firstBlock + count, payload + count)
      )
        count++;
      if (count > 0) runs.push(this.#verified(segment, firstBlock, count, payload, bytes, payload - first));
      payload += Math.max(1, count);
    }
    return runs;
  }

  #verified(
    segment: OpenedSegment,
    firstBlock: BlockNumber,
    blockCount: number,
    payload: number,
    bytes: Uint8Array,
    at: number,
  ): FrozenRun {
    const { checksums } = this.#options;
    const { sums } = segment.index;
    const start = at * BLOCK_BYTES;
    // The bytes would be set to zero instead of checked.
    if (sums.subarray(payload, payload + blockCount).includes(SUM_ZERO)) {
      throw this.#damaged(segment, 'a payload block has the sum of none');
    }
    for (let next = 0; next < blockCount; next++) {
      const from = start + next * BLOCK_BYTES;
      const bad = checksums.verifyBlocks(bytes, from, blockCount - next, firstBlock + next, sums, payload + next);
      if (bad < 0) break;
      next += bad;
      if (sums[payload + next] !== SUM_REMOTE) {
        throw this.#damaged(segment, `block ${firstBlock + next} does not have the sum that its index states`);
      }
    }
    return { firstBlock, blockCount, payload: { bytes, start, sums, sumsStart: payload } };
  }

  #damaged({ key }: OpenedSegment, reason: string): GatewayError {
    return new GatewayError('object-damaged', `${this.#options.sealer.names.segment(key)}: ${reason}`);
  }
}

/** The block that a segment's payload block is of. */
export function blockAt({ index: { extents } }: OpenedSegment, payload: number): BlockNumber {
  let low = 0;
  let high = extents.count;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((extents.payload[middle] ?? 0) <= payload) low = middle;
    else high = middle;
  }
  return (extents.firstBlock[low] ?? 0) + payload - (extents.payload[low] ?? 0);
}

/** With memory of its own, so that the frame can go. */
function copied({ firstBlock, blockCount, payload }: FrozenRun): FrozenRun {
  if (payload === undefined) return { firstBlock, blockCount, payload };
  const { start, sums, sumsStart } = payload;
  const bytes = new Uint8Array(blockCount * BLOCK_BYTES);
  bytes.set(payload.bytes.subarray(start, start + bytes.length));
  return { firstBlock, blockCount, payload: { bytes, start: 0, sums, sumsStart } };
}

/** One object is damaged or gone; others may be there. */
export function isOfOneObject(error: unknown): error is GatewayError {
  return error instanceof GatewayError && ['object-damaged', 'object-missing', 'remote-gap'].includes(error.code);
}
