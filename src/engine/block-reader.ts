/**
 * Reads whole blocks from wherever their newest version is: overlay (log) first, then image.
 *
 * `readNow` answers from memory and the page cache and allocates nothing; `read` waits for the disk. A sum that
 * differs is looked at once more, since a destage may have moved the block meanwhile; then it is rot (P3): the healer is
 * asked for the block, within a bound for the whole read, and without one, or in vain, the read fails.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import { ZERO_LOCATION } from './block-table.js';
import type { Healer } from './healer.js';
import type { Hydration } from './hydration.js';
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
  private readonly healer: Healer | undefined;
  private readonly hydration: Hydration | undefined;
  private readonly onRot: (block: BlockNumber) => void;
  private readonly runSums = new Uint32Array(RUN_BLOCKS_MAX);

  constructor(options: {
    readonly overlay: Overlay;
    readonly image: Image;
    readonly files: LogFiles;
    readonly checksums: Checksums;
    /** undefined: there is no other copy. */
    readonly healer: Healer | undefined;
    /** Blocks that are still in the bucket only are brought here. */
    readonly hydration?: Hydration | undefined;
    /** A block could not be trusted, healed or not. */
    readonly onRot: (block: BlockNumber) => void;
  }) {
    this.overlay = options.overlay;
    this.image = options.image;
    this.files = options.files;
    this.checksums = options.checksums;
    this.healer = options.healer;
    this.hydration = options.hydration;
    this.onRot = options.onRot;
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
    const deadlineMs = this.healer?.deadlineMs() ?? 0;
    for (let done = 0; done < count;) {
      try {
        done += await this.readRun(first + done, count - done, target, targetStart + done * BLOCK_BYTES);
      } catch (error) {
        // What lies before the block that is named was verified.
        const bad = mismatchedBlock(error);
        const at = targetStart + (bad - first) * BLOCK_BYTES;
        const copied = (await this.hydration?.bring(bad, count - (bad - first), target, at)) ?? -1;
        if (copied >= 0) {
          done = bad - first + copied;
          continue;
        }
        await this.readAgain(bad, target, at, deadlineMs);
        done = bad - first + 1;
      }
    }
  }

  /** One block whose sum differed. */
  private async readAgain(block: BlockNumber, target: Uint8Array, at: number, deadlineMs: number): Promise<void> {
    let mismatch: unknown;
    try {
      await this.readRun(block, 1, target, at);
      return;
    } catch (error) {
      mismatchedBlock(error);
      mismatch = error;
    }
    this.onRot(block);
    if (this.healer === undefined) throw mismatch;
    try {
      if (!(await this.readLogged(this.healer, block, target, at, deadlineMs))) {
        await this.healer.image(block, deadlineMs);
        await this.readRun(block, 1, target, at);
      }
    } catch (error) {
      throw notHealed(mismatch, error);
    }
  }

  /** A record that has rotted in the log: answered by the bucket if that has it; false: the block is in no record. */
  private async readLogged(
    healer: Healer,
    block: BlockNumber,
    target: Uint8Array,
    at: number,
    deadlineMs: number,
  ): Promise<boolean> {
    const { table } = this.overlay;
    const slot = this.overlay.lookup(block);
    if (slot < 0 || this.isZero(slot)) return false;
    const lsn = table.lsnAt(slot);
    const sums = Uint32Array.of(table.logSumAt(slot));
    const bytes = await healer.logged(block, deadlineMs);
    if (this.checksums.verifyLogBlocks(bytes, 0, 1, block, lsn, sums, 0) >= 0) {
      throw new GatewayError('object-damaged', 'the bucket does not hold that version of it');
    }
    target.set(bytes, at);
    return true;
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

/** The block that a failed read names; any other failure is thrown on. */
function mismatchedBlock(error: unknown): BlockNumber {
  const block = error instanceof GatewayError && error.code === 'checksum-mismatch' ? error.context.block : undefined;
  if (typeof block !== 'number') throw error;
  return block;
}

function notHealed(mismatch: unknown, cause: unknown): GatewayError {
  const [found, why] = [mismatch, cause].map((error) => (error instanceof Error ? error.message : String(error)));
  const context = mismatch instanceof GatewayError ? mismatch.context : {};
  return new GatewayError('checksum-mismatch', `${found}, and it cannot be healed: ${why}`, { context, cause });
}
