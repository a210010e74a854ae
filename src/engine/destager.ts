/**
 * Moves durable records from the log into the image: the newest version of each block at or below a durable LSN,
 * sorted (engine.md, "Destage").
 *
 * It walks batch headers and never asks the overlay, whose newest version may not be durable. Order (P2, P4): image
 * and sums written and fdatasynced, then the superblock, then log space. An overlay entry goes only when its LSN is not
 * newer than what was destaged.
 *
 * A payload that has rotted in the log is not copied, and what the image holds instead is older: the block is marked as
 * lost (sum 1) with the step that would have moved it, so that it reads as an error until it is healed or written again.
 *
 * One `step` handles what fits in its buffer. Steps and syncs never overlap; healed blocks are written between steps.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, MIB, type BlockNumber, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { LogCursor } from '../ports/replication.js';
import type { BlockTable } from './block-table.js';
import { ROTTEN_LOCATION, ZERO_LOCATION } from './block-table.js';
import { HealedBlocks, type HealOutcome, type Watched } from './healed-block.js';
import type { Image } from './image.js';
import type { LogBatch, LogRecord } from './log-format.js';
import type { LogReader } from './log-reader.js';
import { Overlay } from './overlay.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** What a step holds at most; of a short log, one file's worth. */
const STEP_BYTES_MAX = 4 * MIB;
/** Short zero ranges take table entries, but no room in the buffer. */
const ENTRIES_PER_BLOCK = 8;
const ALLOCATIONS_AT_ONCE = 64;

export class Destager {
  cursor: LogCursor;
  destagedBytes = 0;
  private readonly healed: HealedBlocks;
  private readonly onRot: (block: BlockNumber, lsn: Lsn) => void;
  /** Ends when whoever writes to the image at the moment is through. */
  private turn: Promise<void> = Promise.resolve();
  private readonly reader: LogReader;
  private readonly image: Image;
  private readonly overlay: Overlay;
  private readonly checksums: Checksums;
  /** Payloads of the step; a location is an index of a block in here. */
  private readonly buffer: Uint8Array;
  private readonly newest = new Overlay();
  private readonly stepBlocks: number;
  /** Of the blocks in the buffer: log sums until they are verified, then block sums. */
  private readonly sums: Uint32Array;
  private readonly runs: Float64Array;

  constructor(options: {
    readonly reader: LogReader;
    readonly image: Image;
    readonly overlay: Overlay;
    readonly checksums: Checksums;
    readonly cursor: LogCursor;
    readonly logFileBytes: number;
    /** A record's payload has rotted in the log, and no newer record of the step replaces the block. */
    readonly onRot: (block: BlockNumber, lsn: Lsn) => void;
  }) {
    this.reader = options.reader;
    this.image = options.image;
    this.overlay = options.overlay;
    this.checksums = options.checksums;
    this.cursor = options.cursor;
    this.healed = new HealedBlocks(options);
    this.onRot = options.onRot;
    this.stepBlocks = Math.min(STEP_BYTES_MAX, options.logFileBytes) / BLOCK_BYTES;
    this.buffer = options.checksums.alignedBuffer(this.stepBlocks * BLOCK_BYTES);
    this.sums = new Uint32Array(this.stepBlocks);
    this.runs = new Float64Array(3 * this.stepBlocks);
  }

  get destagedLsn(): Lsn {
    return this.cursor.lsn - 1;
  }

  /**
   * Destages batches up to `durableLsn`, at most what fits in one step, into the page cache. Returns false when
   * there was nothing to do. Rejects with disk-full before anything was changed: the step can be tried again.
   */
  step(durableLsn: Lsn): Promise<boolean> {
    return this.alone(() => this.stepAlone(durableLsn));
  }

  private async stepAlone(durableLsn: Lsn): Promise<boolean> {
    const collected = await this.collect(durableLsn);
    if (collected.lsn === this.cursor.lsn) return false;
    const through = collected.lsn - 1;
    const { table, extents } = this.newest;
    const blocks = table.sortedBlocks();
    await this.reserve(blocks);
    for (const extent of extents) {
      await this.image.sums.setZero(extent.start, extent.end - extent.start);
      if (!extent.keepAllocated) await this.punch(extent.start, extent.end - extent.start);
    }
    await this.writeBlocks(blocks);
    for (const block of blocks) {
      if (this.image.sums.pageNow(block) === undefined) await this.image.sums.page(block);
      this.setSum(block, table);
    }
    for (const block of blocks) this.overlay.table.deleteThrough(block, through);
    this.overlay.extents.deleteThrough(through);
    this.overlay.table.shrink();
    this.healed.moved(this.newest);
    this.cursor = collected;
    return true;
  }

  /** Whether something was healed that no sync covers yet. */
  get healedUnsynced(): boolean {
    return this.healed.unsynced;
  }

  /** Makes what was destaged and healed durable, so that the log may let go of it. */
  async sync(): Promise<void> {
    this.healed.unsynced = false;
    await this.image.sums.flush();
    await Promise.all([this.image.file.sync(), this.image.sums.sync()]);
  }

  /** Begins to watch a block of the image that cannot be trusted; `heal` takes its place only if nothing else did. */
  watch(block: BlockNumber): Promise<Watched> {
    return this.healed.watch(block, () => this.destagedLsn);
  }

  unwatch(block: BlockNumber): void {
    this.healed.unwatch(block);
  }

  /** Writes a watched block as the bucket has it at a recovery point of at least `throughLsn`. */
  heal(block: BlockNumber, bytes: Uint8Array, throughLsn: Lsn): Promise<HealOutcome> {
    return this.alone(() => this.healed.write(block, bytes, throughLsn));
  }

  private alone<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** Reads batches into the buffer and notes each block's newest version. */
  private async collect(durableLsn: Lsn): Promise<LogCursor> {
    this.newest.clear();
    let cursor = this.cursor;
    let used = 0;
    while (cursor.lsn <= durableLsn) {
      const batch = await this.reader.next(cursor);
      if (batch === undefined) {
        throw new GatewayError('log-damaged', `the log breaks off at LSN ${cursor.lsn}, durable through ${durableLsn}`);
      }
      const entries = this.newest.table.size;
      if (used + batch.sums.length > this.stepBlocks || entries > ENTRIES_PER_BLOCK * this.stepBlocks) break;
      assert(batch.lastLsn <= durableLsn, 'durability ends at a batch boundary');
      await this.take(batch, used);
      used += batch.sums.length;
      cursor = batch.next;
    }
    return cursor;
  }

  private async take(batch: LogBatch, used: number): Promise<void> {
    const payload = this.reader.payload(batch);
    const length = batch.sums.length * BLOCK_BYTES;
    this.buffer.set(payload.bytes.subarray(payload.start, payload.start + length), used * BLOCK_BYTES);
    this.sums.set(batch.sums, used);
    for (const record of batch.records) {
      if (record.kind === 'write') {
        const at = used + record.sumsStart;
        this.newest.write(record.firstBlock, record.blockCount, record.lsn, at, this.sums, at);
        if (this.firstRotten(record, at, 0) >= 0) await this.markRotten(batch, record, at);
        this.checksums.logToBlockSums(this.sums, at, record.blockCount, record.firstBlock, record.lsn);
      } else if (record.kind === 'trim' || record.kind === 'zero') {
        this.newest.zero(record.firstBlock, record.blockCount, record.lsn, record.keepAllocated);
      }
    }
  }

  /** Index of a record's first block, from `from` on, that does not have its log sum; -1: none. */
  private firstRotten(record: LogRecord, at: number, from: number): number {
    const { firstBlock, blockCount, lsn } = record;
    const start = (at + from) * BLOCK_BYTES;
    const left = blockCount - from;
    const bad = this.checksums.verifyLogBlocks(this.buffer, start, left, firstBlock + from, lsn, this.sums, at + from);
    return bad < 0 ? -1 : from + bad;
  }

  /** Rot is never copied (P3). What the reader had in its window may be older than the batch: look once more. */
  private async markRotten(batch: LogBatch, record: LogRecord, at: number): Promise<void> {
    await this.reader.readPayload(batch.file, record.payloadPosition, record.blockCount, this.buffer, at * BLOCK_BYTES);
    for (let next = 0; next < record.blockCount; next++) {
      next = this.firstRotten(record, at, next);
      if (next < 0) return;
      this.newest.table.set(record.firstBlock + next, record.lsn, ROTTEN_LOCATION, 0);
    }
  }

  /** Reserves the space that the step will take, so that no write fails half-way (blocks with data have theirs). */
  private async reserve(blocks: Uint32Array): Promise<void> {
    let pending: Promise<void>[] = [];
    let start = -1;
    let end = -1;
    const reserveRun = (): void => {
      if (start >= 0) pending.push(this.image.file.allocate(start * BLOCK_BYTES, (end - start) * BLOCK_BYTES));
    };
    try {
      for (const block of blocks) {
        const slot = this.newest.lookup(block);
        if (slot < 0 || this.newest.table.locationAt(slot) < 0) continue;
        const sums = this.image.sums.pageNow(block) ?? (await this.image.sums.page(block));
        if ((sums[block % SUMS_PER_PAGE] ?? SUM_ZERO) > SUM_REMOTE) continue;
        if (block === end) {
          end++;
          continue;
        }
        reserveRun();
        start = block;
        end = block + 1;
        if (pending.length >= ALLOCATIONS_AT_ONCE) {
          await Promise.all(pending);
          pending = [];
        }
      }
      reserveRun();
    } finally {
      await Promise.all(pending);
    }
  }

  /** Data blocks go to the image in one scattered write, neighbours joined; zero blocks are punched. */
  private async writeBlocks(blocks: Uint32Array): Promise<void> {
    const { runs } = this;
    let count = 0;
    let zeroStart = -1;
    let zeroEnd = -1;
    for (const block of blocks) {
      const slot = this.newest.lookup(block);
      if (slot < 0) continue;
      const location = this.newest.table.locationAt(slot);
      if (location === ROTTEN_LOCATION) continue;
      if (location === ZERO_LOCATION) {
        if (block !== zeroEnd) {
          if (zeroStart >= 0) await this.punch(zeroStart, zeroEnd - zeroStart);
          zeroStart = block;
        }
        zeroEnd = block + 1;
        continue;
      }
      this.destagedBytes += BLOCK_BYTES;
      const from = location * BLOCK_BYTES;
      const to = block * BLOCK_BYTES;
      const last = 3 * (count - 1);
      const lastLength = runs[last + 1] ?? 0;
      if (count > 0 && (runs[last] ?? 0) + lastLength === from && (runs[last + 2] ?? 0) + lastLength === to) {
        runs[last + 1] = lastLength + BLOCK_BYTES;
        continue;
      }
      runs[3 * count] = from;
      runs[3 * count + 1] = BLOCK_BYTES;
      runs[3 * count + 2] = to;
      count++;
    }
    if (zeroStart >= 0) await this.punch(zeroStart, zeroEnd - zeroStart);
    if (count > 0) await this.image.file.writeScattered(this.buffer, runs, count);
  }

  private setSum(block: number, table: BlockTable): void {
    const { sums } = this.image;
    const slot = this.newest.lookup(block);
    if (slot < 0) return; // a newer, longer zero range covers it; its sums are set
    const location = table.locationAt(slot);
    if (location === ZERO_LOCATION) {
      sums.set(block, SUM_ZERO);
      return;
    }
    if (location === ROTTEN_LOCATION) {
      sums.set(block, SUM_REMOTE);
      this.onRot(block, table.lsnAt(slot));
      return;
    }
    sums.set(block, this.sums[location] ?? 0);
  }

  private async punch(first: number, count: number): Promise<void> {
    await this.image.file.punch(first * BLOCK_BYTES, count * BLOCK_BYTES);
  }
}
