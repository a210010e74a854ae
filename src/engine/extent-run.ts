/** The extents of an answer about a range of bytes, in which each block has one state: runs of blocks, cut to the range. */
import { BLOCK_BYTES, roundUp, type BlockNumber, type ByteLength, type ByteOffset } from '../base/units.js';

export class ExtentRuns<State> {
  readonly found: { lengthBytes: number; readonly state: State }[] = [];
  readonly firstBlock: BlockNumber;
  private readonly offset: ByteOffset;
  private readonly end: ByteOffset;
  private readonly extentsMax: number;

  constructor(offset: ByteOffset, lengthBytes: ByteLength, extentsMax: number) {
    this.offset = offset;
    this.end = offset + lengthBytes;
    this.extentsMax = extentsMax;
    this.firstBlock = Math.floor(offset / BLOCK_BYTES);
  }

  /** Where the range ends, or so many blocks of it. */
  endBlock(blocksMax: number): BlockNumber {
    return Math.min(roundUp(this.end, BLOCK_BYTES) / BLOCK_BYTES, this.firstBlock + blocksMax);
  }

  /** The next block. False: it would be one extent too many. */
  add(block: BlockNumber, state: State): boolean {
    const from = Math.max(this.offset, block * BLOCK_BYTES);
    const lengthBytes = Math.min(this.end, (block + 1) * BLOCK_BYTES) - from;
    const last = this.found.at(-1);
    if (last?.state === state) last.lengthBytes += lengthBytes;
    else if (this.found.length === this.extentsMax) return false;
    else this.found.push({ lengthBytes, state });
    return true;
  }
}
