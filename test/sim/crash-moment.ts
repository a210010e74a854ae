/** When a machine crashes: at a random moment, or around an operation of its disk where the order of things matters. */
import type { SeededRandom } from '../fake/random.js';
import type { DiskOperation, SimDisk } from './disk.js';
import type { Scheduler } from './scheduler.js';

interface DiskPoint {
  readonly operation: DiskOperation;
  readonly path: string;
}

/** Operations of the disk before and after which crashes tell most. */
export const turningPoints: readonly DiskPoint[] = [
  { operation: 'sync', path: 'log/0' },
  { operation: 'write', path: 'super.' },
  { operation: 'sync', path: 'super.' },
  { operation: 'write', path: 'sums' },
  // In this file a torn sector takes blocks along that were not written: twice as often.
  { operation: 'sync', path: 'sums' },
  { operation: 'sync', path: 'sums' },
  { operation: 'sync', path: 'image' },
  { operation: 'rename', path: 'log/0' },
  { operation: 'syncDirectory', path: 'log' },
  { operation: 'write', path: 'map' },
];

/** The same of a recovery. */
export const recoveryPoints: readonly DiskPoint[] = [
  { operation: 'write', path: 'log/0' },
  { operation: 'sync', path: 'log/0' },
  { operation: 'sync', path: 'log/copy' },
  { operation: 'write', path: 'super.' },
  { operation: 'sync', path: 'super.' },
  { operation: 'sync', path: 'super.' },
];

/** The same of a volume that tracks: a round begins, keeps what is overwritten, and ends. */
export const roundPoints: readonly DiskPoint[] = [
  { operation: 'create', path: 'spill' },
  { operation: 'sync', path: 'spill' },
  { operation: 'write', path: 'frozen' },
  { operation: 'sync', path: 'dirty' },
  { operation: 'sync', path: 'dirty' },
  { operation: 'write', path: 'super.' },
  { operation: 'sync', path: 'super.' },
];

export interface CrashMoment {
  readonly disk: SimDisk;
  readonly random: SeededRandom;
  readonly scheduler: Scheduler;
  readonly withinMs: number;
  readonly points: readonly DiskPoint[];
}

/** Runs once: at a random moment within so many milliseconds, or at one of the points or soon after. */
export function atSomeMoment({ disk, random, scheduler, withinMs, points }: CrashMoment, run: () => void): void {
  let done = false;
  const once = (): void => {
    if (!done) run();
    done = true;
  };
  if (random.fraction() < (points === recoveryPoints ? 0.8 : 0.5)) {
    const { operation, path } = points[random.below(points.length)] ?? { operation: 'sync', path: '' };
    let passes = random.below(3);
    disk.atNext(
      (found, where) => found === operation && where.startsWith(path) && passes-- === 0,
      () => scheduler.at(random.fraction() < 0.5 ? 0 : random.below(10), once),
    );
    scheduler.at(20 * withinMs, once);
    return;
  }
  scheduler.at(random.below(withinMs), once);
}
