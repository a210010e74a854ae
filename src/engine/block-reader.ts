/**
 * Reads whole blocks from wherever their newest version is: overlay (log) first, then image.
 *
 * `readNow` answers from memory and the page cache and allocates nothing; `read` waits for the disk. A sum that
 * differs is looked at once more, since a destage may have moved the block meanwhile; then it is rot (P3).
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import { ZERO_LOCATION } from './block-table.js';
import type { Image } from './image.js';
import type { LogFiles } from './log-files.js';
import { logFileName } from './log-reader.js';
import { fileOf, offsetOf, type Overlay } from './overlay.js';

const RUN_BLOCKS_MAX = limits.recordBytesMax / BLOCK_BYTES;

export class BlockReader {
  private readonly overlay: Overlay;
  private readonly image: Image;
  private readonly files: LogFiles;
  private readonly checksums: Checksums;
  private readonly runSums = new Uint32Array(RUN_BLOCKS_MAX);

  constructor(options: {
    readonly overlay: Overlay;
    readonly image: Image;
    readonly files: LogFiles;
    readonly checksums: Checksums;
  }) {
    this.overlay = options.overlay;
    this.image = options.image;
    this.files = options.files;
    this.checksums = options.checksums;
  }

  readNow(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): boolean {
    if (this.overlay.isEmpty) return this.image.readNow(first, count, target, targetStart);
    for (let done = 0; done < count;) {
      const block = first + done;
      const at = targetStart + done * BLOCK_BYTES;
      const slot = this.overlay.lookup(block);
      const run = this.runLength(slot, block, count - done);
      if (slot === -1) {
        if (!this.image.readNow(block, run, target, at)) return false;
      } else if (this.isZero(slot)) {
        target.fill(0, at, at + run * BLOCK_BYTES);
      } else {
        const location = this.overlay.table.locationAt(slot);
        const lsn = this.overlay.table.lsnAt(slot);
        const file = this.files.handle(fileOf(location));
        if (!file.readNow(target, at, run * BLOCK_BYTES, offsetOf(location))) return false;
        if (this.checksums.verifyLogBlocks(target, at, run, block, lsn, this.runSums, 0) >= 0) return false;
      }
      done += run;
    }
    return true;
  }

  async read(first: BlockNumber, count: number, target: Uint8Array, targetStart: number): Promise<void> {
    for (let done = 0; done < count;) {
      const block = first + done;
      const at = targetStart + done * BLOCK_BYTES;
      try {
        done += await this.readRun(block, count - done, target, at);
      } catch (error) {
        if (!(error instanceof GatewayError) || error.code !== 'checksum-mismatch') throw error;
        done += await this.readRun(block, 1, target, at);
      }
    }
  }

  /** Reads the first run of what is wanted and says how many blocks it was. */
  private async readRun(block: BlockNumber, count: number, target: Uint8Array, at: number): Promise<number> {
    const slot = this.overlay.lookup(block);
    const run = this.runLength(slot, block, count);
    if (slot === -1) {
      await this.image.read(block, run, target, at);
    } else if (this.isZero(slot)) {
      target.fill(0, at, at + run * BLOCK_BYTES);
    } else {
      await this.readLog(block, run, this.overlay.table.lsnAt(slot), this.overlay.table.locationAt(slot), target, at);
    }
    return run;
  }

  private async readLog(
    block: BlockNumber,
    run: number,
    lsn: number,
    location: number,
    target: Uint8Array,
    at: number,
  ): Promise<void> {
    const sums = this.runSums.slice(0, run);
    const file = fileOf(location);
    this.files.pin(file);
    try {
      await this.files.handle(file).read(target, at, run * BLOCK_BYTES, offsetOf(location));
    } finally {
      this.files.unpin(file);
    }
    const bad = this.checksums.verifyLogBlocks(target, at, run, block, lsn, sums, 0);
    if (bad < 0) return;
    throw new GatewayError(
      'checksum-mismatch',
      `block ${block + bad} in log file ${logFileName(file)} cannot be trusted: its checksum differs`,
      {
        context: { block: block + bad, place: 'log' },
      },
    );
  }

  /** How many blocks from `block` on lie together in the same place; their log sums stand in runSums afterwards. */
  private runLength(slot: number, block: BlockNumber, count: number): number {
    const { overlay } = this;
    let run = 1;
    if (slot < 0) {
      while (run < count && overlay.lookup(block + run) === slot) run++;
      return run;
    }
    const location = overlay.table.locationAt(slot);
    if (location === ZERO_LOCATION) {
      while (run < count && this.isZero(overlay.lookup(block + run))) run++;
      return run;
    }
    const lsn = overlay.table.lsnAt(slot);
    this.runSums[0] = overlay.table.logSumAt(slot);
    for (const limit = Math.min(count, RUN_BLOCKS_MAX); run < limit; run++) {
      const next = overlay.lookup(block + run);
      if (next < 0 || overlay.table.locationAt(next) !== location + run || overlay.table.lsnAt(next) !== lsn) break;
      this.runSums[run] = overlay.table.logSumAt(next);
    }
    return run;
  }

  private isZero(slot: number): boolean {
    return slot === -2 || (slot >= 0 && this.overlay.table.locationAt(slot) === ZERO_LOCATION);
  }
}
