/**
 * The rules by which blocks of a recovery point come into the image of a restored volume, between steps of the destager,
 * so that the image has one writer.
 *
 *   owed         its sum says "remote only", and it was not written since the restore: the bucket has it
 *   lost         its sum says "remote only", but it was written since: what the bucket has is older (P3)
 *
 * A block is noted as written, in `overwritten`, no later than log space goes: so that neither a rotten record nor a
 * rotten sector of checksums ever brings its old content back. What is filled lands only where a block is still owed
 * and no record is on its way to it. Filled content is durable before the sum that vouches for it: nothing else would
 * have it then, while a destaged block is still in the log.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { FrozenRun } from '../ports/hydration.js';
import type { BlockBitmap } from './block-bitmap.js';
import { synced } from './disk-outcome.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

export class FilledBlocks {
  /** Something was filled that no sync covers yet. */
  unsynced = false;
  /** Nothing is owed any more, durably. */
  done = false;
  private imageUnsynced = false;
  private readonly image: Image;
  private readonly overlay: Overlay;
  private readonly overwritten: BlockBitmap;
  /** A block had rotted before it was replicated. */
  private readonly onLost: (block: BlockNumber) => void;

  constructor(options: {
    readonly image: Image;
    readonly overlay: Overlay;
    readonly overwritten: BlockBitmap;
    readonly onLost: (block: BlockNumber) => void;
  }) {
    this.image = options.image;
    this.overlay = options.overlay;
    this.overwritten = options.overwritten;
    this.onLost = options.onLost;
  }

  /** Whether only the bucket has the block's content below the records that are in the log. */
  async isOwed(block: BlockNumber): Promise<boolean> {
    if (this.done) return false;
    const sums = this.image.sums.pageNow(block) ?? (await this.image.sums.page(block));
    return sums[block % SUMS_PER_PAGE] === SUM_REMOTE && !(await this.overwritten.has(block));
  }

  /** The first block of [first, end) that is owed; `end`: none is. */
  async nextOwed(first: BlockNumber, end: BlockNumber): Promise<BlockNumber> {
    for (let block = first; block < end && !this.done;) {
      const sums = this.image.sums.pageNow(block) ?? (await this.image.sums.page(block));
      const pageEnd = Math.min(end, block - (block % SUMS_PER_PAGE) + SUMS_PER_PAGE);
      while (block < pageEnd && sums[block % SUMS_PER_PAGE] !== SUM_REMOTE) block++;
      if (block === pageEnd) continue;
      if (await this.isOwed(block)) return block;
      block++;
    }
    return end;
  }

  /** Whether a fill of the block has an effect now. */
  async isWanted(block: BlockNumber): Promise<boolean> {
    return this.overlay.lookup(block) === -1 && (await this.isOwed(block));
  }

  /** 1 for each of the `count` blocks from `first` on that is wanted. */
  async wanted(first: BlockNumber, count: number): Promise<Uint8Array> {
    const wanted = new Uint8Array(count);
    const end = first + count;
    for (let block = first; block < end && !this.done;) {
      const pageEnd = Math.min(end, block - (block % SUMS_PER_PAGE) + SUMS_PER_PAGE);
      const someWritten = await this.overwritten.hasAny(block, pageEnd - block);
      const sums = this.image.sums.pageNow(block) ?? (await this.image.sums.page(block));
      for (; block < pageEnd; block++) {
        if (sums[block % SUMS_PER_PAGE] !== SUM_REMOTE || this.overlay.lookup(block) !== -1) continue;
        if (!someWritten || !(await this.overwritten.has(block))) wanted[block - first] = 1;
      }
    }
    return wanted;
  }

  /** A step of the destager moves these blocks into the image: the recovery point does not have them any more. */
  async overwrite(newest: Overlay, blocks: Uint32Array): Promise<void> {
    if (this.done) return;
    for (const { start, end } of newest.extents) await this.overwritten.add(start, end - start);
    for (let from = 0; from < blocks.length;) {
      const first = blocks[from] ?? 0;
      let to = from + 1;
      while (to < blocks.length && blocks[to] === first + to - from) to++;
      await this.overwritten.add(first, to - from);
      from = to;
    }
  }

  /** Puts the blocks of a run that are wanted into the image; in the destager's turn. disk-full, disk-failed. */
  async write(run: FrozenRun): Promise<void> {
    const { firstBlock, blockCount, payload } = run;
    if (payload === undefined) return this.writeZeros(firstBlock, blockCount);
    for (let from = 0; from < blockCount; from++) {
      if (!(await this.isWanted(firstBlock + from))) continue;
      let to = from + 1;
      while (to < blockCount && (await this.isWanted(firstBlock + to))) to++;
      await this.put(firstBlock, payload, from, to);
      from = to;
    }
    if (this.image.sums.isCrowded) await this.flushSums();
  }

  /** What was filled is durable in the image: its sums may follow. */
  async settleImage(): Promise<void> {
    if (!this.imageUnsynced) return;
    this.imageUnsynced = false;
    await synced('fdatasync of the image', this.image.file.sync());
  }

  /** Before sums are written and synced, and log space goes. */
  async settle(): Promise<void> {
    this.unsynced = false;
    await this.settleImage();
    if (!this.done) await this.overwritten.flush();
  }

  /** As write. What nobody has touched yet goes by pages of sums: a volume may be empty for a terabyte. */
  private async writeZeros(first: BlockNumber, count: number): Promise<void> {
    const { sums } = this.image;
    const end = first + count;
    for (let from = first; from < end && !this.done;) {
      const to = Math.min(end, from - (from % SUMS_PER_PAGE) + SUMS_PER_PAGE);
      const untouched = !(await this.overwritten.hasAny(from, to - from)) && !this.isPending(from, to);
      let page = sums.pageNow(from) ?? (await sums.page(from));
      for (let block = from; block < to; block++) {
        if (page[block % SUMS_PER_PAGE] !== SUM_REMOTE) continue;
        if (!untouched) {
          if (!(await this.isWanted(block))) continue;
          page = sums.pageNow(block) ?? (await sums.page(block));
        }
        sums.set(block, SUM_ZERO);
        this.unsynced = true;
      }
      if (sums.isCrowded) await this.flushSums();
      from = to;
    }
  }

  /** Whether a record is on its way to any block of [first, end). */
  private isPending(first: BlockNumber, end: BlockNumber): boolean {
    if (this.overlay.isEmpty) return false;
    for (let block = first; block < end; block++) if (this.overlay.lookup(block) !== -1) return true;
    return false;
  }

  private async put(
    firstBlock: BlockNumber,
    payload: NonNullable<FrozenRun['payload']>,
    from: number,
    to: number,
  ): Promise<void> {
    const bytes = payload.bytes.subarray(payload.start + from * BLOCK_BYTES, payload.start + to * BLOCK_BYTES);
    const position = (firstBlock + from) * BLOCK_BYTES;
    await this.image.file.allocate(position, bytes.length);
    await this.image.file.write([bytes], position);
    this.imageUnsynced = true;
    for (let at = from; at < to; at++) {
      const block = firstBlock + at;
      const sum = payload.sums[payload.sumsStart + at] ?? SUM_REMOTE;
      if (sum === SUM_REMOTE) {
        await this.overwritten.add(block, 1);
        this.onLost(block);
      } else {
        if (sum === SUM_ZERO)
          throw new GatewayError('object-damaged', `block ${block} of the bucket has content and the sum of none`);
        // The page may have left memory meanwhile; nobody else changes its sums.
        if (this.image.sums.pageNow(block) === undefined) await this.image.sums.page(block);
        this.image.sums.set(block, sum);
      }
    }
    this.unsynced = true;
  }

  /** Bounds the pages of sums with changes, which stay in memory. */
  private async flushSums(): Promise<void> {
    await this.settleImage();
    await this.image.sums.flush();
  }
}
