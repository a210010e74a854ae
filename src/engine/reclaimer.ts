/**
 * Gives log space back: destage, sync the image, write a superblock, recycle files, keep new ones ready (P4).
 *
 * One cycle at a time. It is lazy: the longer records wait, the more of them are overwritten in the log already, and need not be
 * moved at all. It moves what makes room when half of the buffer is full, the overlay is, or admission has stopped; and what has
 * waited for seconds.
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
import type { DurableProgress } from './durable-progress.js';
import type { Log } from './log.js';
import type { Overlay } from './overlay.js';
import type { Rounds } from './rounds.js';

/** Undestaged log bytes that start a cycle by themselves: half of the buffer, at most this. */
const LAZY_BYTES_MAX = 2 * GIB;
/** By so much less, at most, is left when it ends: a cycle costs syncs, however little it moves. */
const CYCLE_BYTES_MAX = 64 * MIB;
/** How often records that have waited since the last time are moved: each waits twice that long at most. */
const LAZY_AGE_MS = 5000;
/** Bytes of the log that are moved before the image is synced in the middle of a long cycle. */
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
  readonly clock: Clock;
  readonly progress: DurableProgress;
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
  private readonly options: ReclaimerOptions;
  private readonly progress: DurableProgress;
  private readonly lazyBytes: number;
  /** To be done between cycles, when nothing else moves. */
  private readonly tasks: (() => Promise<void>)[] = [];
  private running: Promise<void> | undefined;
  /** Whoever waits for rounds to begin again; undefined: they may. */
  private roundsHeld: (() => void)[] | undefined;
  private again = false;
  /** Everything that is durable is to be moved. */
  private urgent = false;
  /** Up to here records have waited for long. */
  private agedThrough: Lsn = 0;
  /** A cycle is due, or goes on, because its oldest record has waited for long. */
  private aged = false;
  private stopped = false;
  /** The log was full and could not let go of what the bucket needs, as the bucket was when that was tried. */
  private heldBack = false;
  /** `failed` will not mend itself. */
  private rotten = false;
  /** Set when a further log file found no space, until when no other is tried. The ring goes on with the files it has. */
  private noSpaceForFile: { readonly error: GatewayError; readonly untilMs: number } | undefined;
  private ageTimer: Timer | undefined;
  private markTimer: Timer | undefined;
  private retryTimer: Timer | undefined;

  constructor(options: ReclaimerOptions) {
    this.options = options;
    this.progress = options.progress;
    this.lazyBytes = Math.min(LAZY_BYTES_MAX, options.log.files.capacityBytes / 2);
  }

  /** The log grew. Called for every batch: no more than a comparison or two. */
  appended(): void {
    const { log, overlay } = this.options;
    if (!log.hasRoom || overlay.isFull) log.syncs.start();
    if (!log.hasRoom || this.leaves(this.lazyBytes) || this.filesWanted()) this.wake(false);
    this.armAge();
  }

  /** Durability advanced: more may be destaged, and within a second of idleness the log says how far (a mark). */
  durable(): void {
    if (!this.options.log.hasRoom || this.leaves(this.lazyBytes)) this.wake(false);
    this.markTimer?.cancel();
    this.markTimer = this.options.clock.after(IDLE_MARK_MS, () => {
      const { log } = this.options;
      if (
        this.stopped ||
        !log.wantsMark ||
        log.appendedLsn !== log.durableLsn ||
        this.progress.recordedDestagedLsn === log.durableLsn
      )
        return;
      log.stageRecord('mark', 0, 0, false, false, undefined);
      log.commit();
    });
  }

  /** The bucket has more: its superblock follows soon, at once when fenced. */
  replicatedTo(state: ReplicationState): void {
    this.progress.heard(state);
    this.heldBack = false;
    this.wake(false);
  }

  /** From now on the bucket stays as it is: what it lacks is tracked, and no round begins. Durably, but for the latter. */
  async holdRounds(): Promise<void> {
    this.roundsHeld ??= [];
    await this.between(async () => {
      if (this.progress.tracking) return this.options.rounds.abandon('the volume is being reverted');
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
      const { log, destager, rounds, clock, progress } = this.options;
      if (!progress.tracking) throw new GatewayError('invalid-request', 'a round begins only while tracking');
      const { replicatedLsn } = progress.replication;
      const current = rounds.current(replicatedLsn);
      if (current !== undefined) return current;
      // Of a round that was given up.
      progress.letLogGo();
      const target = log.durableLsn;
      // A trim that was freed ahead of its turn is part of what the image is; what was left to its turn was durable by now.
      const through = (): Lsn => Math.max(target, destager.freedThrough);
      await this.moveWhile(() => destager.cursor.lsn <= through(), through);
      // Before its moment would be what the bucket has already.
      if (destager.cursor.lsn <= through()) throw new GatewayError('volume-closed', 'the volume is being closed');
      await this.settle();
      progress.holdLog();
      const start = await rounds.begin({
        cursor: progress.synced,
        sizeBytes: destager.sizeBytes,
        wallMs: clock.wallMs(),
        replicatedLsn,
      });
      // Before anything is overwritten that only the spill will have: the other superblock may name no round.
      await progress.record();
      return start;
    });
  }

  /**
   * The bucket has the round. Where the log still holds everything since it began, the log is followed again; else the
   * next round brings what changed meanwhile. undefined: the round was given up.
   */
  endRound(round: number): Promise<Pick<ReplicationState, 'keeping' | 'cursor'> | undefined> {
    return this.between(async () => {
      const { rounds, progress } = this.options;
      const cursor = rounds.cursorOf(round);
      if (cursor === undefined) return undefined;
      const followed = progress.endRound(cursor);
      rounds.end();
      // Both superblocks, before bits go: either of them may be the one that is read next.
      await progress.record();
      await progress.record();
      if (followed.keeping === 'draining') await rounds.leave();
      else await rounds.committed();
      return followed;
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
    if (this.rotten && !this.progress.fenceUnrecorded) {
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

  /** Ends all work and writes a last superblock: clean, so that the next opening has nothing to repair. */
  async close(): Promise<void> {
    this.stopped = true;
    for (const timer of [this.ageTimer, this.markTimer, this.retryTimer]) timer?.cancel();
    await this.running;
    if (this.failed === undefined && this.options.destager.healedUnsynced) await this.options.destager.sync();
    await this.progress.record(true);
  }

  /** Ends all timers, after a failed opening or stop. */
  abandon(): void {
    this.stopped = true;
    for (const timer of [this.ageTimer, this.markTimer, this.retryTimer]) timer?.cancel();
  }

  /** The volume's size is another one: writes a superblock with the next cycle; resolves when that cycle is over. */
  async recordSoon(): Promise<void> {
    this.progress.changeIdentity();
    await this.running;
    this.wake(false);
    await this.running;
  }

  /** Moves everything that is durable now into the image, durably; resolves early where that cannot be. */
  async destageSoon(): Promise<void> {
    const { log, destager } = this.options;
    const throughLsn = log.durableLsn;
    this.wake(true);
    while (this.running !== undefined && destager.cursor.lsn <= throughLsn) await this.running;
    await this.running;
  }

  private async run(): Promise<void> {
    this.again = false;
    try {
      // Whatever keeps records from the image: who was fenced must know it after any end (P7).
      if (this.progress.fenceUnrecorded) await this.progress.recordInBoth();
      if (this.rotten) return;
      const { destager, log } = this.options;
      const before = destager.cursor.lsn;
      await this.cycle();
      const tried = destager.cursor.lsn !== before || destager.cursor.lsn > log.durableLsn;
      if (tried && (this.stalled !== undefined || this.failed !== undefined)) {
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
    const { log, destager, progress } = this.options;
    for (let task = this.tasks.shift(); task !== undefined && !this.stopped; task = this.tasks.shift()) await task();
    if (this.filesWanted()) await this.prepareFiles();
    await this.move();
    const moved = destager.cursor.lsn !== progress.synced.lsn || destager.healedUnsynced;
    if (moved || progress.isOutdated || this.superblockHoldsFiles()) await this.settle();
    if (this.filesWanted()) await this.prepareFiles();
    if (!log.hasRoom) await this.letGo();
    this.options.onProgress();
    if (!log.hasRoom && this.noSpaceForFile !== undefined && destager.cursor.lsn > log.dataLsn) {
      throw this.noSpaceForFile.error;
    }
    // What is not durable yet becomes so with a sync under way, which wakes again.
    if (this.leaves(this.lazyBytes) && destager.cursor.lsn <= log.durableLsn) this.again = true;
    // A file that a slow read holds is not given back until it is looked at again.
    if (destager.cursor.lsn <= log.dataLsn || this.filesWanted()) this.armAge();
    if (this.aged && !this.again) {
      this.aged = false;
      this.options.onQuiet();
    }
  }

  /** Moves durable records into the image: all of them, or what makes room and what has waited. */
  private async move(): Promise<void> {
    const { log, destager } = this.options;
    const allThrough = this.urgent ? log.durableLsn : 0;
    this.urgent = false;
    const pressed = this.leaves(this.lazyBytes);
    const leftBytes = this.lazyBytes - Math.min(CYCLE_BYTES_MAX, this.lazyBytes / 4);
    const isDue = (): boolean =>
      this.urgent ||
      destager.cursor.lsn <= Math.max(allThrough, this.agedThrough) ||
      (pressed && this.leaves(leftBytes));
    // What waits to be done between two cycles must not wait for a client to pause, nor clients for what gives no room.
    await this.moveWhile(
      () => this.tasks.length === 0 && !this.wouldLetGo && isDue(),
      () => log.durableLsn,
    );
    // Something else came first.
    if (destager.cursor.lsn <= allThrough && !this.stopped) this.again = this.urgent = true;
  }

  private async moveWhile(isDue: () => boolean, through: () => Lsn): Promise<void> {
    const { log, destager } = this.options;
    const { progress } = this;
    while (!this.stopped && isDue() && (await this.step(through()))) {
      // Where admission waits, a file of the log is given back as soon as nothing of it is needed: sooner, a sync gives nothing back.
      const freesFile = !log.hasRoom && destager.cursor.file > progress.synced.file;
      if (freesFile || this.distance(progress.synced, destager.cursor) >= SYNC_BYTES) await this.settle();
      this.options.onProgress();
    }
  }

  /** Whether room is wanted that moving records gives, or more than so many bytes of the log are to be moved. */
  private leaves(bytes: number): boolean {
    const { log, overlay, destager } = this.options;
    if (overlay.isFull || this.distance(destager.cursor, log.head) >= bytes) return true;
    if (log.hasRoom) return false;
    // Else the log is full of what only the bucket needs.
    return this.noSpaceForFile !== undefined || this.progress.tail.file >= this.progress.synced.file;
  }

  /** The log is full. What only the bucket still needs of it is noted in the dirty map instead, where that is wanted. */
  private async letGo(): Promise<void> {
    if (!this.onlyForBucket()) return;
    if (this.progress.tracking) {
      this.progress.letLogGo();
      return this.freeFiles();
    }
    if (!this.options.letsGo) return;
    // Where it fails too: what it lacks, disk space say, moving may give.
    this.heldBack = true;
    // What the follower says last may make room.
    this.heldBack = !(await this.stopFollowing(() => this.onlyForBucket()));
  }

  /** The log is full, and can let go of what only the bucket still needs. */
  private get wouldLetGo(): boolean {
    if (this.options.log.hasRoom || !this.onlyForBucket()) return false;
    return this.progress.tracking || (this.options.letsGo && !this.heldBack);
  }

  /** The bucket follows the dirty map instead of the log from here on. False: it does not. */
  private async stopFollowing(isWanted: () => boolean): Promise<boolean> {
    const { follower, rounds, destager, progress } = this.options;
    if (follower === undefined || !(await follower.revoke())) return false;
    try {
      if (!isWanted()) return false;
      // Steps that no superblock knows of, after a cycle that failed, are made only once unless there is a crash.
      await rounds.enter(progress.replication.cursor, destager.cursor, destager.sizeBytes);
      progress.track();
      await this.freeFiles();
      return true;
    } finally {
      follower.resume();
    }
  }

  /** Whether log files are kept that only the bucket still needs. A fenced log is kept for whoever decides. */
  private onlyForBucket(): boolean {
    const { tracking, replication, tail, synced } = this.progress;
    const mayGo = tracking || !replication.fenced;
    return mayGo && !this.stopped && tail.file < synced.file;
  }

  /** Both superblocks let go of what is before the tail. */
  private async freeFiles(): Promise<void> {
    await this.progress.recordInBoth();
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
    if (this.ageTimer !== undefined) return;
    const { clock, log } = this.options;
    const throughLsn = log.appendedLsn;
    this.ageTimer = clock.after(LAZY_AGE_MS, () => {
      this.ageTimer = undefined;
      this.aged = true;
      this.agedThrough = throughLsn;
      this.wake(false);
    });
  }

  /** Image and sums durable, then the superblock, then log space: in this order (P4). */
  private async settle(): Promise<void> {
    const { destager, progress, rounds } = this.options;
    const cursor = destager.cursor;
    if (cursor.lsn !== progress.synced.lsn || destager.healedUnsynced) await destager.sync();
    await rounds.flush(progress.replication.replicatedLsn, cursor.lsn);
    progress.synced = cursor;
    const fencedNow = progress.fenceUnrecorded;
    await progress.record();
    // Both superblocks must let a file go before it is used again, and both must know a fence: one of them may rot (P3, P7).
    if (fencedNow || this.superblockHoldsFiles()) await progress.record();
    await this.prepareFiles();
  }

  /** Whether files are wanted that only an outdated superblock still holds back. */
  private superblockHoldsFiles(): boolean {
    const { superblock, tail } = this.progress;
    return this.filesWanted() && superblock.oldestFileNeeded < tail.file;
  }

  /** A full disk allows no further file, which is no reason to stall while the ring can turn without it. */
  private async prepareFiles(): Promise<void> {
    const { log, progress, clock } = this.options;
    try {
      await log.files.prepare(log.head.file, progress.superblock.oldestFileNeeded);
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
    if (files.oldestFile < this.progress.tail.file) return true;
    const mayTry = this.noSpaceForFile === undefined || this.options.clock.nowMs() >= this.noSpaceForFile.untilMs;
    return mayTry && files.count < files.countLimit;
  }

  /** Log bytes from one place to a later one; what is skipped at files' ends counts. */
  distance(from: LogCursor, to: LogCursor): number {
    return (to.file - from.file) * this.options.log.files.fileBytes + to.offset - from.offset;
  }
}
