/**
 * Fills a restored volume from its bucket in the background until nothing is owed any more (remote.md, "Restore"):
 *
 *   by segment   ascending, from where the durable cursor is: each segment's index says what was in it, the map what of
 *                that lives at the recovery point, the volume what of that is still owed; those frames are fetched
 *   scan         over the volume: what reads as zero at the recovery point becomes zero; anything that is still owed, for
 *                whatever reason, is fetched block by block
 *   complete     the volume finds nothing owed; else once more from where the cursor is
 *
 * Reads on demand come first: before every GET the filler lets them through, for a second at most, so that it never
 * starves. What is damaged or missing is said once, holds the cursor, and is tried again later; everything else comes
 * home meanwhile. The filler ends when the signal aborts, by rejecting.
 */
import { GatewayError } from '../base/errors.js';
import type { BlockNumber } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { FrozenRun, HydrationTarget } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { HAUL_FRAMES_MAX } from './frame-fetch.js';
import { FRAME_BLOCKS, isOfOneObject } from './frozen-volume.js';
import type { BucketVolume, ReadLane } from './frozen-volume.js';
import type { OpenedSegment } from './segment-reader.js';
import { SHARD_BLOCKS } from './shard-map.js';
import type { SegmentRow } from './shard-table.js';
import { retryDelayMs } from './store-retry.js';

/** Segments at a time: each holds one haul of frames in memory. */
const LANES = 4;
const DEMAND_FIRST_MS_MAX = 1000;
/** The cursor is recorded after so many segments, or so long. */
const RECORD_SEGMENTS = 64;
const RECORD_MS = 10_000;
/** Blocks with content that are filled at once: to a volume in another thread they go as one message. */
const FILL_BLOCKS = 256;
/** Blocks that the scan fetches at a time. */
const SCAN_BLOCKS = 256;
/** What could not be had is tried again after that. */
const AGAIN_MS = 600_000;
/** Objects that are named one by one. */
const PROBLEMS_MAX = 10;

export interface FillerOptions {
  readonly bucket: BucketVolume;
  readonly target: HydrationTarget;
  /** Repeats what fails until it is aborted. */
  readonly store: ObjectStore;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export class HydrationFiller {
  readonly #options: FillerOptions;
  readonly #lane: ReadLane;
  /** Blocks that live in segments which were not gone through yet. */
  #remainingBlocks: number;
  readonly #problems = new Set<string>();
  /** Segments behind the cursor that this filler has gone through: what is damaged holds the cursor, not the work. */
  readonly done = new Set<number>();
  /** Of this round. */
  #failures = 0;

  constructor(options: FillerOptions) {
    const { store, signal, bucket, target } = options;
    this.#options = options;
    this.#lane = { store, request: { signal }, keep: false };
    this.#remainingBlocks = bucket.book.table.liveBlocksBehind(target.progress.segmentsThrough);
  }

  /** At most: what was overwritten right before the recovery point, or is here already, counts until it is gone through. */
  get remainingBlocks(): number {
    return this.#remainingBlocks;
  }

  /** What keeps it from being complete; undefined: nothing does. */
  get problem(): string | undefined {
    return this.#problems.values().next().value;
  }

  /** Resolves when nothing is owed any more. */
  async run(): Promise<void> {
    const { target, clock, signal, log, bucket } = this.#options;
    for (let round = 1; ; round++) {
      this.#failures = 0;
      this.#problems.clear();
      this.#remainingBlocks = bucket.book.table.liveBlocksBehind(target.progress.segmentsThrough);
      await new SegmentPass(this.#options, this.#lane, this).run();
      await this.#scan();
      if (this.#failures === 0 && (await this.#patiently(() => target.complete()))) return;
      const againMs = this.#failures === 0 ? retryDelayMs(round, 1) : AGAIN_MS;
      if (this.#failures > 0) {
        log.error(
          `the volume cannot be filled completely yet (${this.#failures} failures): ${this.problem ?? 'unknown'}`,
        );
      }
      await clock.sleep(againMs, signal);
    }
  }

  /** Before every GET. */
  async turn(): Promise<void> {
    const { bucket, clock, signal } = this.#options;
    signal.throwIfAborted();
    await new Promise<void>((resolve) => {
      const timer = clock.after(DEMAND_FIRST_MS_MAX, resolve);
      void bucket.idle().then(() => {
        timer.cancel();
        resolve();
      });
    });
    signal.throwIfAborted();
  }

  async fill(runs: readonly FrozenRun[]): Promise<void> {
    for (let from = 0; from < runs.length;) {
      const together: FrozenRun[] = [];
      for (let blocks = 0; from < runs.length && blocks < FILL_BLOCKS; from++) {
        const run = runs[from];
        if (run === undefined) break;
        together.push(run);
        if (run.payload !== undefined) blocks += run.blockCount;
      }
      await Promise.all(together.map((run) => this.#patiently(() => this.#options.target.fill(run))));
    }
  }

  gone(blocks: number): void {
    this.#remainingBlocks -= blocks;
  }

  /** One object could not be had: the others go on. Any other failure is thrown. */
  note(error: unknown): void {
    this.#options.signal.throwIfAborted();
    if (!isOfOneObject(error)) throw error;
    this.#failures++;
    if (this.#problems.size >= PROBLEMS_MAX || this.#problems.has(error.message)) return;
    this.#problems.add(error.message);
    this.#options.log.error(`a restored volume lacks what only the bucket has: ${error.message}`);
  }

  /** Repeats what fails for a reason that may pass: there is no space at the moment. */
  async #patiently<Result>(act: () => Promise<Result>): Promise<Result> {
    const { clock, random, signal } = this.#options;
    for (let attempt = 1; ; attempt++) {
      signal.throwIfAborted();
      try {
        return await act();
      } catch (error) {
        if (!(error instanceof GatewayError) || !error.retryable) throw error;
        await clock.sleep(retryDelayMs(attempt, random.fraction()), signal);
      }
    }
  }

  async #scan(): Promise<void> {
    const { bucket, target, clock, signal } = this.#options;
    // What it has grown by since may be owed too, where its checksums have rotted.
    const end = target.blockCount;
    const mapped = new Set(bucket.book.map.mappedShards);
    for (let first = 0; first < end; first += SHARD_BLOCKS) {
      const blockCount = Math.min(SHARD_BLOCKS, end - first);
      if (mapped.has(first / SHARD_BLOCKS)) await this.#scanShard(first, blockCount);
      else await this.fill([{ firstBlock: first, blockCount, payload: undefined }]);
      // Where all of it is in memory, nobody else would have a turn.
      await clock.sleep(0, signal);
    }
  }

  async #scanShard(first: BlockNumber, count: number): Promise<void> {
    const { bucket, target } = this.#options;
    const owed = await target.owed(first, count);
    for (let at = owed.indexOf(1); at >= 0; at = owed.indexOf(1, at)) {
      const from = at;
      while (owed[at] === 1 && at - from < SCAN_BLOCKS) at++;
      try {
        await this.turn();
        const { runs, failure } = await bucket.read(first + from, at - from, this.#lane);
        await this.fill(runs);
        if (failure !== undefined) this.note(failure);
      } catch (error) {
        this.note(error);
      }
    }
  }
}

/** Goes through all segments behind the cursor once. */
class SegmentPass {
  readonly #options: FillerOptions;
  readonly #lane: ReadLane;
  readonly #filler: HydrationFiller;
  /** Segments that were begun, ascending; up to the first that is not done the cursor may go. */
  readonly #begun: { readonly number: number; done: boolean }[] = [];
  /** Segments done since the cursor was recorded. */
  #unrecorded = 0;
  #recordedMs: number;
  #through: number;
  #stuck = false;

  constructor(options: FillerOptions, lane: ReadLane, filler: HydrationFiller) {
    this.#options = options;
    this.#lane = lane;
    this.#filler = filler;
    this.#recordedMs = options.clock.nowMs();
    this.#through = options.target.progress.segmentsThrough;
  }

  async run(): Promise<void> {
    const { bucket } = this.#options;
    const rows = bucket.book.table.liveBehind(this.#through, this.#lane.request);
    const lanes = Array.from({ length: LANES }, () => this.#work(rows));
    const ends = await Promise.allSettled(lanes);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    await this.#record();
  }

  async #work(rows: AsyncGenerator<{ readonly row: SegmentRow; readonly liveBlocks: number }>): Promise<void> {
    try {
      for (let next = await rows.next(); next.done !== true && !this.#stuck; next = await rows.next()) {
        const { row, liveBlocks } = next.value;
        const { number } = row;
        const entry = { number, done: this.#filler.done.has(number) };
        this.#begun.push(entry);
        try {
          if (!entry.done) await this.#segment(row);
          entry.done = true;
          this.#filler.done.add(number);
        } catch (error) {
          this.#filler.note(error);
        }
        this.#filler.gone(liveBlocks);
        await this.#advance();
      }
    } catch (error) {
      this.#stuck = true;
      // A table shard that is damaged: the scan finds what it can without its rows.
      this.#filler.note(error);
    }
  }

  async #advance(): Promise<void> {
    const { clock } = this.#options;
    for (let first = this.#begun[0]; first?.done === true; first = this.#begun[0]) {
      this.#through = first.number;
      this.#begun.shift();
      this.#filler.done.delete(first.number);
      this.#unrecorded++;
    }
    if (this.#unrecorded >= RECORD_SEGMENTS || clock.nowMs() - this.#recordedMs >= RECORD_MS) await this.#record();
  }

  async #record(): Promise<void> {
    const { clock, target } = this.#options;
    this.#unrecorded = 0;
    this.#recordedMs = clock.nowMs();
    if (this.#through > target.progress.segmentsThrough) await target.advance({ segmentsThrough: this.#through });
  }

  async #segment(row: SegmentRow): Promise<void> {
    const { bucket } = this.#options;
    await this.#filler.turn();
    const segment = await bucket.head(row, this.#lane);
    const live = await this.#liveIn(segment);
    const frames = await this.#framesOwed(segment, live);
    for (let from = 0; from < frames.length;) {
      let to = from + 1;
      while (to < frames.length && to - from < HAUL_FRAMES_MAX && frames[to] === (frames[from] ?? 0) + to - from) to++;
      await this.#filler.turn();
      const isThere = (_block: BlockNumber, payload: number): boolean => live[payload] === 1;
      await this.#filler.fill(await bucket.frames(segment, row, frames.slice(from, to), isThere, this.#lane));
      from = to;
    }
  }

  /** 1 for each payload block that its block has at the recovery point. */
  async #liveIn({ key, index }: OpenedSegment): Promise<Uint8Array> {
    const { map } = this.#options.bucket.book;
    const { extents } = index;
    const live = new Uint8Array(index.payloadBlocks);
    for (let at = 0; at < extents.count; at++) {
      const first = extents.firstBlock[at] ?? 0;
      const payload = extents.payload[at] ?? 0;
      for (let next = 0; next < (extents.blockCount[at] ?? 0); next++) {
        const known = map.placeNow(first + next);
        const place = known === 'unknown' ? await map.place(first + next, this.#lane.request) : known;
        if (place?.segment === key.number && place.payload === payload + next) live[payload + next] = 1;
      }
    }
    return live;
  }

  async #framesOwed({ index }: OpenedSegment, live: Uint8Array): Promise<number[]> {
    const { extents } = index;
    const frames = new Set<number>();
    for (let at = 0; at < extents.count; at++) {
      const payload = extents.payload[at] ?? 0;
      const count = extents.blockCount[at] ?? 0;
      if (!live.subarray(payload, payload + count).includes(1)) continue;
      const owed = await this.#options.target.owed(extents.firstBlock[at] ?? 0, count);
      for (let next = 0; next < count; next++) {
        if (owed[next] === 1 && live[payload + next] === 1) frames.add(Math.floor((payload + next) / FRAME_BLOCKS));
      }
    }
    return [...frames].sort((left, right) => left - right);
  }
}
