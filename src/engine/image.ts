/**
 * The full local copy and its checksums. Every read is verified (P3); the destager is the only writer.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { DiskFile } from '../ports/disk.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE, type Sums } from './sums.js';

export class Image {
  readonly file: DiskFile;
  readonly sums: Sums;
  private readonly checksums: Checksums;

  constructor(options: { readonly file: DiskFile; readonly sums: Sums; readonly checksums: Checksums }) {
    this.file = options.file;
    this.sums = options.sums;
    this.checksums = options.checksums;
  }

  /** Reads and verifies now if nothing blocks; false: use `read` (it would block, or a sum differed). */
  readNow(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): boolean {
    if (!this.file.readNow(target, targetStart, count * BLOCK_BYTES, first * BLOCK_BYTES)) return false;
    for (let done = 0; done < count;) {
      const block = first + done;
      const sums = this.sums.pageNow(block);
      if (sums === undefined) return false;
      const at = block % SUMS_PER_PAGE;
      const run = Math.min(count - done, SUMS_PER_PAGE - at);
      if (this.checksums.verifyBlocks(target, targetStart + done * BLOCK_BYTES, run, block, sums, at) >= 0)
        return false;
      done += run;
    }
    return true;
  }

  /** Reads and verifies; the block that fails is named by a checksum-mismatch. */
  async read(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): Promise<void> {
    await this.fetch(first, count, target, targetStart);
    for (let done = 0; done < count;) {
      const block = first + done;
      const sums = await this.sums.page(block);
      const at = block % SUMS_PER_PAGE;
      const run = Math.min(count - done, SUMS_PER_PAGE - at);
      const bad = this.checksums.verifyBlocks(target, targetStart + done * BLOCK_BYTES, run, block, sums, at);
      if (bad >= 0) throw mismatch(block + bad, sums[at + bad] === SUM_REMOTE);
      done += run;
    }
  }

  /**
   * What cannot be read is looked for block by block: one bad block spoils no other, and a block that is zero, or not here
   * (a fill that lost its power leaves sectors that cannot be read), needs no reading.
   */
  private async fetch(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): Promise<void> {
    const length = count * BLOCK_BYTES;
    try {
      const got = await this.file.read(target, targetStart, length, first * BLOCK_BYTES);
      if (got < length) target.fill(0, targetStart + got, targetStart + length);
      return;
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
      if (count === 1 && ((await this.sums.page(first))[first % SUMS_PER_PAGE] ?? SUM_ZERO) > SUM_REMOTE) throw error;
    }
    if (count === 1) return;
    for (let i = 0; i < count; i++) await this.fetch(first + i, 1, target, targetStart + i * BLOCK_BYTES);
  }

  async close(): Promise<void> {
    await Promise.all([this.file.close(), this.sums.close()]);
  }
}

function mismatch(block: BlockNumber, sumLost: boolean): GatewayError {
  const why = sumLost ? 'its checksum is damaged' : 'its checksum differs';
  return new GatewayError('checksum-mismatch', `block ${block} of the image cannot be trusted: ${why}`, {
    context: { block, place: 'image' },
  });
}
