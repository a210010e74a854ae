/**
 * Long ranges that trims and zero records made zero: sorted, disjoint extents, each with its record's LSN. A newer one
 * cuts what it covers out of older ones, so a whole-device trim is one extent, whatever was there before.
 */
import type { BlockNumber, Lsn } from '../base/units.js';

export interface ZeroExtent {
  readonly start: BlockNumber;
  /** Exclusive. */
  readonly end: BlockNumber;
  readonly lsn: Lsn;
  readonly keepAllocated: boolean;
}

export class ZeroExtents {
  private extents: ZeroExtent[] = [];

  get count(): number {
    return this.extents.length;
  }

  /** LSN of the extent that covers a block, or 0. */
  lsnAt(block: BlockNumber): Lsn {
    return this.at(block)?.lsn ?? 0;
  }

  /** The extent that covers a block, if there is one. */
  at(block: BlockNumber): ZeroExtent | undefined {
    const extent = this.extents[this.firstEndingAfter(block)];
    return extent !== undefined && extent.start <= block ? extent : undefined;
  }

  /** Start of the next extent at or after a block; Infinity when there is none. */
  nextStart(block: BlockNumber): number {
    const extent = this.extents[this.firstEndingAfter(block)];
    return extent === undefined ? Infinity : Math.max(extent.start, block);
  }

  add(extent: ZeroExtent): void {
    const from = this.firstEndingAfter(extent.start);
    let to = from;
    const kept: ZeroExtent[] = [];
    for (; to < this.extents.length; to++) {
      const old = this.extents[to];
      if (old === undefined || old.start >= extent.end) break;
      if (old.start < extent.start) kept.push({ ...old, end: extent.start });
      if (old.end > extent.end) kept.push({ ...old, start: extent.end });
    }
    const before = kept.filter((old) => old.start < extent.start);
    const behind = kept.filter((old) => old.start >= extent.end);
    this.extents.splice(from, to - from, ...before, extent, ...behind);
  }

  /** Drops every extent that is not newer than `lsn`. */
  deleteThrough(lsn: Lsn): void {
    if (this.extents.length > 0) this.extents = this.extents.filter((extent) => extent.lsn > lsn);
  }

  clear(): void {
    this.extents = [];
  }

  [Symbol.iterator](): IterableIterator<ZeroExtent> {
    return this.extents[Symbol.iterator]();
  }

  private firstEndingAfter(block: BlockNumber): number {
    let low = 0;
    let high = this.extents.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.extents[middle]?.end ?? 0) <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
