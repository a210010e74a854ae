/**
 * One round: the blocks that differed from the bucket when it began, each as it was then, whatever is written meanwhile.
 *
 * Invariant: as long as a block is `unread`, its version is in the image or in the spill, and in the spill if a step of
 * the destager has touched it since. `moving` and `piece` run in the destager's turns, so that nobody changes the image
 * while they look at it.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { LogCursor, RoundPiece } from '../ports/replication.js';
import type { BlockSet } from './block-set.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { Spill } from './spill.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** Read or kept at once. */
const RUN_BLOCKS_MAX = MIB / BLOCK_BYTES;
/** What one step of the destager may make a round keep: more would make clients wait for it. */
const STEP_KEEPS_MAX = (256 * MIB) / BLOCK_BYTES;
/** Blocks of a piece, zeros among them. */
const PIECE_BLOCKS_MAX = 65536;

export interface RoundOptions {
  readonly number: number;
  /** What the round is to send; taken out as it is read. */
  readonly unread: BlockSet;
  readonly cursor: LogCursor;
  readonly sizeBytes: number;
  readonly disk: Disk;
  readonly image: Image;
  readonly checksums: Checksums;
  readonly onRot: (block: BlockNumber) => void;
  /**
   * Only the bucket has the block, as it was when the volume was restored: there is nothing to send, and it is not lost,
   * whatever the dirty map says (a rotten sector of it, or a log that breaks off, makes every block dirty).
   */
  readonly isOwed: (block: BlockNumber) => Promise<boolean>;
}

export class Round {
  readonly number: number;
  readonly cursor: LogCursor;
  private readonly options: RoundOptions;
  private readonly spill: Spill;
  private readonly buffer: Uint8Array;
  private readonly sums = new Uint32Array(RUN_BLOCKS_MAX);

  constructor(options: RoundOptions) {
    this.number = options.number;
    this.cursor = options.cursor;
    this.options = options;
    this.spill = new Spill(options.disk, options.checksums);
    this.buffer = options.checksums.alignedBuffer(RUN_BLOCKS_MAX * BLOCK_BYTES);
  }

  /** Keeps what a step of the destager is about to overwrite; false: that is more than can be kept. */
  async moving(newest: Overlay, blocks: Uint32Array): Promise<boolean> {
    const { unread, isOwed } = this.options;
    const due: BlockNumber[] = [];
    const isDue = (block: BlockNumber): boolean => unread.has(block) && !this.spill.has(block);
    for (const block of blocks) if (isDue(block)) due.push(block);
    for (const { start, end } of newest.extents)
      for (const block of unread.within(start, end)) {
        if (!this.spill.has(block)) due.push(block);
        if (due.length > STEP_KEEPS_MAX) return false;
      }
    const touched: BlockNumber[] = [];
    for (const block of due.sort((left, right) => left - right)) {
      if (await isOwed(block)) unread.remove(block);
      else touched.push(block);
    }
    for (let from = 0; from < touched.length;) {
      const first = touched[from] ?? 0;
      let count = 1;
      // A short zero record may stand in the table and in an extent: the block is kept once.
      while (count < RUN_BLOCKS_MAX && touched[from + count] === first + count) count++;
      await this.keep(first, count);
      from += count;
      while (touched[from] === first + count - 1) from++;
    }
    return true;
  }

  private async keep(first: BlockNumber, count: number): Promise<void> {
    await this.readImage(first, count, this.buffer, 0, this.sums, 0);
    for (let at = 0; at < count;) {
      const sum = this.sums[at] ?? 0;
      if (sum === SUM_ZERO || sum === SUM_REMOTE) {
        this.spill.noteSum(first + at, sum);
        at++;
        continue;
      }
      let run = 1;
      while (at + run < count && (this.sums[at + run] ?? 0) > SUM_REMOTE) run++;
      await this.spill.keep(first + at, run, this.buffer, at * BLOCK_BYTES, this.sums, at);
      at += run;
    }
  }

  /** Blocks from `from` on, at most `blocksMax` with payload; they need not be kept any more. */
  async piece(from: BlockNumber, blocksMax: number): Promise<RoundPiece> {
    const { unread, image, sizeBytes, isOwed } = this.options;
    const blocks: BlockNumber[] = [];
    const owed: BlockNumber[] = [];
    const zeros: { first: BlockNumber; count: number }[] = [];
    let next: BlockNumber | undefined;
    let looked = 0;
    for (const block of unread.within(from, Math.ceil(sizeBytes / BLOCK_BYTES))) {
      if (blocks.length === blocksMax || zeros.length === limits.roundZeroRangesMax || looked++ === PIECE_BLOCKS_MAX) {
        next = block;
        break;
      }
      const sums = image.sums.pageNow(block) ?? (await image.sums.page(block));
      if (!this.spill.has(block) && sums[block % SUMS_PER_PAGE] === SUM_REMOTE && (await isOwed(block))) {
        owed.push(block);
        continue;
      }
      if ((this.spill.sumOf(block) ?? sums[block % SUMS_PER_PAGE]) === SUM_ZERO) addZero(zeros, block);
      else blocks.push(block);
    }
    const bytes = new Uint8Array(blocks.length * BLOCK_BYTES);
    const sums = new Uint32Array(blocks.length);
    for (let at = 0; at < blocks.length;) {
      const first = blocks[at] ?? 0;
      const kept = this.spill.has(first);
      let run = 1;
      while (!kept && run < RUN_BLOCKS_MAX && blocks[at + run] === first + run && !this.spill.has(first + run)) run++;
      if (kept) await this.readKept(first, bytes, at * BLOCK_BYTES, sums, at);
      else await this.readImage(first, run, bytes, at * BLOCK_BYTES, sums, at);
      at += run;
    }
    for (const block of [...blocks, ...owed]) unread.remove(block);
    for (const { first, count } of zeros) for (let i = 0; i < count; i++) unread.remove(first + i);
    return { blocks: Float64Array.from(blocks), sums, bytes, zeros, next };
  }

  async close(): Promise<void> {
    await this.spill.close();
  }

  /** Reads neighbours and their block sums; what cannot be trusted gets the sum 1. */
  private async readImage(
    first: BlockNumber,
    count: number,
    target: Uint8Array,
    targetStart: number,
    sums: Uint32Array,
    sumsStart: number,
  ): Promise<void> {
    const { image, onRot } = this.options;
    for (let i = 0; i < count; i++) {
      const page = image.sums.pageNow(first + i) ?? (await image.sums.page(first + i));
      sums[sumsStart + i] = page[(first + i) % SUMS_PER_PAGE] ?? 0;
    }
    if (await this.isRead(first, count, target, targetStart)) return;
    for (let i = 0; i < count; i++) {
      const at = targetStart + i * BLOCK_BYTES;
      // Once more: what was read in one go may have been read badly.
      if ((await this.isRead(first + i, 1, target, at)) || (await this.isRead(first + i, 1, target, at))) continue;
      target.fill(0, at, at + BLOCK_BYTES);
      sums[sumsStart + i] = SUM_REMOTE;
      onRot(first + i);
    }
  }

  private async isRead(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): Promise<boolean> {
    try {
      await this.options.image.read(first, count, target, targetStart);
      return true;
    } catch (error) {
      if (error instanceof GatewayError && (error.code === 'checksum-mismatch' || error.code === 'disk-failed'))
        return false;
      throw error;
    }
  }

  private async readKept(
    block: BlockNumber,
    target: Uint8Array,
    targetStart: number,
    sums: Uint32Array,
    sumsStart: number,
  ): Promise<void> {
    const sum = this.spill.sumOf(block) ?? SUM_REMOTE;
    sums[sumsStart] = sum;
    if (sum !== SUM_REMOTE && (await this.spill.read(block, target, targetStart))) return;
    if (sum !== SUM_REMOTE) this.options.onRot(block);
    target.fill(0, targetStart, targetStart + BLOCK_BYTES);
    sums[sumsStart] = SUM_REMOTE;
  }
}

function addZero(zeros: { first: BlockNumber; count: number }[], block: BlockNumber): void {
  const last = zeros.at(-1);
  if (last !== undefined && last.first + last.count === block) last.count++;
  else zeros.push({ first: block, count: 1 });
}
