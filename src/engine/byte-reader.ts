/**
 * Reads of any alignment, out of whole blocks: an inner run goes straight to the target, the ends by way of a block of
 * their own.
 */
import { BLOCK_BYTES, type BlockNumber, type ByteLength, type ByteOffset } from '../base/units.js';
import type { BlockReader } from './block-reader.js';

/** The next part of a byte range: `whole` blocks from `block` on, or (whole 0) `lengthBytes` from `within` the block. */
interface Part {
  readonly block: BlockNumber;
  readonly whole: number;
  readonly within: number;
  readonly lengthBytes: ByteLength;
}

export class ByteReader {
  private readonly blocks: BlockReader;
  private readonly scratch = new Uint8Array(BLOCK_BYTES);

  constructor(blocks: BlockReader) {
    this.blocks = blocks;
  }

  /** As BlockReader.readNow: false means that `read` must do it. */
  readNow(offset: ByteOffset, lengthBytes: ByteLength, target: Uint8Array, targetStart: number): boolean {
    if (offset % BLOCK_BYTES === 0 && lengthBytes % BLOCK_BYTES === 0) {
      return this.blocks.readNow(offset / BLOCK_BYTES, lengthBytes / BLOCK_BYTES, target, targetStart);
    }
    for (let done = 0; done < lengthBytes;) {
      const part = partAt(offset + done, lengthBytes - done);
      const at = targetStart + done;
      if (part.whole > 0) {
        if (!this.blocks.readNow(part.block, part.whole, target, at)) return false;
      } else {
        if (!this.blocks.readNow(part.block, 1, this.scratch, 0)) return false;
        target.set(this.scratch.subarray(part.within, part.within + part.lengthBytes), at);
      }
      done += part.lengthBytes;
    }
    return true;
  }

  async read(offset: ByteOffset, lengthBytes: ByteLength, target: Uint8Array, targetStart: number): Promise<void> {
    for (let done = 0; done < lengthBytes;) {
      const part = partAt(offset + done, lengthBytes - done);
      const at = targetStart + done;
      if (part.whole > 0) {
        await this.blocks.read(part.block, part.whole, target, at);
      } else {
        const edge = new Uint8Array(BLOCK_BYTES);
        await this.blocks.read(part.block, 1, edge, 0);
        target.set(edge.subarray(part.within, part.within + part.lengthBytes), at);
      }
      done += part.lengthBytes;
    }
  }
}

function partAt(offset: ByteOffset, lengthBytes: ByteLength): Part {
  const block = Math.floor(offset / BLOCK_BYTES);
  const within = offset - block * BLOCK_BYTES;
  const whole = within === 0 ? Math.floor(lengthBytes / BLOCK_BYTES) : 0;
  const length = whole > 0 ? whole * BLOCK_BYTES : Math.min(lengthBytes, BLOCK_BYTES - within);
  return { block, whole, within, lengthBytes: length };
}
