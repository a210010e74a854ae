/**
 * Locks on the edge blocks of writes that are no whole blocks: their old content is read and merged, and until the
 * merged block has its place in the log, later writes, trims and zeros of that block wait, in order of arrival.
 * Without it a slow merge would put back what a newer write had replaced.
 */
import type { BlockNumber } from '../base/units.js';

interface Waiting {
  readonly first: BlockNumber;
  readonly end: BlockNumber;
  readonly run: () => void;
}

export class BlockLocks {
  private readonly held = new Set<BlockNumber>();
  private waiting: Waiting[] = [];

  get isIdle(): boolean {
    return this.held.size === 0;
  }

  /** Whether a block in [first, end) is locked. */
  conflicts(first: BlockNumber, end: BlockNumber): boolean {
    for (const block of this.held) if (block >= first && block < end) return true;
    return false;
  }

  /** Runs `run` once no block in [first, end) is locked: now, or when the last of them was unlocked. */
  whenFree(first: BlockNumber, end: BlockNumber, run: () => void): void {
    if (this.conflicts(first, end)) this.waiting.push({ first, end, run });
    else run();
  }

  lock(block: BlockNumber): void {
    this.held.add(block);
  }

  unlock(blocks: readonly BlockNumber[]): void {
    for (const block of blocks) this.held.delete(block);
    const queue = this.waiting;
    this.waiting = [];
    for (const entry of queue) this.whenFree(entry.first, entry.end, entry.run);
  }
}
