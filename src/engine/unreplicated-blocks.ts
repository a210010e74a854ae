/**
 * Blocks that are in the image already and in no recovery point yet, while the log still holds their records: what the
 * overlay knows no more, and the dirty map does not know yet (rounds.ts).
 *
 * Exact up to ENTRIES_MAX blocks: each with the LSN of its newest record. What is more stands in sets of blocks, each of
 * which counts as a whole until the recovery point has the newest record in it: such a block may be taken for pending
 * when it no longer is, never the other way round.
 */
import type { BlockNumber, Lsn } from '../base/units.js';
import { BlockSet } from './block-set.js';
import { BlockTable } from './block-table.js';
import type { LogBatch } from './log-format.js';
import type { Overlay } from './overlay.js';
import { ZeroExtents } from './zero-extents.js';

/** As many blocks as a buffer of 1 GiB holds. */
const ENTRIES_MAX = 256 * 1024;
const EXTENTS_MAX = 4096;

interface Generation {
  readonly blocks: BlockSet;
  /** LSN of the newest record in it. */
  throughLsn: Lsn;
}

export class UnreplicatedBlocks {
  private readonly entriesMax: number;
  private readonly table = new BlockTable();
  private readonly extents = new ZeroExtents();
  /** At most two, oldest first. */
  private generations: Generation[] = [];
  private newestLsn: Lsn = 0;

  constructor(entriesMax = ENTRIES_MAX) {
    this.entriesMax = entriesMax;
  }

  /** Whether there is none: everything up to here is in the bucket. */
  isEmpty(replicatedLsn: Lsn): boolean {
    return this.newestLsn <= replicatedLsn;
  }

  has(block: BlockNumber, replicatedLsn: Lsn): boolean {
    if (this.isEmpty(replicatedLsn)) return false;
    const slot = this.table.find(block);
    if (slot >= 0 && this.table.lsnAt(slot) > replicatedLsn) return true;
    if (this.extents.lsnAt(block) > replicatedLsn) return true;
    return this.generations.some(({ blocks, throughLsn }) => throughLsn > replicatedLsn && blocks.has(block));
  }

  /** A step of the destager is about to move these blocks; `blocks`: those in the table of `newest`. */
  moving(newest: Overlay, blocks: Uint32Array, replicatedLsn: Lsn): void {
    this.forget(replicatedLsn);
    for (const block of blocks) this.note(block, newest.table.lsnAt(newest.table.find(block)));
    for (const { start, end, lsn } of newest.extents) this.noteRange(start, end - start, lsn);
    this.bound(replicatedLsn);
  }

  /** A batch that was moved before the volume was opened. */
  moved(batch: LogBatch, replicatedLsn: Lsn): void {
    for (const { kind, lsn, firstBlock, blockCount } of batch.records) {
      if (lsn <= replicatedLsn) continue;
      if (kind === 'write') for (let i = 0; i < blockCount; i++) this.note(firstBlock + i, lsn);
      else if (kind === 'trim' || kind === 'zero') this.noteRange(firstBlock, blockCount, lsn);
    }
    this.bound(replicatedLsn);
  }

  clear(): void {
    this.table.clear();
    this.table.shrink();
    this.extents.clear();
    this.generations = [];
    this.newestLsn = 0;
  }

  private note(block: BlockNumber, lsn: Lsn): void {
    this.table.set(block, lsn, 0, 0);
    this.newestLsn = Math.max(this.newestLsn, lsn);
  }

  private noteRange(start: BlockNumber, count: number, lsn: Lsn): void {
    this.extents.add({ start, end: start + count, lsn, keepAllocated: false });
    this.newestLsn = Math.max(this.newestLsn, lsn);
  }

  private forget(replicatedLsn: Lsn): void {
    if (this.newestLsn > 0 && this.isEmpty(replicatedLsn)) this.clear();
    this.generations = this.generations.filter(({ throughLsn }) => throughLsn > replicatedLsn);
  }

  private bound(replicatedLsn: Lsn): void {
    if (this.table.size <= this.entriesMax && this.extents.count <= EXTENTS_MAX) return;
    for (const block of this.table.sortedBlocks()) this.table.deleteThrough(block, replicatedLsn);
    this.extents.deleteThrough(replicatedLsn);
    // Half of the room free again, or the next steps would look through all of it in vain.
    if (this.table.size <= this.entriesMax / 2 && this.extents.count <= EXTENTS_MAX / 2) return;
    const generation = this.openGeneration();
    for (const block of this.table.sortedBlocks()) generation.blocks.add(block, 1);
    for (const { start, end } of this.extents) generation.blocks.add(start, end - start);
    generation.throughLsn = this.newestLsn;
    this.table.clear();
    this.extents.clear();
  }

  private openGeneration(): Generation {
    const last = this.generations.at(-1);
    if (last !== undefined && this.generations.length === 2) return last;
    const opened = { blocks: new BlockSet(), throughLsn: 0 };
    this.generations.push(opened);
    return opened;
  }
}
