/**
 * One round: the blocks that differed from the bucket when it began, each as it was then, whatever is written meanwhile.
 *
 * Invariant: the version of a block that is not certain to be in the bucket is in the image or in the spill, and in the
 * spill, durably, if a step of the destager has touched it since. Blocks are read in ascending order; below `secured` the
 * bucket has them for certain. `moving` and `piece` run in the destager's turns, so that nobody changes the image while
 * they look at it.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { RoundPiece } from '../ports/replication.js';
import type { BlockSet } from './block-set.js';
import type { RoundMoment } from './frozen-file.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { ENTRY_BLOCKS_MAX } from './spill.js';
import type { Spill } from './spill.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** Read or kept at once. */
const RUN_BLOCKS_MAX = ENTRY_BLOCKS_MAX;
/** What one step of the destager may make a round keep: more would make clients wait for it. */
const STEP_KEEPS_MAX = (256 * MIB) / BLOCK_BYTES;
/** Blocks of a piece, zeros among them. */
const PIECE_BLOCKS_MAX = 65536;

export interface RoundOptions extends RoundMoment {
  /** What the round is to send. */
  readonly blocks: BlockSet;
  /** undefined: nothing can be kept, for want of space. The round does not outlive the process either. */
  readonly spill: Spill | undefined;
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
  readonly moment: RoundMoment;
  readonly spill: Spill | undefined;
  private readonly options: RoundOptions;
  private readonly buffer: Uint8Array;
  private readonly sums = new Uint32Array(RUN_BLOCKS_MAX);
  private secured: BlockNumber = 0;

  constructor(options: RoundOptions) {
    const { round, cursor, sizeBytes, wallMs } = options;
    this.moment = { round, cursor, sizeBytes, wallMs };
    this.spill = options.spill;
    this.options = options;
    this.buffer = options.checksums.alignedBuffer(RUN_BLOCKS_MAX * BLOCK_BYTES);
  }

  /** A start after any crash knows that the bucket has all of the round below `next`. */
  securedTo(next: BlockNumber): void {
    this.secured = Math.max(this.secured, next);
  }

  /** Keeps what a step of the destager is about to overwrite, durably; false: that is more than can be kept. */
  async moving(newest: Overlay, blocks: Uint32Array): Promise<boolean> {
    const { spill } = this;
    const due = new Set<BlockNumber>();
    for (const block of blocks) if (this.isDue(block)) due.add(block);
    for (const { start, end } of newest.extents)
      for (const block of this.options.blocks.within(Math.max(start, this.secured), end)) {
        if (this.isDue(block)) due.add(block);
        if (due.size > STEP_KEEPS_MAX) return false;
      }
    if (due.size === 0) return true;
    if (spill === undefined) return false;
    const touched = [...due].sort((left, right) => left - right);
    const kept: BlockNumber[] = [];
    const owed: BlockNumber[] = [];
    for (const block of touched) ((await this.options.isOwed(block)) ? owed : kept).push(block);
    for (let from = 0; from < kept.length; from += RUN_BLOCKS_MAX)
      await this.keep(spill, kept.slice(from, from + RUN_BLOCKS_MAX));
    for (let from = 0; from < owed.length; from += RUN_BLOCKS_MAX)
      await spill.skip(owed.slice(from, from + RUN_BLOCKS_MAX));
    await spill.sync();
    return true;
  }

  private isDue(block: BlockNumber): boolean {
    return block >= this.secured && this.options.blocks.has(block) && this.spill?.has(block) !== true;
  }

  private async keep(spill: Spill, blocks: readonly BlockNumber[]): Promise<void> {
    for (let from = 0; from < blocks.length;) {
      const first = blocks[from] ?? 0;
      let run = 1;
      while (blocks[from + run] === first + run) run++;
      await this.readImage(first, run, this.buffer, from * BLOCK_BYTES, this.sums, from);
      from += run;
    }
    await spill.keep(blocks, this.sums, this.buffer);
  }

  /** Blocks from `from` on, at most `blocksMax` with payload. */
  async piece(from: BlockNumber, blocksMax: number): Promise<RoundPiece> {
    const { spill } = this;
    const { blocks: frozen, image, sizeBytes, isOwed } = this.options;
    const blocks: BlockNumber[] = [];
    const zeros: { first: BlockNumber; count: number }[] = [];
    let next: BlockNumber | undefined;
    let looked = 0;
    for (const block of frozen.within(from, Math.ceil(sizeBytes / BLOCK_BYTES))) {
      if (blocks.length === blocksMax || zeros.length === limits.roundZeroRangesMax || looked++ === PIECE_BLOCKS_MAX) {
        next = block;
        break;
      }
      if (spill?.isSkipped(block) === true) continue;
      const sums = image.sums.pageNow(block) ?? (await image.sums.page(block));
      const lost = spill?.has(block) !== true && sums[block % SUMS_PER_PAGE] === SUM_REMOTE;
      if (lost && (await isOwed(block))) continue;
      if ((spill?.sumOf(block) ?? sums[block % SUMS_PER_PAGE]) === SUM_ZERO) addZero(zeros, block);
      else blocks.push(block);
    }
    const bytes = new Uint8Array(blocks.length * BLOCK_BYTES);
    const sums = new Uint32Array(blocks.length);
    for (let at = 0; at < blocks.length;) {
      const first = blocks[at] ?? 0;
      const kept = spill?.has(first) === true;
      let run = 1;
      while (!kept && run < RUN_BLOCKS_MAX && blocks[at + run] === first + run && spill?.has(first + run) !== true)
        run++;
      if (kept) await this.readKept(spill, first, bytes, at * BLOCK_BYTES, sums, at);
      else await this.readImage(first, run, bytes, at * BLOCK_BYTES, sums, at);
      at += run;
    }
    return { blocks: Float64Array.from(blocks), sums, bytes, zeros, next };
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
    spill: Spill,
    block: BlockNumber,
    target: Uint8Array,
    targetStart: number,
    sums: Uint32Array,
    sumsStart: number,
  ): Promise<void> {
    const sum = spill.sumOf(block) ?? SUM_REMOTE;
    sums[sumsStart] = sum;
    if (sum !== SUM_REMOTE && (await spill.read(block, target, targetStart))) return;
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
