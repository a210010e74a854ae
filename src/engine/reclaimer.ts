/**
 * Gives log space back: destage, sync the image, write a superblock, recycle files, keep new ones ready (P4).
 *
 * One cycle at a time. It is lazy: the longer records wait, the more of them are overwritten in the log already; and it
 * hurries when the buffer fills, the overlay is full, or admission has stopped.
 *
 * When it cannot go on: out of disk space it stalls, and tries again every second; so it does when the log or the
 * checksums cannot be read, as `failed`; rot in the log is `failed` for good. In all three nothing is lost: the log holds
 * what is not in the image. A failed write or sync is fail-stop, since what the disk then holds is unknown.
 */
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { GIB, MIB, type Lsn } from '../base/units.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { LogCursor, ReplicationState, RoundStart } from '../ports/replication.js';
import type { Destager } from './destager.js';
import { isDiskFull } from './disk-outcome.js';
import type { Log } from './log.js';
import type { Overlay } from './overlay.js';
import type { Rounds } from './rounds.js';
import type { Superblock, SuperblockWriter } from './superblock.js';

/** Undestaged log bytes that start a cycle by themselves: half of the buffer, at most this. */
const LAZY_BYTES_MAX = 2 * GIB;
/** Age of the oldest undestaged record that starts a cycle. */
const LAZY_AGE_MS = 5000;
/** Bytes destaged before the image is synced in the middle of a long cycle. */
const SYNC_BYTES = 64 * MIB;
const RETRY_MS = 1000;
const IDLE_MARK_MS = 1000;

/** Whoever reads the log for the bucket: it must stop before the log goes. */
export interface LogFollower {
  /** Resolves to true once it reads nothing any more, its last state having been heard; false: it is not known. */
  revoke(): Promise<boolean>;
  /** It may go on, from the state that counts now. */
  resume(): void;
}

export interface ReclaimerOptions {
  readonly log: Log;
  readonly destager: Destager;
  readonly overlay: Overlay;
  readonly superblock: SuperblockWriter;
  readonly clock: Clock;
  /** The rest of a superblock: identity, boot, size. */
  readonly identity: () => Pick<Superblock, 'volumeUuid' | 'bootId' | 'sizeBytes'>;
  readonly replicated: boolean;
  readonly replication: ReplicationState;
  /** Of the superblock that was found: the log has everything from here on. */
  readonly tail: LogCursor;
  readonly rounds: Rounds;
  readonly follower: LogFollower | undefined;
  /** Whether a full log lets go of what only the bucket still needs; else clients wait for the bucket. */
  readonly letsGo: boolean;
  /** Room may have appeared, or disk space went away (`stalled`). */
  readonly onProgress: () => void;
  /** A cycle that age began is over: until the next one, in seconds, buffers of cycles and of bursts of writes lie idle. */
  readonly onQuiet: () => void;
  readonly onFatal: (error: Error) => void;
}

export class Reclaimer {
  /** Set while disk space is missing, with the reason. */
  stalled: GatewayError | undefined;
  /** Set while records cannot be moved into the image (they cannot be read, or the log's headers have rotted): served on, not destaged. */
  failed: GatewayError | undefined;
  replication: ReplicationState;
  private readonly options: ReclaimerOptions;
  private readonly lazyBytes: number;
  /** While tracking: where a round began, as long as the log can hold everything since. */
  private held: LogCursor | undefined;
  /** To be done between cycles, when nothing else moves. */
  private readonly tasks: (() => Promise<void>)[] = [];
  /** Where the image, as synced, ends. */
  private synced: LogCursor;
  private recorded: { replicatedLsn: Lsn; fenced: boolean; syncedLsn: Lsn; segmentNumber: number };
  private running: Promise<void> | undefined;
  /** Whoever waits for rounds to begin again; undefined: they may. */
  private roundsHeld: (() => void)[] | undefined;
  private again = false;
  private urgent = false;
  /** A cycle is due, or goes on, because its oldest record has waited for long. */
  private aged = false;
  private identityChanged = false;
  private stopped = false;
  /** `failed` will not mend itself. */
  private rotten = false;
  /** Set when a further log file found no space, until when no other is tried. The ring goes on with the files it has. */
  private noSpaceForFile: { readonly error: GatewayError; readonly untilMs: number } | undefined;
  private ageTimer: Timer | undefined;
  private markTimer: Timer | undefined;
  private retryTimer: Timer | undefined;

  constructor(options: ReclaimerOptions) {
    this.options = options;
    this.replication = options.replication;
    this.synced = options.destager.cursor;
    this.recorded = {
      replicatedLsn: options.replication.replicatedLsn,
      fenced: options.replication.fenced,
      syncedLsn: options.destager.destagedLsn,
      segmentNumber: options.replication.segmentNumber,
    };
    const { moment } = options.rounds;
    if (moment !== undefined && options.tail.lsn <= moment.cursor.lsn) this.held = moment.cursor;
    this.lazyBytes = Math.min(LAZY_BYTES_MAX, options.log.files.capacityBytes / 2);
  }

  get destagedLsn(): Lsn {
    return this.synced.lsn - 1;
  }

  /** Where recovery would begin: before it the log is not needed. */
  get tail(): LogCursor {
    const { replicated } = this.options;
    const needed = this.tracking ? this.held : this.replication.cursor;
    return replicated && needed !== undefined && needed.lsn < this.synced.lsn ? needed : this.synced;
  }

  /** The log does not hold all that the bucket lacks; the dirty map does. */
  get tracking(): boolean {
    return this.replication.keeping === 'tracking';
  }

  /** Every record up to here is in a recovery point that this volume has heard of. */
  get replicatedLsn(): Lsn {
    const { keeping, replicatedLsn, cursor } = this.replication;
    return keeping === 'draining' ? Math.max(replicatedLsn, cursor.lsn - 1) : replicatedLsn;
  }

  /** The log lets go of what the bucket lacks, whatever a round that goes on brings: only the dirty map knows of it. */
  get keepsNothing(): boolean {
    return this.tracking && this.held === undefined;
  }

  /** The log grew. Called for every batch: no more than a comparison or two. */
  appended(): void {
    const { log, overlay } = this.options;
    const behind = this.distance(this.options.destager.cursor, log.head);
    if (!log.hasRoom || overlay.isFull) {
      log.syncs.start();
      this.wake(true);
    } else if (behind >= this.lazyBytes || this.filesWanted()) {
      this.wake(behind >= this.lazyBytes);
    }
    this.armAge();
  }

  /** Durability advanced: more may be destaged, and within a second of idleness the log says how far (a mark). */
  durable(): void {
    if (this.urgent) this.wake(true);
    this.markTimer?.cancel();
    this.markTimer = this.options.clock.after(IDLE_MARK_MS, () => {
      const { log } = this.options;
      if (
        this.stopped ||
        !log.wantsMark ||
        log.appendedLsn !== log.durableLsn ||
        this.recorded.syncedLsn === log.durableLsn
      )
        return;
      log.stageRecord('mark', 0, 0, false, false, undefined);
      log.commit();
    });
  }

  /** The bucket has more: its superblock follows soon, at once when fenced. */
  replicatedTo(state: ReplicationState): void {
    const { keeping, cursor } = this.replication;
    // How it is kept is decided here; what was said before that was heard may name an earlier place.
    const stands = keeping === 'tracking' || state.cursor.lsn < cursor.lsn;
    this.replication = { ...state, keeping, cursor: stands ? cursor : state.cursor };
    this.wake(false);
  }

  /** From now on the bucket stays as it is: what it lacks is tracked, and no round begins. Durably, but for the latter. */
  async holdRounds(): Promise<void> {
    this.roundsHeld ??= [];
    await this.between(async () => {
      if (this.tracking) return this.options.rounds.abandon('the volume is being reverted');
      if (!(await this.stopFollowing(() => true)))
        throw new GatewayError('volume-closed', 'the volume does not replicate, or is being closed');
    });
  }

  releaseRounds(): void {
    const waiting = this.roundsHeld ?? [];
    this.roundsHeld = undefined;
    for (const begin of waiting) begin();
  }

  /** Begins a round (rounds.ts) of all that is durable now, unless one goes on. */
  async beginRound(): Promise<RoundStart> {
    while (this.roundsHeld !== undefined) {
      const { roundsHeld } = this;
      await new Promise<void>((resolve) => void roundsHeld.push(resolve));
    }
    return this.between(async () => {
      const { log, destager, rounds, clock } = this.options;
      if (!this.tracking) throw new GatewayError('invalid-request', 'a round begins only while tracking');
      const { replicatedLsn } = this.replication;
      const current = rounds.current(replicatedLsn);
      if (current !== undefined) return current;
      const target = log.durableLsn;
      // A trim that was freed ahead of its turn is part of what the image is.
      const through = (): Lsn => Math.max(target, destager.freedThrough);
      while (destager.cursor.lsn <= through() && !this.stopped) if (!(await this.step(through()))) break;
      // Before its moment would be what the bucket has already.
      if (destager.cursor.lsn <= through()) throw new GatewayError('volume-closed', 'the volume is being closed');
      await this.settle();
      this.held = this.synced;
      const start = await rounds.begin({
        cursor: this.synced,
        sizeBytes: destager.sizeBytes,
        wallMs: clock.wallMs(),
        replicatedLsn,
      });
      // Before anything is overwritten that only the spill will have: the other superblock may name no round.
      await this.writeSuperblock(false);
      return start;
    });
  }

  /**
   * The bucket has the round. Where the log still holds everything since it began, the log is followed again; else the
   * next round brings what changed meanwhile. undefined: the round was given up.
   */
  endRound(round: number): Promise<Pick<ReplicationState, 'keeping' | 'cursor'> | undefined> {
    return this.between(async () => {
      const { rounds } = this.options;
      const cursor = rounds.cursorOf(round);
      if (cursor === undefined) return undefined;
      const keeping = this.held?.lsn === cursor.lsn ? 'draining' : 'tracking';
      this.replication = { ...this.replication, keeping, cursor };
      this.held = undefined;
      rounds.end();
      // Both superblocks, before bits go: either of them may be the one that is read next.
      await this.writeSuperblock(false);
      await this.writeSuperblock(false);
      if (keeping === 'draining') await rounds.leave();
      else await rounds.committed();
      return { keeping, cursor };
    });
  }

  /** Does something between two cycles. */
  private between<T>(work: () => Promise<T>): Promise<T> {
    if (this.rotten) return Promise.reject(new GatewayError('log-damaged', 'the log cannot be moved into the image'));
    return new Promise((resolve, reject) => {
      this.tasks.push(async () => {
        try {
          resolve(await work());
        } catch (error) {
          reject(error instanceof GatewayError ? error : new GatewayError('disk-failed', String(error)));
          if (!(error instanceof GatewayError) || error.code !== 'invalid-request') throw error;
        }
      });
      this.wake(false);
    });
  }

  /** A block of the image was put right: durable with the next cycle, which comes by itself. */
  healed(): void {
    this.armAge();
  }

  /** Starts a cycle; `urgent` destages everything that is durable. */
  wake(urgent: boolean): void {
    if (this.stopped) return;
    if (this.rotten && !this.fenceMoved()) {
      // Whoever waits for room must hear that there will be none; not inside of the append that called.
      if (!this.options.log.hasRoom) queueMicrotask(this.options.onProgress);
      return;
    }
    this.urgent ||= urgent;
    if (this.running !== undefined) {
      this.again = true;
      return;
    }
    this.running = this.run().finally(() => {
      this.running = undefined;
      if (this.again) this.wake(false);
    });
  }

  /** See SuperblockWriter. */
  get segmentRecorded(): number {
    return this.options.superblock.segmentRecorded;
  }

  /** Ends all work and writes a last superblock: clean, so that the next opening has nothing to repair. */
  async close(): Promise<void> {
    this.stopped = true;
    for (const timer of [this.ageTimer, this.markTimer, this.retryTimer]) timer?.cancel();
    await this.running;
    if (this.failed === undefined && this.options.destager.healedUnsynced) await this.options.destager.sync();
    await this.writeSuperblock(true);
  }

  /** Ends all timers, after a failed opening or stop. */
  abandon(): void {
    this.stopped = true;
    for (const timer of [this.ageTimer, this.markTimer, this.retryTimer]) timer?.cancel();
  }

  /** Writes a superblock now; only while no cycle can run (an opening). */
  async record(): Promise<void> {
    await this.writeSuperblock(false);
  }

  /** Writes a superblock with the next cycle; resolves when that cycle is over. */
  async recordSoon(): Promise<void> {
    this.identityChanged = true;
    await this.running;
    this.wake(false);
    await this.running;
  }

  /** Moves everything that is durable now into the image, durably; resolves early where that cannot be. */
  async destageSoon(): Promise<void> {
    await this.running;
    this.wake(true);
    await this.running;
  }

  private async run(): Promise<void> {
    this.again = false;
    try {
      // Whatever keeps records from the image: who was fenced must know it after any end (P7).
      if (this.fenceMoved()) await this.writeSuperblocks();
      if (this.rotten) return;
      await this.cycle();
      if (this.stalled !== undefined || this.failed !== undefined) {
        this.stalled = undefined;
        this.failed = undefined;
        this.options.onProgress();
      }
    } catch (error) {
      this.handle(error);
    }
  }

  private handle(error: unknown): void {
    if (this.stopped) return;
    if (error instanceof GatewayError) {
      const full = isDiskFull(error);
      this.stalled = full ? error : undefined;
      this.failed = full ? undefined : error;
      this.rotten = error.code === 'log-damaged';
      this.options.onProgress();
      this.retryTimer?.cancel();
      if (!this.rotten) this.retryTimer = this.options.clock.after(RETRY_MS, () => this.wake(true));
    } else {
      const cause = error instanceof Error ? error : new Error(String(error));
      this.options.onFatal(
        new DurabilityLostError(`moving records into the image failed: ${cause.message}`, { cause }),
      );
    }
  }

  private async cycle(): Promise<void> {
    const { log, destager, overlay } = this.options;
    for (let task = this.tasks.shift(); task !== undefined && !this.stopped; task = this.tasks.shift()) await task();
    if (this.filesWanted()) await this.prepareFiles();
    if (this.urgent) {
      this.urgent = false;
      let sinceSync = destager.destagedBytes;
      while (!this.stopped && (await this.step(log.durableLsn))) {
        if (destager.destagedBytes - sinceSync >= SYNC_BYTES || !log.hasRoom) {
          sinceSync = destager.destagedBytes;
          await this.settle();
        }
        this.options.onProgress();
      }
    }
    const moved = destager.cursor.lsn !== this.synced.lsn || destager.healedUnsynced;
    if (moved || this.replicationMoved() || this.identityChanged || this.superblockHoldsFiles()) await this.settle();
    if (this.filesWanted()) await this.prepareFiles();
    if (!log.hasRoom) await this.letGo();
    this.options.onProgress();
    if (!log.hasRoom && this.noSpaceForFile !== undefined && destager.cursor.lsn > log.dataLsn) {
      throw this.noSpaceForFile.error;
    }
    // Admission waits for space, in the log or in memory, that a sync under way will make destageable.
    const waits = !log.hasRoom || overlay.isFull;
    if (waits && destager.cursor.lsn <= log.durableLsn) this.again = this.urgent = true;
    else if (waits) this.urgent = true;
    if (destager.cursor.lsn <= log.dataLsn) this.armAge();
    if (this.aged && !this.again) {
      this.aged = false;
      this.options.onQuiet();
    }
  }

  /** The log is full. What only the bucket still needs of it is noted in the dirty map instead, where that is wanted. */
  private async letGo(): Promise<void> {
    if (!this.onlyForBucket()) return;
    if (this.tracking) {
      this.held = undefined;
      return this.freeFiles();
    }
    // What the follower says last may make room.
    if (this.options.letsGo) await this.stopFollowing(() => this.onlyForBucket());
  }

  /** The bucket follows the dirty map instead of the log from here on. False: it does not. */
  private async stopFollowing(isWanted: () => boolean): Promise<boolean> {
    const { follower, rounds, destager } = this.options;
    if (follower === undefined || !(await follower.revoke())) return false;
    try {
      if (!isWanted()) return false;
      // Steps that no superblock knows of, after a cycle that failed, are made only once unless there is a crash.
      await rounds.enter(this.replication.cursor, destager.cursor, destager.sizeBytes);
      this.replication = { ...this.replication, keeping: 'tracking' };
      await this.freeFiles();
      return true;
    } finally {
      follower.resume();
    }
  }

  /** Whether log files are kept that only the bucket still needs. A fenced log is kept for whoever decides. */
  private onlyForBucket(): boolean {
    const { replicated } = this.options;
    const mayGo = this.tracking || !this.replication.fenced;
    return replicated && mayGo && !this.stopped && this.tail.file < this.synced.file;
  }

  /** Both superblocks let go of what is before the tail. */
  private async freeFiles(): Promise<void> {
    await this.writeSuperblocks();
    await this.prepareFiles();
  }

  /** One step of the destager; where space is missing, once more with the space that later trims have freed. */
  private async step(throughLsn: Lsn): Promise<boolean> {
    const { log, destager } = this.options;
    try {
      return await destager.step(throughLsn);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      // It frees blocks out of their turn, which a round may still need.
      await this.options.rounds.abandon('the disk is full');
      if (!(await destager.freeAhead(log.durableLsn))) throw error;
    }
    return destager.step(throughLsn);
  }

  private armAge(): void {
    this.ageTimer ??= this.options.clock.after(LAZY_AGE_MS, () => {
      this.ageTimer = undefined;
      this.aged = true;
      this.wake(true);
    });
  }

  /** Image and sums durable, then the superblock, then log space: in this order (P4). */
  private async settle(): Promise<void> {
    const { destager } = this.options;
    const cursor = destager.cursor;
    if (cursor.lsn !== this.synced.lsn || destager.healedUnsynced) await destager.sync();
    await this.options.rounds.flush(this.replication.replicatedLsn, cursor.lsn);
    this.synced = cursor;
    const fencedNow = this.fenceMoved();
    await this.writeSuperblock(false);
    // Both superblocks must let a file go before it is used again, and both must know a fence: one of them may rot (P3, P7).
    if (fencedNow || this.superblockHoldsFiles()) await this.writeSuperblock(false);
    await this.prepareFiles();
  }

  /** Whether files are wanted that only an outdated superblock still holds back. */
  private superblockHoldsFiles(): boolean {
    return this.filesWanted() && this.options.superblock.oldestFileNeeded < this.tail.file;
  }

  /** A full disk allows no further file, which is no reason to stall while the ring can turn without it. */
  private async prepareFiles(): Promise<void> {
    const { log, superblock, clock } = this.options;
    try {
      await log.files.prepare(log.head.file, superblock.oldestFileNeeded);
      this.noSpaceForFile = undefined;
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.noSpaceForFile = { error, untilMs: clock.nowMs() + RETRY_MS };
    }
    this.options.onProgress();
  }

  private filesWanted(): boolean {
    const { files, head } = this.options.log;
    if (files.newestFile - head.file >= 2) return false;
    if (files.oldestFile < this.tail.file) return true;
    const mayTry = this.noSpaceForFile === undefined || this.options.clock.nowMs() >= this.noSpaceForFile.untilMs;
    return mayTry && files.count < files.countLimit;
  }

  private replicationMoved(): boolean {
    return (
      this.replication.replicatedLsn !== this.recorded.replicatedLsn ||
      this.replication.fenced !== this.recorded.fenced ||
      // What is staged need not be kept any more.
      (this.tracking && this.replication.segmentNumber !== this.recorded.segmentNumber)
    );
  }

  /** It was fenced, and no superblock says so. */
  private fenceMoved(): boolean {
    return this.replication.fenced && !this.recorded.fenced;
  }

  /** Either of them may be the one that is read next. */
  private async writeSuperblocks(): Promise<void> {
    await this.writeSuperblock(false);
    await this.writeSuperblock(false);
  }

  private async writeSuperblock(clean: boolean): Promise<void> {
    const { log, superblock, identity, rounds } = this.options;
    const replication = this.replication;
    const destageCursor = this.synced;
    this.identityChanged = false;
    await superblock.write({
      ...identity(),
      tail: this.tail,
      destageCursor,
      durableLsn: log.durableLsn,
      destagedLsn: destageCursor.lsn - 1,
      replication,
      round: rounds.named,
      clean,
    });
    if (replication.staged !== undefined) rounds.secured(replication.staged);
    this.recorded = {
      replicatedLsn: replication.replicatedLsn,
      fenced: replication.fenced,
      syncedLsn: destageCursor.lsn - 1,
      segmentNumber: replication.segmentNumber,
    };
  }

  /** Log bytes from one place to a later one; what is skipped at files' ends counts. */
  distance(from: LogCursor, to: LogCursor): number {
    return (to.file - from.file) * this.options.log.files.fileBytes + to.offset - from.offset;
  }
}
