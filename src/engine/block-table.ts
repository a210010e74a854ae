/**
 * A hash table from block number to a log record's place: open addressing, linear probing, typed arrays, so that a
 * lookup allocates nothing and an entry costs 24 bytes and its share of the free slots (load 0.25 to 0.6).
 */
import { assert } from '../base/assert.js';
import type { BlockNumber, Lsn } from '../base/units.js';

/** `location` of a block that a short trim or zero record made zero. */
export const ZERO_LOCATION = -1;

/** `location` of a block whose payload has rotted in the log (the destager's own table only). */
export const ROTTEN_LOCATION = -2;

const SLOTS_MIN = 1024;

export class BlockTable {
  /** Per slot; lsn 0 means that the slot is free (LSNs begin at 1). */
  private keys = new Uint32Array(SLOTS_MIN);
  private lsns = new Float64Array(SLOTS_MIN);
  private locations = new Float64Array(SLOTS_MIN);
  private logSums = new Uint32Array(SLOTS_MIN);
  private mask = SLOTS_MIN - 1;
  size = 0;

  /** Slot of a block, or -1. Valid until the next set or delete. */
  find(block: BlockNumber): number {
    if (this.size === 0) return -1;
    for (let slot = this.home(block); ; slot = (slot + 1) & this.mask) {
      if (this.lsns[slot] === 0) return -1;
      if (this.keys[slot] === block) return slot;
    }
  }

  blockAt(slot: number): BlockNumber {
    return this.keys[slot] ?? 0;
  }

  lsnAt(slot: number): Lsn {
    return this.lsns[slot] ?? 0;
  }

  locationAt(slot: number): number {
    return this.locations[slot] ?? ZERO_LOCATION;
  }

  logSumAt(slot: number): number {
    return this.logSums[slot] ?? 0;
  }

  /** Notes a block's newer place; LSNs of one block only grow. */
  set(block: BlockNumber, lsn: Lsn, location: number, logSum: number): void {
    let slot = this.home(block);
    while (this.lsns[slot] !== 0 && this.keys[slot] !== block) slot = (slot + 1) & this.mask;
    if (this.lsns[slot] === 0) {
      this.size++;
      this.keys[slot] = block;
    }
    this.lsns[slot] = lsn;
    this.locations[slot] = location;
    this.logSums[slot] = logSum;
    if (this.size * 5 > this.keys.length * 3) this.resize(this.keys.length * 2);
  }

  /** Removes a block's entry if it is not newer than `lsn`. */
  deleteThrough(block: BlockNumber, lsn: Lsn): void {
    let hole = this.find(block);
    if (hole < 0 || this.lsnAt(hole) > lsn) return;
    this.size--;
    // Backward shift: whatever probed past the hole moves into it, so that no tombstones are needed.
    for (let slot = (hole + 1) & this.mask; this.lsns[slot] !== 0; slot = (slot + 1) & this.mask) {
      const distance = (slot - this.home(this.keys[slot] ?? 0)) & this.mask;
      if (distance < ((slot - hole) & this.mask)) continue;
      this.move(slot, hole);
      hole = slot;
    }
    this.lsns[hole] = 0;
  }

  /** Gives memory back after many removals. */
  shrink(): void {
    if (this.keys.length > SLOTS_MIN && this.size * 16 < this.keys.length) {
      this.resize(Math.max(SLOTS_MIN, 1 << Math.ceil(Math.log2(this.size * 4 + 1))));
    }
  }

  clear(): void {
    if (this.size === 0) return;
    this.lsns.fill(0);
    this.size = 0;
  }

  /** All block numbers, ascending. */
  sortedBlocks(): Uint32Array {
    const blocks = new Uint32Array(this.size);
    let n = 0;
    for (let slot = 0; slot < this.keys.length; slot++) {
      if (this.lsns[slot] !== 0) blocks[n++] = this.keys[slot] ?? 0;
    }
    return blocks.sort();
  }

  private home(block: number): number {
    // Fibonacci hashing; neighbours stay apart, so that sequential writes do not build long runs.
    return (Math.imul(block, 0x9e37_79b1) >>> 7) & this.mask;
  }

  private move(from: number, to: number): void {
    this.keys[to] = this.keys[from] ?? 0;
    this.lsns[to] = this.lsns[from] ?? 0;
    this.locations[to] = this.locations[from] ?? 0;
    this.logSums[to] = this.logSums[from] ?? 0;
  }

  private resize(slots: number): void {
    const { keys, lsns, locations, logSums } = this;
    this.keys = new Uint32Array(slots);
    this.lsns = new Float64Array(slots);
    this.locations = new Float64Array(slots);
    this.logSums = new Uint32Array(slots);
    this.mask = slots - 1;
    const before = this.size;
    this.size = 0;
    for (let i = 0; i < keys.length; i++) {
      const lsn = lsns[i] ?? 0;
      if (lsn !== 0) this.set(keys[i] ?? 0, lsn, locations[i] ?? 0, logSums[i] ?? 0);
    }
    assert(this.size === before, 'resizing a block table keeps every entry');
  }
}
