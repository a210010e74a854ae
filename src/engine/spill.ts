/**
 * Old versions of blocks that a round has not sent yet and that the destager is about to overwrite. A scratch file: a round
 * does not outlive its process, so nothing in it is ever looked for after a start, and nothing of it need be durable.
 */
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { BlockTable } from './block-table.js';
import { SUM_REMOTE, SUM_ZERO } from './sums.js';

const SPILL_FILE = 'spill';

export class Spill {
  private readonly disk: Disk;
  private readonly checksums: Checksums;
  /** Location: index in the file. The sum is the block's. */
  private readonly table = new BlockTable();
  private readonly sum = new Uint32Array(1);
  private file: DiskFile | undefined;
  private used = 0;

  constructor(disk: Disk, checksums: Checksums) {
    this.disk = disk;
    this.checksums = checksums;
  }

  has(block: BlockNumber): boolean {
    return this.table.find(block) >= 0;
  }

  /** The block sum of a version that was kept; undefined: none was. */
  sumOf(block: BlockNumber): number | undefined {
    const slot = this.table.find(block);
    return slot < 0 ? undefined : this.table.logSumAt(slot);
  }

  /** Keeps the only version of blocks that need no bytes: zero, or lost. */
  noteSum(block: BlockNumber, sum: typeof SUM_ZERO | typeof SUM_REMOTE): void {
    this.table.set(block, 1, 0, sum);
  }

  /** Keeps `count` neighbours at bytes[start…], whose block sums are sums[sumsStart…]. The bytes are free once it resolves. */
  async keep(
    first: BlockNumber,
    count: number,
    bytes: Uint8Array,
    start: number,
    sums: Uint32Array,
    sumsStart: number,
  ): Promise<void> {
    this.file ??= await this.create();
    const at = this.used;
    this.used += count;
    await this.file.write([bytes.subarray(start, start + count * BLOCK_BYTES)], at * BLOCK_BYTES);
    for (let i = 0; i < count; i++) this.table.set(first + i, 1, at + i, sums[sumsStart + i] ?? 0);
  }

  /** Reads a kept version; false: what is read does not have its sum. */
  async read(block: BlockNumber, target: Uint8Array, targetStart: number): Promise<boolean> {
    const slot = this.table.find(block);
    if (slot < 0 || this.file === undefined) return false;
    this.sum[0] = this.table.logSumAt(slot);
    const at = this.table.locationAt(slot) * BLOCK_BYTES;
    if ((await this.file.read(target, targetStart, BLOCK_BYTES, at)) < BLOCK_BYTES) return false;
    return this.checksums.verifyBlocks(target, targetStart, 1, block, this.sum, 0) < 0;
  }

  /** Gives its space back. */
  async close(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
    await removeSpill(this.disk);
  }

  private async create(): Promise<DiskFile> {
    await removeSpill(this.disk);
    return this.disk.open(SPILL_FILE, { mode: 'write', create: true, lane: 'image' });
  }
}

/** What a process that was killed in a round left behind. */
export async function removeSpill(disk: Disk): Promise<void> {
  if (await disk.exists(SPILL_FILE)) await disk.remove(SPILL_FILE);
}
