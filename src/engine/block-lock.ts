/**
 * Which blocks belong to requests on their way into the log: writes whose edges are being merged, and whatever waits for
 * room. Requests that overlap one of them wait, in order of arrival. Without it a merge would read an edge block before
 * a write that was there first has its place in the log, and put back what that one replaces.
 */
import type { BlockNumber } from '../base/units.js';

export interface BlockRange {
  readonly firstBlock: BlockNumber;
  /** Exclusive. */
  readonly endBlock: BlockNumber;
}

interface Waiting {
  readonly range: BlockRange;
  readonly run: () => void;
}

export class BlockLocks {
  private readonly held = new Set<BlockRange>();
  private waiting: Waiting[] = [];

  get isIdle(): boolean {
    return this.held.size === 0;
  }

  /** Whether a block in [first, end) is locked. */
  conflicts(first: BlockNumber, end: BlockNumber): boolean {
    for (const { firstBlock, endBlock } of this.held) if (firstBlock < end && first < endBlock) return true;
    return false;
  }

  /** Locks the range and calls `run`: now, or when the last of its blocks was unlocked. */
  whenFree(range: BlockRange, run: () => void): void {
    if (this.conflicts(range.firstBlock, range.endBlock)) {
      this.waiting.push({ range, run });
      return;
    }
    this.held.add(range);
    run();
  }

  unlock(range: BlockRange): void {
    this.held.delete(range);
    if (this.waiting.length === 0) return;
    const queue = this.waiting;
    this.waiting = [];
    for (const entry of queue) this.whenFree(entry.range, entry.run);
  }
}
