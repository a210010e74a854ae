/**
 * Tracking: what a volume does about the bucket when the log cannot hold all that the bucket lacks (remote.md, "When the
 * buffer is too small for the outage"). The dirty map says which blocks of the image may differ from the newest recovery
 * point; rounds bring them up, each exactly as of one place in the log. Snapshots that were taken meanwhile become what the
 * next round brings up: whatever was acknowledged before them is in it.
 *
 * The reclaimer decides when (between cycles, with superblocks in the right order), the destager tells what it moves, the
 * replicator asks for blocks.
 *
 * A round goes on after a restart, and after a replicator that ended, from where the bucket has it: what it is to send
 * stands in `frozen`, what was overwritten since in `spill`, and both are durable before a superblock names the round.
 * Where anything of that is in doubt, and where the spill cannot grow, the round is given up: the dirty map still has all of
 * it. A round is given up durably, by removing its spill, before anything that it still needs is overwritten.
 */
import { assert } from '../base/assert.js';
import { DurabilityLostError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { Random } from '../ports/random.js';
import type { LogCursor, RoundPiece, RoundStart, StagedProgress } from '../ports/replication.js';
import type { BlockSet } from './block-set.js';
import { DirtyMap } from './dirty-map.js';
import { readFrozen } from './frozen-file.js';
import type { RoundMoment } from './frozen-file.js';
import type { Image } from './image.js';
import { LogReader } from './log-reader.js';
import type { Overlay } from './overlay.js';
import { Round } from './round.js';
import type { SnapshotRecords } from './snapshot-records.js';
import { removeSpill, Spill } from './spill.js';
import { LOG_DIRECTORY } from './volume-directory-format.js';

export interface RoundsOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly image: Image;
  readonly random: Random;
  readonly snapshots: SnapshotRecords;
  readonly log: Log;
  readonly logFileBytes: number;
  /** A block of the image cannot be trusted: what goes up says that it is lost. */
  readonly onRot: (block: BlockNumber) => void;
  /** Whether only the bucket has the block yet, that of a restored volume. */
  readonly isOwed: (block: BlockNumber) => Promise<boolean>;
}

export class Rounds {
  private readonly options: RoundsOptions;
  private readonly dirty: DirtyMap;
  private round: Round | undefined;
  private ending = false;
  /** Whether what the destager moves is noted. */
  private tracking = false;

  constructor(options: RoundsOptions) {
    this.options = options;
    this.dirty = new DirtyMap(options.disk, options.checksums);
  }

  /** Goes on after a start while tracking; `number`: the round that the superblock names, 0: none. */
  async resume(sizeBytes: number, number: number): Promise<void> {
    const { disk, checksums, log } = this.options;
    const end = Math.ceil(sizeBytes / BLOCK_BYTES);
    this.tracking = true;
    await this.options.snapshots.load();
    await this.dirty.load(end);
    const frozen = number === 0 ? undefined : await readFrozen(disk, checksums, number);
    const spill = frozen && (await Spill.load({ disk, checksums, round: number }));
    if (frozen !== undefined && spill !== undefined) {
      this.dirty.adopt(frozen.blocks);
      this.round = this.newRound(frozen, frozen.blocks, spill);
      log.info('a round goes on where the bucket has it');
      return;
    }
    if (number !== 0) log.warn('what a round had kept is not whole: the next one begins anew');
    await removeSpill(disk);
    await this.dirty.unite(end);
  }

  /** Notes all that the log has between two places, durably: then the log may let go of it. */
  async enter(from: LogCursor, to: LogCursor, sizeBytes: number): Promise<void> {
    const { disk, checksums, logFileBytes } = this.options;
    // Of an earlier time there may be bits left that were not cleared any more.
    await this.dirty.clear();
    const reader = new LogReader({ disk, checksums, directory: LOG_DIRECTORY, windowBytes: logFileBytes });
    try {
      for (let cursor = from; cursor.lsn < to.lsn;) {
        const batch = await reader.next(cursor);
        if (batch === undefined) {
          // The log has rotted where only the bucket needs it: then every block may differ.
          this.options.log.error(`the log breaks off at LSN ${cursor.lsn}: every block counts as not replicated`);
          this.dirty.add(0, Math.ceil(sizeBytes / BLOCK_BYTES));
          break;
        }
        for (const record of batch.records)
          if (record.kind === 'write' || record.kind === 'trim' || record.kind === 'zero')
            this.dirty.add(record.firstBlock, record.blockCount);
        cursor = batch.next;
      }
    } finally {
      await reader.close();
    }
    await this.dirty.flush();
    await this.options.snapshots.save(from.lsn - 1, to.lsn);
    this.tracking = true;
    this.options.log.info('what the bucket lacks is tracked, and goes up in rounds');
  }

  /** The log holds everything again; both superblocks say so. */
  async leave(): Promise<void> {
    this.tracking = false;
    await this.drop();
    await this.dirty.clear();
    this.options.log.info('the buffer holds again all that the bucket lacks');
  }

  /** A step of the destager is about to change these blocks of the image. */
  async moving(newest: Overlay, blocks: Uint32Array): Promise<void> {
    if (!this.tracking) return;
    if (this.round !== undefined) await this.keep(this.round, newest, blocks);
    for (const block of blocks) this.dirty.add(block, 1);
    for (const { start, end } of newest.extents) this.dirty.add(start, end - start);
  }

  private async keep(round: Round, newest: Overlay, blocks: Uint32Array): Promise<void> {
    try {
      if (!(await round.moving(newest, blocks))) await this.abandon('more of it is overwritten than can be kept');
    } catch (error) {
      if (error instanceof DurabilityLostError) throw error;
      // Nothing that was promised hangs on it: the next round sends what this one would have.
      await this.abandon(error instanceof Error ? error.message : String(error));
    }
  }

  /** Makes durable what a round is made of, before a superblock lets the log go up to `beforeLsn`. */
  async flush(replicatedLsn: Lsn, beforeLsn: Lsn): Promise<void> {
    if (!this.tracking) return;
    await this.dirty.flush();
    await this.options.snapshots.save(replicatedLsn, beforeLsn);
  }

  /** The round that goes on. */
  get moment(): RoundMoment | undefined {
    return this.round?.moment;
  }

  /** The same, as its replicator is told. */
  current(replicatedLsn: Lsn): RoundStart | undefined {
    return this.round && this.startOf(this.round.moment, replicatedLsn);
  }

  private startOf(moment: RoundMoment, replicatedLsn: Lsn): RoundStart {
    return { ...moment, snapshots: this.options.snapshots.between(replicatedLsn, moment.cursor.lsn) };
  }

  /** The round that a superblock is to name: it goes on after a restart. 0: none does. */
  get named(): number {
    return this.round?.spill === undefined || this.ending ? 0 : this.round.moment.round;
  }

  /** A superblock that names a committed segment says that the bucket has so much of a round. */
  secured({ round, next }: StagedProgress): void {
    if (this.round?.moment.round === round) this.round.securedTo(next);
  }

  /** Begins a round of the image as it is now: everything before `cursor`, and nothing else. None goes on. */
  async begin(at: Omit<RoundMoment, 'round'> & { readonly replicatedLsn: Lsn }): Promise<RoundStart> {
    assert(this.round === undefined, 'one round at a time');
    const { cursor, sizeBytes, wallMs, replicatedLsn } = at;
    const moment = { round: newNumber(this.options.random), cursor, sizeBytes, wallMs };
    try {
      const { blocks, durable } = await this.dirty.freeze(moment);
      this.round = this.newRound(moment, blocks, durable ? await this.newSpill(moment.round) : undefined);
    } finally {
      if (this.round === undefined) this.dirty.thaw();
    }
    return this.startOf(moment, replicatedLsn);
  }

  private newRound(moment: RoundMoment, blocks: BlockSet, spill: Spill | undefined): Round {
    const { image, checksums, onRot, isOwed } = this.options;
    const { round, cursor, sizeBytes, wallMs } = moment;
    return new Round({ round, cursor, sizeBytes, wallMs, blocks, spill, image, checksums, onRot, isOwed });
  }

  /** undefined: there is no space for it, or it cannot be made; nothing can be kept. */
  private async newSpill(round: number): Promise<Spill | undefined> {
    const { disk, checksums } = this.options;
    try {
      return await Spill.create({ disk, checksums, round });
    } catch (error) {
      if (error instanceof DurabilityLostError) throw error;
      return undefined;
    }
  }

  /** Only in a turn of the destager. undefined: the round was given up. */
  async read(number: number, from: BlockNumber, blocksMax: number): Promise<RoundPiece | undefined> {
    return this.round?.moment.round === number ? this.round.piece(from, blocksMax) : undefined;
  }

  /** The round's place in the log, if it goes on. */
  cursorOf(number: number): LogCursor | undefined {
    return this.round?.moment.round === number ? this.round.moment.cursor : undefined;
  }

  /** The bucket has the round: superblocks name it no more from here on. */
  end(): void {
    this.ending = true;
  }

  /** Both superblocks say that the bucket has the round. */
  async committed(): Promise<void> {
    await this.dirty.committed();
    await this.drop();
    await this.dirty.flush();
  }

  /** Resolves once no start goes on with it. */
  async abandon(why: string): Promise<void> {
    if (this.round === undefined) return;
    this.options.log.warn(`a round was given up, the next one begins anew: ${why}`);
    await this.drop();
  }

  /** Whether the block of the image may differ from the newest recovery point; only while tracking. */
  isDirty(block: BlockNumber): boolean {
    return this.dirty.has(block);
  }

  /** Blocks that may differ from the newest recovery point, and are in the image. */
  dirtyBlocks(sizeBytes: number): number {
    return this.tracking ? this.dirty.countBelow(Math.ceil(sizeBytes / BLOCK_BYTES)) : 0;
  }

  /** The round that goes on stays on the disk. */
  async close(): Promise<void> {
    await this.round?.spill?.close();
    this.round = undefined;
    await this.dirty.close();
  }

  private async drop(): Promise<void> {
    const { round } = this;
    await round?.spill?.close();
    await removeSpill(this.options.disk);
    this.round = undefined;
    this.ending = false;
    this.dirty.thaw();
  }
}

/** 48 random bits, never 0: no two rounds of one volume have the same number. */
function newNumber(random: Random): number {
  for (;;) {
    const number = Buffer.from(random.bytes(6)).readUIntLE(0, 6);
    if (number > 0) return number;
  }
}
