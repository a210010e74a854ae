/**
 * The newest record of every block that is not in the image yet. Single blocks stand in a hash table, long zero ranges
 * in an extent list; of the two, the higher LSN counts. Memory is bounded: at the cap, admission waits for the destager.
 */
import { limits } from '../base/limits.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import { BlockTable, ZERO_LOCATION } from './block-table.js';
import type { LogBatch } from './log-format.js';
import { ZeroExtents } from './zero-extents.js';

/** Zero ranges up to this many blocks are table entries, longer ones extents. */
const SHORT_ZERO_BLOCKS = 32;

/** Pages of the largest log file: a location is file number * this + page in the file. */
const LOCATION_FILE_PAGES = 65536;

export function locationOf(file: number, offsetBytes: number): number {
  return file * LOCATION_FILE_PAGES + offsetBytes / 4096;
}

export function fileOf(location: number): number {
  return Math.floor(location / LOCATION_FILE_PAGES);
}

export function offsetOf(location: number): number {
  return (location % LOCATION_FILE_PAGES) * 4096;
}

export class Overlay {
  readonly table = new BlockTable();
  readonly extents = new ZeroExtents();

  get isEmpty(): boolean {
    return this.table.size === 0 && this.extents.count === 0;
  }

  get isFull(): boolean {
    return this.table.size >= limits.overlayBlocksMax || this.extents.count >= limits.overlayExtentsMax;
  }

  /** Notes a write of `count` blocks whose payload lies together in the log. */
  write(first: BlockNumber, count: number, lsn: Lsn, location: number, logSums: Uint32Array, sumsStart: number): void {
    for (let i = 0; i < count; i++) this.table.set(first + i, lsn, location + i, logSums[sumsStart + i] ?? 0);
  }

  /** Notes a trim or zero record. */
  zero(first: BlockNumber, count: number, lsn: Lsn, keepAllocated: boolean): void {
    if (count <= SHORT_ZERO_BLOCKS && !keepAllocated) {
      for (let i = 0; i < count; i++) this.table.set(first + i, lsn, ZERO_LOCATION, 0);
    } else {
      this.extents.add({ start: first, end: first + count, lsn, keepAllocated });
    }
  }

  /** Notes all records of a batch that was read back from the log. */
  replay(batch: LogBatch): void {
    for (const record of batch.records) {
      if (record.kind === 'write') {
        const location = locationOf(batch.file, record.payloadPosition);
        this.write(record.firstBlock, record.blockCount, record.lsn, location, batch.sums, record.sumsStart);
      } else if (record.kind === 'trim' || record.kind === 'zero') {
        this.zero(record.firstBlock, record.blockCount, record.lsn, record.keepAllocated);
      }
    }
  }

  /**
   * Slot of the table entry that is the block's newest version; -1: none, look into the image; -2: the block is zero
   * by an extent. (An entry whose location is ZERO_LOCATION is zero as well.)
   */
  lookup(block: BlockNumber): number {
    const slot = this.table.find(block);
    if (this.extents.count === 0) return slot;
    const zeroLsn = this.extents.lsnAt(block);
    if (zeroLsn === 0) return slot;
    return slot >= 0 && this.table.lsnAt(slot) > zeroLsn ? slot : -2;
  }

  clear(): void {
    this.table.clear();
    this.extents.clear();
  }
}
