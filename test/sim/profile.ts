/** What can go wrong in a history; a seed draws one kind. */
import type { ErrorCode } from '../../src/base/errors.js';
import type { VolumeConfiguration } from '../../src/config/configuration.js';
import type { SeededRandom } from '../fake/random.js';
import type { DiskFault, DiskOperation, SimDisk } from './disk.js';
import type { Scheduler } from './scheduler.js';
import type { SimBucket } from './store.js';

export interface Profile {
  readonly name: string;
  readonly replicated: boolean;
  readonly twoOwners: boolean;
  readonly rots: boolean;
  /** At the end the bucket is restored to a machine that serves while its content comes. */
  readonly hydrates: boolean;
  /** How often something happens in the middle of the load. */
  readonly disturbed: number;
  /** What a process kill keeps (shadow.ts). */
  readonly keeps: 'all' | 'flushed' | 'claimed';
  readonly configuration: Partial<VolumeConfiguration>;
  /** How long dead objects stay at least. */
  readonly graceMs: number;
  /** Changes that make a checkpoint write a shard of the map anew: a small volume would else never have one. */
  readonly shardRewriteBlocks: number | undefined;
  /** Errors that a client may get, and why a start may be refused. */
  readonly requestErrors: readonly ErrorCode[];
  readonly refusals: readonly ErrorCode[];
  troubleDisk(disks: readonly SimDisk[]): void;
  calmDisk(disks: readonly SimDisk[]): void;
  troubleStore(bucket: SimBucket): void;
  calmStore(bucket: SimBucket): void;
}

/** Of the kinds of history (seed % 20), those with a hydration: one of each trouble of the disk. */
const hydrating: ReadonlySet<number> = new Set([0, 5, 6, 11, 17]);

type DiskTrouble = 'none' | 'failing' | 'full' | 'rotting';

export function drawProfile(seed: number, random: SeededRandom, scheduler: Scheduler): Profile {
  const kind = seed % 10;
  const twoOwners = kind === 8 || kind === 9;
  const trouble: DiskTrouble = kind === 5 ? 'failing' : kind === 6 ? 'full' : kind === 7 ? 'rotting' : 'none';
  const troubledStore = kind === 3 || kind === 4 || kind === 7 || kind === 8;
  const replicated = kind !== 2;
  const name = [trouble, troubledStore ? 'troubled store' : 'good store', twoOwners ? 'two owners' : 'one owner'].join(
    ', ',
  );
  const tracks = replicated && seed % 20 >= 10;
  const slowDisk = random.fraction();
  const operationMs = (operation: DiskOperation): number => {
    if (random.fraction() < 0.5) return 0;
    return operation === 'sync' || operation === 'syncDirectory'
      ? random.below(1 + 40 * slowDisk)
      : random.fraction() * 4;
  };
  const requestErrors: Record<DiskTrouble, readonly ErrorCode[]> = {
    none: [],
    failing: ['disk-failed', 'checksum-mismatch', 'log-damaged'],
    full: ['disk-full'],
    rotting: ['checksum-mismatch', 'disk-failed', 'log-damaged'],
  };
  const refusals: Record<DiskTrouble, readonly ErrorCode[]> = {
    none: [],
    failing: ['log-damaged', 'disk-failed', 'superblock-damaged'],
    full: ['disk-full'],
    rotting: [
      'log-damaged',
      'superblock-damaged',
      'volume-exists',
      'format-unknown',
      'format-newer',
      'disk-failed',
      'checksum-mismatch',
    ],
  };
  return {
    name,
    replicated,
    twoOwners,
    rots: trouble === 'rotting',
    hydrates: replicated && hydrating.has(seed % 20),
    // A round takes its time.
    disturbed: tracks && random.fraction() < 0.5 ? 0.15 : 0.62,
    keeps: trouble === 'failing' ? 'flushed' : trouble === 'rotting' ? 'claimed' : 'all',
    configuration: {
      whenFull: tracks ? 'track' : 'throttle',
      provision: seed % 6 === 2 ? 'full' : 'thin',
      intervalMs: 300 + random.below(3000),
      segmentBytes: 4096 * (tracks ? 1 + random.below(4) : 2 + random.below(22)),
      snapshots: {
        everyMs: random.fraction() < 0.3 ? 4000 + random.below(60_000) : undefined,
        keep: 1 + random.below(4),
      },
    },
    graceMs: 500 + random.below(8000),
    shardRewriteBlocks: seed % 4 === 0 ? undefined : 1 + 4 * (seed % 7),
    requestErrors: requestErrors[trouble],
    refusals: refusals[trouble],
    troubleDisk: (disks) => {
      for (const { plan } of disks) {
        plan.latencyMs = operationMs;
        plan.cacheMisses = random.fraction() < 0.5 ? 0.1 : 0;
        plan.fault = withoutSpill(faults(trouble, random, scheduler), random);
        plan.misdirect = () => false;
      }
      if (trouble === 'rotting') for (const disk of disks) rot(disk, random);
    },
    calmDisk: (disks) => {
      for (const { plan } of disks) {
        plan.fault = () => undefined;
        plan.misdirect = () => false;
      }
    },
    troubleStore: ({ plan }) => {
      // A store that falls behind fills the buffer.
      const slow = tracks ? [1, 8, 50][random.below(3)]! : 1;
      plan.latencyMs = () => random.fraction() * (troubledStore ? 400 : 20) * slow;
      if (slow > 1) plan.outageUntilMs = random.fraction() < 0.5 ? 0 : scheduler.nowMs + random.below(15_000);
      if (!troubledStore) return;
      plan.failBefore = 0.06;
      plan.loseReply = 0.06;
      plan.duplicate = 0.1;
      plan.straggle = 0.02;
      plan.outageUntilMs = random.fraction() < 0.5 ? 0 : scheduler.nowMs + random.below(40_000);
    },
    calmStore: ({ plan }) => {
      plan.failBefore = plan.loseReply = plan.straggle = plan.outageUntilMs = 0;
      plan.latencyMs = () => random.fraction() * 400;
    },
  };
}

function faults(
  trouble: DiskTrouble,
  random: SeededRandom,
  scheduler: Scheduler,
): (operation: DiskOperation, path: string) => DiskFault | undefined {
  if (trouble === 'failing') {
    // One or two faults a round.
    let left = 1 + random.below(2);
    const share = random.fraction() < 0.5 ? 0.002 : 0.02;
    return (operation) => {
      if (operation === 'list' || left === 0 || random.fraction() >= share) return undefined;
      left--;
      return { kind: random.fraction() < 0.7 ? 'partly' : 'fail', code: 'disk-failed' };
    };
  }
  if (trouble === 'full') {
    const fromMs = scheduler.nowMs + random.below(5000);
    const untilMs = fromMs + random.below(60_000);
    return (operation) => {
      const now = scheduler.nowMs;
      const wantsSpace = operation === 'allocate' || operation === 'create';
      if (!wantsSpace || now < fromMs || now > untilMs) return undefined;
      return { kind: 'fail', code: 'disk-full' };
    };
  }
  return () => undefined;
}

/** Scratch space may be missing at any time, and costs nothing but the round that wanted it. */
function withoutSpill(fault: SimDisk['plan']['fault'], random: SeededRandom): SimDisk['plan']['fault'] {
  return (operation, path) => {
    const missing = path === 'spill' && operation === 'create' && random.fraction() < 0.5;
    return missing ? { kind: 'fail', code: 'disk-full' } : fault(operation, path);
  };
}

/** A bit somewhere; now and then a write that goes astray. */
function rot(disk: SimDisk, random: SeededRandom): void {
  if (random.fraction() < 0.6) {
    const paths = disk.paths().filter((path) => path !== 'lock');
    const path = paths[random.below(Math.max(1, paths.length))];
    const file = path === undefined ? undefined : disk.file(path);
    const pages = file?.pageIndexes ?? [];
    const page = pages[random.below(Math.max(1, pages.length))];
    if (file !== undefined && page !== undefined) file.flip(page * 4096 + random.below(4096), random.below(8));
  }
  if (random.fraction() < 0.3) {
    let left = 1;
    disk.plan.misdirect = (path) => {
      // A write of checksums that never arrives leaves older ones, which are whole (docs/durability.md, P3).
      if (left === 0 || path.endsWith('.json') || path === 'sums' || random.fraction() >= 0.01) return false;
      left--;
      return true;
    };
  }
}
