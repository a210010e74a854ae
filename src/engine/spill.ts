/**
 * The file `spill`: versions of a round's blocks that the destager has overwritten in the image since (docs/formats.md,
 * "Spill"). Entries one after another; each is durable before what it keeps is overwritten, and the first version counts.
 *
 *   offset size  entry (little-endian)
 *        0    8  magic "KGSPILL1"
 *        8    8  round
 *       16    8  offset of this entry in the file
 *       24    8  the file was durable up to here when this entry was written
 *       32    2  blocks n, at most 256; the first entry has none
 *       34    2  1: the round is not to send these blocks, which only the bucket had
 *       36    4  CRC-32C of the 4096 bytes of this page with this field 0
 *       40   8n  block number 4, block sum 4: 0 a block of zeros, 1 one that was lost already
 *       40+8n    zeros
 *     4096       the bytes of every block with another sum
 *
 * The file is the round: without a sound one a round does not go on after a restart, so that to remove it is to give the
 * round up. An entry that reaches past the file's end was never durable. Whatever else stands in it that is no whole entry
 * makes it unsound: nobody can tell a write that the power cut from an entry that has rotted, which would bring back as
 * the round's what the image has now.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, MIB, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { BlockTable } from './block-table.js';
import { synced, written } from './disk-outcome.js';
import { getU64, putU64 } from './log-format.js';
import { SUM_REMOTE } from './sums.js';

const SPILL_FILE = 'spill';
const MAGIC = 'KGSPILL1';
const PAGE_BYTES = 4096;
const COUNT_AT = 32;
const SKIPS_AT = 34;
const CRC_AT = 36;
const LIST_AT = 40;
/** Blocks of an entry. */
export const ENTRY_BLOCKS_MAX = 256;
const COPY_BYTES = MIB;
/** In the table, of a block that the round is not to send. */
const SKIPPED = -1;

interface Entry {
  readonly lengthBytes: number;
  readonly durableEnd: number;
  readonly blocks: readonly { readonly block: BlockNumber; readonly place: number; readonly sum: number }[];
}

export interface SpillOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly round: number;
}

export class Spill {
  private readonly options: SpillOptions;
  private readonly file: DiskFile;
  /** Location: where the bytes are in the file, in blocks. The sum is the block's. */
  private readonly table = new BlockTable();
  private readonly sum = new Uint32Array(1);
  private end = 0;
  private durableEnd = 0;

  private constructor(options: SpillOptions, file: DiskFile) {
    this.options = options;
    this.file = file;
  }

  /** Durably there, and empty. disk-full, disk-failed. */
  static async create(options: SpillOptions): Promise<Spill> {
    const { disk } = options;
    await removeSpill(disk);
    const file = await disk.open(SPILL_FILE, { mode: 'write', create: true, lane: 'image' });
    const spill = new Spill(options, file);
    try {
      await spill.keep([], new Uint32Array(0), new Uint8Array(0));
      await spill.sync();
      await synced('fsync of the volume directory', disk.syncDirectory('.'));
    } catch (error) {
      await file.close();
      throw error;
    }
    return spill;
  }

  /** The round's as it was left, durable again; undefined: there is none that is certain. */
  static async load(options: SpillOptions): Promise<Spill | undefined> {
    const { disk } = options;
    if (!(await disk.exists(SPILL_FILE))) return undefined;
    const file = await disk.open(SPILL_FILE, { mode: 'write', lane: 'image' });
    const spill = new Spill(options, file);
    try {
      if (await spill.loadEntries()) return spill;
    } catch (error) {
      if (!(error instanceof GatewayError) || (error.code !== 'disk-failed' && error.code !== 'disk-full')) {
        await file.close();
        throw error;
      }
    }
    await file.close();
    return undefined;
  }

  has(block: BlockNumber): boolean {
    return this.table.find(block) >= 0;
  }

  /** The block sum of a version that was kept; undefined: none was. */
  sumOf(block: BlockNumber): number | undefined {
    const slot = this.table.find(block);
    return slot < 0 ? undefined : this.table.logSumAt(slot);
  }

  /** The round is not to send the block. */
  isSkipped(block: BlockNumber): boolean {
    const slot = this.table.find(block);
    return slot >= 0 && this.table.locationAt(slot) === SKIPPED;
  }

  /** Notes that the round is not to send some blocks, at most 256, whatever the image has from now on. */
  async skip(blocks: readonly BlockNumber[]): Promise<void> {
    await this.file.write([this.encode(blocks, undefined, this.end)], this.end);
    this.end += PAGE_BYTES;
    for (const block of blocks) this.table.set(block, 1, SKIPPED, SUM_REMOTE);
  }

  /** Keeps blocks with their sums, at most 256; after a failure the file is good for nothing but to be removed. The bytes of block k, where it needs any, are bytes[4096 k…]. */
  async keep(blocks: readonly BlockNumber[], sums: Uint32Array, bytes: Uint8Array): Promise<void> {
    const at = this.end;
    const parts = [this.encode(blocks, sums, at)];
    const places: number[] = [];
    let next = at / BLOCK_BYTES + 1;
    for (let index = 0; index < blocks.length; index++) {
      places.push(next);
      if ((sums[index] ?? 0) <= SUM_REMOTE) continue;
      parts.push(bytes.subarray(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES));
      next++;
    }
    await this.file.write(parts, at);
    this.end = next * BLOCK_BYTES;
    blocks.forEach((block, index) => this.table.set(block, 1, places[index] ?? 0, sums[index] ?? 0));
  }

  /** What was kept may be overwritten now. */
  async sync(): Promise<void> {
    const { end } = this;
    if (end === this.durableEnd) return;
    await synced('fdatasync of the spill', this.file.sync());
    this.durableEnd = end;
  }

  /** Reads a kept version; false: what is read does not have its sum. */
  async read(block: BlockNumber, target: Uint8Array, targetStart: number): Promise<boolean> {
    const slot = this.table.find(block);
    if (slot < 0) return false;
    this.sum[0] = this.table.logSumAt(slot);
    const at = this.table.locationAt(slot) * BLOCK_BYTES;
    if ((await this.file.read(target, targetStart, BLOCK_BYTES, at)) < BLOCK_BYTES) return false;
    return this.options.checksums.verifyBlocks(target, targetStart, 1, block, this.sum, 0) < 0;
  }

  /** The file stays. */
  async close(): Promise<void> {
    await this.file.close();
  }

  private encode(blocks: readonly BlockNumber[], sums: Uint32Array | undefined, at: number): Uint8Array {
    const { checksums, round } = this.options;
    const page = checksums.alignedBuffer(PAGE_BYTES);
    page.fill(0);
    const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
    page.set(Buffer.from(MAGIC, 'latin1'), 0);
    putU64(view, 8, round);
    putU64(view, 16, at);
    putU64(view, 24, this.durableEnd);
    view.setUint16(COUNT_AT, blocks.length, true);
    view.setUint16(SKIPS_AT, sums === undefined ? 1 : 0, true);
    blocks.forEach((block, index) => {
      view.setUint32(LIST_AT + 8 * index, block, true);
      view.setUint32(LIST_AT + 8 * index + 4, sums === undefined ? SUM_REMOTE : (sums[index] ?? 0), true);
    });
    view.setUint32(CRC_AT, checksums.crc32c(0, page, 0, PAGE_BYTES), true);
    return page;
  }

  /** False: something there is no whole entry. */
  private async loadEntries(): Promise<boolean> {
    const length = await this.file.sizeBytes();
    const page = new Uint8Array(PAGE_BYTES);
    let durableEnd = 0;
    for (let at = 0; at < length;) {
      const isThere = (await this.file.read(page, 0, PAGE_BYTES, at)) === PAGE_BYTES;
      const entry = isThere ? this.decode(page, at) : undefined;
      if (isThere && entry === undefined) return false;
      // The file's end is durable with what lies before it: what it cuts off was never synced, and overwrote nothing.
      if (entry === undefined || at + entry.lengthBytes > length) {
        await written('cutting the spill', this.file.truncate(at));
        break;
      }
      durableEnd = entry.durableEnd;
      for (const { block, place, sum } of entry.blocks) if (!this.has(block)) this.table.set(block, 1, place, sum);
      at += entry.lengthBytes;
      this.end = at;
    }
    return this.end > 0 && (await this.proveTail(durableEnd));
  }

  /** What an entry's page says. */
  private decode(page: Uint8Array, at: number): Entry | undefined {
    const { checksums, round } = this.options;
    if (Buffer.from(page.subarray(0, 8)).toString('latin1') !== MAGIC) return undefined;
    const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
    const crc = view.getUint32(CRC_AT, true);
    view.setUint32(CRC_AT, 0, true);
    const [count, durableEnd] = [view.getUint16(COUNT_AT, true), getU64(view, 24)];
    const skips = view.getUint16(SKIPS_AT, true);
    const sound =
      checksums.crc32c(0, page, 0, PAGE_BYTES) === crc &&
      getU64(view, 8) === round &&
      getU64(view, 16) === at &&
      count <= ENTRY_BLOCKS_MAX &&
      skips <= 1 &&
      durableEnd !== undefined &&
      durableEnd <= at;
    if (!sound) return undefined;
    let next = at / BLOCK_BYTES + 1;
    const blocks: { block: BlockNumber; place: number; sum: number }[] = [];
    for (let index = 0; index < count; index++) {
      const block = view.getUint32(LIST_AT + 8 * index, true);
      const sum = view.getUint32(LIST_AT + 8 * index + 4, true);
      blocks.push({ block, place: skips === 1 ? SKIPPED : next, sum });
      if (sum > SUM_REMOTE) next++;
    }
    return { lengthBytes: next * BLOCK_BYTES - at, durableEnd, blocks };
  }

  /**
   * Behind `from` an entry may have been cut off by the power, or be in the page cache only: it counts if it has its sums,
   * and once it is written again.
   */
  private async proveTail(from: number): Promise<boolean> {
    const { checksums } = this.options;
    const buffer = checksums.alignedBuffer(COPY_BYTES);
    for (let at = from; at < this.end; at += COPY_BYTES) {
      const length = Math.min(COPY_BYTES, this.end - at);
      if ((await this.file.read(buffer, 0, length, at)) < length) return false;
      await written('writing the spill again', this.file.write([buffer.subarray(0, length)], at));
    }
    await synced('fdatasync of the spill', this.file.sync());
    this.durableEnd = this.end;
    const bytes = new Uint8Array(BLOCK_BYTES);
    for (const block of this.table.sortedBlocks()) {
      const slot = this.table.find(block);
      if (this.table.locationAt(slot) * BLOCK_BYTES < from || this.table.logSumAt(slot) <= SUM_REMOTE) continue;
      if (!(await this.read(block, bytes, 0))) return false;
    }
    return true;
  }
}

/** Durably: nothing that was in it counts any more. */
export async function removeSpill(disk: Disk): Promise<void> {
  if (!(await disk.exists(SPILL_FILE))) return;
  await written('removing the spill', disk.remove(SPILL_FILE));
  await synced('fsync of the volume directory', disk.syncDirectory('.'));
}
