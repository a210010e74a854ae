/**
 * Judges what a bucket gives back, restored by the gateway's own code: always a state of the volume, never an older one than
 * before, with each snapshot exactly as it was. Of several owners it finds out whose history the bucket shows.
 */
import { GatewayError } from '../../src/base/errors.js';
import { SeededRandom } from '../fake/random.js';
import { ArrivedSegments } from './arrival.js';
import type { SimHost } from './host.js';
import type { Profile } from './profile.js';
import { restoreFrom, type RestoredDisk } from './restore.js';
import { Scheduler } from './scheduler.js';
import { BLOCK, Violation } from './shadow.js';
import type { SimBucket } from './store.js';

export interface BucketJudgeOptions {
  readonly bucket: SimBucket | undefined;
  readonly scheduler: Scheduler;
  readonly random: SeededRandom;
  readonly profile: Profile;
  /** There was more than one owner. */
  readonly isContested: () => boolean;
}

export class BucketJudge {
  restores = 0;
  /** A restore that reads while its owner goes on. */
  reading: Promise<void> | undefined;
  violation: Error | undefined;
  /** Whose history the bucket may show: of several owners one remains. */
  lineages: SimHost[] = [];
  /** LSN up to which all lineages are the same. */
  commonLsn = 0;
  /** That there ever was: a snapshot may be older than whoever is left. */
  readonly everyHost: SimHost[] = [];
  /** LSN of every snapshot that was acknowledged; no name is given twice. */
  readonly snapshotLsns = new Map<string, number>();
  /** LSN up to which snapshots and checkpoints may need a segment that was damaged; undefined: none ever was. */
  damagedLsn: number | undefined;
  /** A segment is damaged now: whoever restores meets it. */
  damaged = false;
  /** LSNs of what the bucket gave back, while there was one owner. */
  private readonly recoveryPoints = new Set<number>();
  /** Recovery point of the last restore: the next one may not be older. */
  private restoredLsn = 0;
  /** The same but for what was judged as it arrived, which no history may depend on. */
  private knownLsn = 0;
  private readonly segments = new ArrivedSegments();
  private readonly options: BucketJudgeOptions;

  constructor(options: BucketJudgeOptions) {
    this.options = options;
  }

  /** Another one's volume begins. */
  forget(): void {
    this.lineages = [];
    this.restoredLsn = this.knownLsn = 0;
  }

  /** Restores the bucket as it is now, in a world of its own, and judges the outcome. */
  async restore(takeOver = false): Promise<RestoredDisk | undefined> {
    const { bucket, scheduler } = this.options;
    if (bucket === undefined) return undefined;
    const random = this.options.random.fork();
    const restored = await scheduler.aside(() => this.restoreCopy(random, takeOver));
    if (restored !== undefined) this.knownLsn = restored.recoveryPoint.lsn;
    return restored;
  }

  private async restoreCopy(
    random: SeededRandom,
    takeOver: boolean,
    copyRandom?: SeededRandom,
  ): Promise<RestoredDisk | undefined> {
    const world = new Scheduler();
    const copy = this.options.bucket!.copy(world, copyRandom);
    // Two of the three that are kept.
    if (this.damagedLsn === undefined && random.fraction() < 0.3) copy.damageCheckpoints(1 + random.below(2));
    let restored: RestoredDisk;
    try {
      restored = await world.drive(restoreFrom(copy, world, random, takeOver));
    } catch (error) {
      // Before the volume object is there, there is nothing to restore.
      if (error instanceof GatewayError && error.code === 'not-found' && this.restoredLsn === 0) return undefined;
      throw new Violation(`the bucket cannot be restored: ${String((error as Error).stack)}`);
    }
    this.restores++;
    this.judgeRestored(restored);
    const { snapshots } = restored;
    if (new Set(snapshots.map((snapshot) => snapshot.name)).size < snapshots.length)
      throw new Violation(`a snapshot is there twice: ${snapshots.map((snapshot) => snapshot.name).join(', ')}`);
    const whole = snapshots.filter(({ point }) => point.lsn > (this.damagedLsn ?? -1));
    const { name } = whole[random.below(Math.max(1, whole.length))] ?? {};
    if (name === undefined) return restored;
    this.judgeSnapshot(name, await world.drive(restoreFrom(copy, world, random.fork(), false, 0, name)));
    this.restores++;
    return restored;
  }

  /**
   * Judges the bucket with the very segment that has just arrived, before a later one hides it: what compaction moves, and
   * the end of a round, while an image is ahead of what the bucket may show.
   */
  arrived(key: string, body: Uint8Array): void {
    const { bucket, scheduler } = this.options;
    if (bucket === undefined || this.damaged || !key.includes('/segments/')) return;
    if (!this.everyHost.some(isAhead)) return;
    // Drawn from nothing else: histories go on as without it.
    const random = new SeededRandom(scheduler.events);
    scheduler
      .aside(async () => {
        const role = await this.segments.roleOf(bucket, key, body);
        if (role === 'compaction' || role === 'apply') await this.restoreCopy(random, false, random.fork());
      })
      .catch((error: unknown) => (this.violation ??= error as Error));
  }

  /** Restores from the living bucket, slowly, while its owner goes on, compacts and deletes. */
  read(): void {
    const { bucket, scheduler, random } = this.options;
    const { knownLsn: restoredLsn, lineages } = this;
    if (bucket === undefined || this.reading !== undefined || restoredLsn === 0) return;
    const { generation } = bucket;
    const slowMs = [0, 300, 3000][random.below(3)] ?? 0;
    this.reading = restoreFrom(bucket, scheduler, random.fork(), false, 1 + slowMs)
      .then((restored) => {
        if (bucket.generation !== generation) return;
        this.restores++;
        if (restored.recoveryPoint.lsn < restoredLsn)
          throw new Violation(`a reader got LSN ${restored.recoveryPoint.lsn} after ${restoredLsn}`);
        this.admitting(restored, [...new Set([...lineages, ...this.lineages])]);
      })
      .catch((error: unknown) => {
        if (bucket.generation !== generation) return;
        this.violation ??= new Violation(`a slow restore failed: ${String((error as Error).stack)}`);
      })
      .finally(() => (this.reading = undefined));
  }

  private judgeRestored(restored: RestoredDisk): void {
    const { lsn } = restored.recoveryPoint;
    if (lsn < this.restoredLsn) throw new Violation(`the bucket went back from LSN ${this.restoredLsn} to ${lsn}`);
    this.restoredLsn = lsn;
    if (!this.options.isContested()) this.recoveryPoints.add(lsn);
    const admitting = this.admitting(restored, this.lineages);
    if (lsn > this.commonLsn) this.lineages = admitting;
  }

  /** Whose history a restore may be. */
  private admitting({ contents, recoveryPoint, lost }: RestoredDisk, lineages: readonly SimHost[]): SimHost[] {
    const { lsn } = recoveryPoint;
    if (lost.size > 0 && !this.options.profile.rots) throw new Violation(`${lost.size} blocks are lost in the bucket`);
    const problems: Error[] = [];
    const admitting = lineages.filter((host) => {
      try {
        host.shadow.judgeRestore(contents, lsn, lost);
        return true;
      } catch (error) {
        problems.push(error as Error);
        return false;
      }
    });
    if (admitting.length === 0) throw problems[0] ?? new Violation('the bucket belongs to nobody');
    return admitting;
  }

  /** A snapshot is exactly the state at its record, however long ago that was; a late one the first recovery point behind. */
  private judgeSnapshot(name: string, { contents, recoveryPoint, lost }: RestoredDisk): void {
    const { lsn } = recoveryPoint;
    const acknowledged = this.snapshotLsns.get(name) ?? lsn;
    const mayBeLate = this.options.profile.configuration.whenFull === 'track' && lsn > acknowledged;
    if (lsn !== acknowledged && !mayBeLate)
      throw new Violation(`snapshot ${name} is LSN ${acknowledged}, the bucket says ${lsn}`);
    for (const point of this.options.isContested() ? [] : this.recoveryPoints)
      if (point >= acknowledged && point < lsn)
        throw new Violation(`snapshot ${name} of LSN ${acknowledged} is LSN ${lsn}, and ${point} came first`);
    const problems: Error[] = [];
    for (const { shadow } of this.everyHost) {
      try {
        return shadow.judgeRestore(contents, lsn, lost);
      } catch (error) {
        problems.push(error as Error);
      }
    }
    throw new Violation(
      `snapshot ${name}: ${problems.map(({ message }) => message).join('; ') || 'it belongs to nobody'}`,
    );
  }
}

/** Its image has what is not in the bucket yet. */
function isAhead({ device }: SimHost): boolean {
  const { destaged = 0, replicated = 0 } = device?.status().lsn ?? {};
  return destaged > replicated;
}

/** Whether a restore gave what the volume holds, as far as both can be read. */
export function isSame({ contents, lost }: RestoredDisk, now: Awaited<ReturnType<SimHost['readAll']>>): boolean {
  if (contents.length !== now.contents.length) return false;
  for (let block = 0; block * BLOCK < contents.length; block++) {
    if (lost.has(block) || now.unreadable.has(block)) continue;
    const [from, to] = [block * BLOCK, (block + 1) * BLOCK];
    if (Buffer.compare(contents.subarray(from, to), now.contents.subarray(from, to)) !== 0) return false;
  }
  return true;
}
