/**
 * Moves durable records from the log into the image: the newest version of each block at or below a durable LSN,
 * sorted (engine.md, "Destage").
 *
 * It walks batch headers and never asks the overlay for a version, since the newest may not be durable. What the overlay does
 * say is that a record need not be moved at all: of a block whose newest version is durable, older ones are left out, for
 * that one comes in its turn. Until then neither reads nor a recovery look for the block in the image, and the image as a whole is
 * as of no moment before the cursor is behind all that was durable then. A block that is written again and again costs the image one write for each length of the log.
 *
 * Order (P2, P4): image and sums written and fdatasynced, then the superblock, then log space. An overlay entry goes only
 * when its LSN is not newer than what was destaged.
 *
 * A payload that has rotted in the log is not copied, and what the image holds instead is older: the block is marked as
 * lost (sum 1) with the step that would have moved it, so that it reads as an error until it is healed or written again.
 *
 * One `step` handles what fits in its buffer. Steps and syncs never overlap; healed blocks are written between steps. A
 * step that failed for want of space, or because something could not be read, can be tried again: the log and the overlay
 * still hold all that it was to move, whatever part of it is in the image already. Failed writes and syncs are
 * DurabilityLostErrors.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, MIB, type BlockNumber, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { FrozenRun } from '../ports/hydration.js';
import type { LogCursor } from '../ports/replication.js';
import type { BlockTable } from './block-table.js';
import { ROTTEN_LOCATION, ZERO_LOCATION } from './block-table.js';
import { synced, written } from './disk-outcome.js';
import type { FilledBlocks } from './filled-block.js';
import { HealedBlocks, type HealOutcome, type Watch } from './healed-block.js';
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
/** A step in which nearly all is left out reads so many times what it can hold; it has its turn for so long. */
const READ_FACTOR_MAX = 16;

/** Is told what a step is about to change in the image, before it does. */
export interface StepWatcher {
  /** `blocks`: those in the table of `newest`, ascending. */
  moving(newest: Overlay, blocks: Uint32Array): Promise<void>;
}

export class Destager {
  cursor: LogCursor;
  destagedBytes = 0;
  /** Size of the volume at `cursor`. */
  sizeBytes: number;
  private readonly healed: HealedBlocks;
  private readonly filled: FilledBlocks | undefined;
  private readonly onRot: (block: BlockNumber, lsn: Lsn) => void;
  private readonly watcher: StepWatcher;
  private collectedSizeBytes: number;
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
  /** Trims up to here were applied ahead of their turn (`freeAhead`): before its cursor is behind them the image is of no moment. */
  freedThrough: Lsn = 0;

  constructor(options: {
    readonly reader: LogReader;
    readonly image: Image;
    readonly overlay: Overlay;
    readonly checksums: Checksums;
    readonly cursor: LogCursor;
    readonly sizeBytes: number;
    readonly logFileBytes: number;
    readonly watcher: StepWatcher;
    /** A record's payload has rotted in the log, and no newer record of the step replaces the block. */
    readonly onRot: (block: BlockNumber, lsn: Lsn) => void;
    /** While a restored volume's content still comes from the bucket. */
    readonly filled?: FilledBlocks;
  }) {
    this.reader = options.reader;
    this.image = options.image;
    this.overlay = options.overlay;
    this.checksums = options.checksums;
    this.cursor = options.cursor;
    this.sizeBytes = this.collectedSizeBytes = options.sizeBytes;
    this.watcher = options.watcher;
    this.healed = new HealedBlocks(options);
    this.filled = options.filled;
    this.onRot = options.onRot;
    this.stepBlocks = Math.min(STEP_BYTES_MAX, options.logFileBytes) / BLOCK_BYTES;
    this.buffer = options.checksums.alignedBuffer(this.stepBlocks * BLOCK_BYTES);
    this.sums = new Uint32Array(this.stepBlocks);
    this.runs = new Float64Array(3 * this.stepBlocks);
  }

  get destagedLsn(): Lsn {
    return this.cursor.lsn - 1;
  }

  /** Gives the memory of a step back to the system; only between two steps. */
  releaseMemory(): void {
    this.checksums.discard(this.buffer);
    this.reader.releaseMemory();
  }

  /**
   * Destages batches up to `durableLsn`, at most what fits in one step, into the page cache. Returns false when
   * there was nothing to do. What is freed comes first, so that it makes room for what needs space.
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
    await this.watcher.moving(this.newest, blocks);
    await this.filled?.overwrite(this.newest, blocks);
    // Long zero ranges may write sums out.
    if (extents.count > 0) await this.filled?.settleImage();
    for (const extent of extents) {
      await this.image.sums.setZero(extent.start, extent.end - extent.start);
      if (!extent.keepAllocated) await this.punch(extent.start, extent.end - extent.start);
    }
    await this.punchAll(this.zeroBlocks(blocks));
    await this.reserve(blocks);
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
    this.sizeBytes = this.collectedSizeBytes;
    return true;
  }

  /** Whether something was healed or filled that no sync covers yet. */
  get healedUnsynced(): boolean {
    return this.healed.unsynced || this.filled?.unsynced === true;
  }

  /** Makes what was destaged and healed durable, so that the log may let go of it. */
  sync(): Promise<void> {
    return this.alone(() => this.syncAlone());
  }

  private async syncAlone(): Promise<void> {
    this.healed.unsynced = false;
    await this.filled?.settle();
    await this.image.sums.flush();
    await Promise.all([synced('fdatasync of the image', this.image.file.sync()), this.image.sums.sync()]);
  }

  /**
   * Frees in the image what durable trims later in the log have freed: on a full disk, writes that wait for space must
   * not keep the trims behind them from making it. True when there was something to free.
   *
   * Sound, because each of these blocks has a version in the log that is newer than the image's, durable, and kept until it
   * is destaged in its turn: until then neither reads nor a recovery look for it in the image.
   */
  freeAhead(durableLsn: Lsn): Promise<boolean> {
    return this.alone(() => this.freeAheadAlone(durableLsn));
  }

  private async freeAheadAlone(durableLsn: Lsn): Promise<boolean> {
    const { extents, table } = this.overlay;
    const isDue = (lsn: Lsn): boolean => lsn > this.freedThrough && lsn <= durableLsn;
    const due = [...extents].filter(({ lsn, keepAllocated }) => isDue(lsn) && !keepAllocated);
    const blocks = table.sortedBlocks().filter((block) => {
      const slot = table.find(block);
      return table.locationAt(slot) === ZERO_LOCATION && isDue(table.lsnAt(slot));
    });
    for (const { start, end } of due) await this.punch(start, end - start);
    await this.punchAll(blocks);
    this.freedThrough = durableLsn;
    return due.length > 0 || blocks.length > 0;
  }

  /** Begins to watch a block of the image that cannot be trusted; `heal` takes its place only if nothing else did. */
  watch(block: BlockNumber): Promise<Watch> {
    return this.healed.watch(block, () => this.destagedLsn);
  }

  unwatch(watch: Watch): void {
    this.healed.unwatch(watch);
  }

  /** Writes a watched block as the bucket has it at a recovery point of at least `throughLsn`. */
  heal(watch: Watch, bytes: Uint8Array, throughLsn: Lsn): Promise<HealOutcome> {
    return this.alone(() => this.healed.write(watch, bytes, throughLsn));
  }

  /** Puts blocks from the bucket where they are owed (filled-block.ts). */
  fill(run: FrozenRun): Promise<void> {
    return this.alone(async () => this.filled?.write(run));
  }

  /** Whether the bucket contradicts a watched block of the image (healed-block.ts); `put` puts it right. */
  contradicted(watch: Watch, bytes: Uint8Array, put: boolean): Promise<boolean> {
    return this.alone(() => this.healed.contradicted(watch, bytes, put));
  }

  /** Runs between two steps: nobody else changes the image meanwhile. */
  alone<T>(work: () => Promise<T>): Promise<T> {
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
    this.collectedSizeBytes = this.sizeBytes;
    let cursor = this.cursor;
    let used = 0;
    let read = 0;
    while (cursor.lsn <= durableLsn && read < READ_FACTOR_MAX * this.stepBlocks) {
      const batch = await this.reader.next(cursor);
      if (batch === undefined) {
        throw new GatewayError('log-damaged', `the log breaks off at LSN ${cursor.lsn}, durable through ${durableLsn}`);
      }
      const entries = this.newest.table.size;
      if (used + batch.sums.length > this.stepBlocks || entries > ENTRIES_PER_BLOCK * this.stepBlocks) break;
      assert(batch.lastLsn <= durableLsn, 'durability ends at a batch boundary');
      read += batch.sums.length;
      used += await this.take(batch, used, durableLsn);
      cursor = batch.next;
    }
    return cursor;
  }

  /** Takes what a batch has for the image, its payload from block `used` of the buffer on; returns how many blocks that was. */
  private async take(batch: LogBatch, used: number, durableLsn: Lsn): Promise<number> {
    const records = batch.records.filter((record) => !this.isReplaced(record, durableLsn));
    if (records.length === 0) return 0;
    const payload = this.reader.payload(batch);
    const length = batch.sums.length * BLOCK_BYTES;
    this.buffer.set(payload.bytes.subarray(payload.start, payload.start + length), used * BLOCK_BYTES);
    this.sums.set(batch.sums, used);
    for (const record of records) {
      if (record.kind === 'write') {
        const at = used + record.sumsStart;
        this.newest.write(record.firstBlock, record.blockCount, record.lsn, at, this.sums, at);
        if (this.firstRotten(record, at, 0) >= 0) await this.markRotten(batch, record, at);
        this.checksums.logToBlockSums(this.sums, at, record.blockCount, record.firstBlock, record.lsn);
      } else if (record.kind === 'trim' || record.kind === 'zero') {
        this.newest.zero(record.firstBlock, record.blockCount, record.lsn, record.keepAllocated);
      } else if (record.kind === 'resize') {
        this.collectedSizeBytes = record.sizeBytes;
      }
    }
    return batch.sums.length;
  }

  /** Whether each block of a write has a newer version that is durable, and so comes in its turn whatever happens. */
  private isReplaced(record: LogRecord, durableLsn: Lsn): boolean {
    if (record.kind !== 'write') return false;
    const { table } = this.overlay;
    for (let block = record.firstBlock; block < record.firstBlock + record.blockCount; block++) {
      const slot = table.find(block);
      const lsn = slot < 0 ? 0 : table.lsnAt(slot);
      if (lsn <= record.lsn || lsn > durableLsn) return false;
    }
    return true;
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
      if (start < 0) return;
      const allocation = this.image.file.allocate(start * BLOCK_BYTES, (end - start) * BLOCK_BYTES);
      // It may fail while something else is awaited here; whoever awaits it hears of it all the same.
      allocation.catch(() => undefined);
      pending.push(written('reserving space in the image', allocation));
      pending.at(-1)?.catch(() => undefined);
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
      // Nothing may still be under way when the step is tried again.
      await Promise.allSettled(pending);
    }
    await Promise.all(pending);
  }

  private zeroBlocks(blocks: Uint32Array): Uint32Array {
    return blocks.filter((block) => {
      const slot = this.newest.lookup(block);
      return slot >= 0 && this.newest.table.locationAt(slot) === ZERO_LOCATION;
    });
  }

  private async punchAll(blocks: Uint32Array): Promise<void> {
    for (let from = 0; from < blocks.length;) {
      const first = blocks[from] ?? 0;
      let to = from + 1;
      while (to < blocks.length && blocks[to] === first + to - from) to++;
      await this.punch(first, to - from);
      from = to;
    }
  }

  /** Data blocks go to the image in one scattered write, neighbours joined. */
  private async writeBlocks(blocks: Uint32Array): Promise<void> {
    const { runs } = this;
    let count = 0;
    for (const block of blocks) {
      const slot = this.newest.lookup(block);
      if (slot < 0) continue;
      const location = this.newest.table.locationAt(slot);
      if (location === ROTTEN_LOCATION || location === ZERO_LOCATION) continue;
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
    if (count > 0) await written('writing into the image', this.image.file.writeScattered(this.buffer, runs, count));
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

  private async punch(first: BlockNumber, count: number): Promise<void> {
    await written('freeing space in the image', this.image.file.punch(first * BLOCK_BYTES, count * BLOCK_BYTES));
  }
}
