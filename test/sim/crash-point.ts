/**
 * A short fixed workload, crashed after each of its disk or store operations. Where few things are unsynced, every subset
 * of them survives in turn; beyond, samples. After each crash the volume is judged, crashed again while it recovers, and
 * recovered twice more: the same contents every time, and the bucket gives back a state of the volume.
 */
import { SeededRandom } from '../fake/random.js';
import { SimHost } from './host.js';
import { restoreFrom } from './restore.js';
import { Scheduler } from './scheduler.js';
import { ScriptedClient } from './scripted-client.js';
import { BLOCK, Violation } from './shadow.js';
import { SimBucket } from './store.js';

const MIB = 1024 * 1024;
/** Up to so many unsynced things, all their subsets are tried. */
const EXHAUSTIVE_MAX = 5;

export interface CrashPoint {
  /** Crash before the operation of this number, from 0. */
  readonly operation: number;
  /** 'kill', or the number of a subset that survives a power loss. */
  readonly how: 'kill' | number;
  /** Crash once more, at this operation of the recovery. */
  readonly again?: number;
}

export class Crashed extends Error {}

/** Runs the workload up to the crash; undefined: it ended before. Otherwise how many things were unsynced then. */
export async function tryCrashPoint(point: CrashPoint): Promise<{ unsynced: number } | undefined> {
  const scheduler = new Scheduler();
  const random = new SeededRandom(7);
  const bucket = new SimBucket(scheduler, random.fork());
  const host = new SimHost({
    name: 'a',
    scheduler,
    random: random.fork(),
    bucket,
    sizeBytes: MIB,
    astray: false,
    graceMs: 4000,
    configuration: { intervalMs: 300, segmentBytes: 4 * BLOCK },
  });
  let operation = 0;
  let unsynced = -1;
  const count = (): void => {
    if (operation++ !== point.operation) return;
    unsynced = host.disk.unsynced;
    crash(host, point.how);
  };
  await scheduler.drive(host.start());
  while (host.device === undefined) await scheduler.drive(scheduler.sleep(10));
  host.disk.onOperation = count;
  bucket.onOperation = count;
  const gone = new Promise<never>((_, reject) => host.life?.onDeath(() => reject(new Crashed())));
  gone.catch(() => undefined);
  try {
    await scheduler.drive(Promise.race([workload(host, scheduler), gone]));
    return undefined;
  } catch (error) {
    if (!(error instanceof Crashed)) throw error;
  } finally {
    host.disk.onOperation = () => undefined;
    bucket.onOperation = () => undefined;
  }
  check(host);
  if (point.again !== undefined) await crashRecovery(host, scheduler, point.again);
  const first = await recover(host, scheduler);
  host.kill();
  const second = await recover(host, scheduler);
  host.powerLossKeeping(() => false);
  const third = await recover(host, scheduler);
  if (Buffer.compare(first, second) !== 0 || Buffer.compare(first, third) !== 0)
    throw new Violation('a second recovery gives something else');
  await judgeBucket(bucket, host);
  return { unsynced };
}

/** How many ways there are to lose power with so many things unsynced, as far as they are tried. */
export function subsetsOf(unsynced: number): number {
  return 2 ** Math.min(unsynced, EXHAUSTIVE_MAX);
}

/** The process or the machine ends. */
export function crash(host: SimHost, how: CrashPoint['how']): void {
  if (how === 'kill') return host.kill();
  const { unsynced } = host.disk;
  if (unsynced <= EXHAUSTIVE_MAX) return host.powerLossKeeping((thing) => ((how >> thing) & 1) === 1);
  const sample = new SeededRandom(how);
  host.powerLossKeeping(() => sample.fraction() < 0.5);
}

async function workload(host: SimHost, scheduler: Scheduler): Promise<void> {
  const client = new ScriptedClient(host);
  await client.write(0, 2 * BLOCK);
  await client.flush();
  await client.write(BLOCK + 100, 700);
  await client.write(3 * BLOCK, BLOCK, true);
  await client.trim(0, BLOCK);
  await scheduler.sleep(7000); // It is moved into the image, and uploaded.
  await client.write(BLOCK, BLOCK);
  await client.flush();
  await client.write(4 * BLOCK - 50, 100);
  await scheduler.sleep(7000);
  await client.flush();
}

/** Starts the host, crashes it at an operation of its recovery; it may have been through before. */
export async function crashRecovery(host: SimHost, scheduler: Scheduler, at: number): Promise<void> {
  let operation = 0;
  host.disk.onOperation = () => {
    if (operation++ === at) host.powerLoss();
  };
  await scheduler.drive(host.start().catch(() => undefined));
  host.disk.onOperation = () => undefined;
  if (host.alive) host.powerLoss();
}

/** Starts the host and judges what it serves, which is returned. */
export async function recover(host: SimHost, scheduler: Scheduler): Promise<Uint8Array> {
  await scheduler.drive(host.start());
  while (host.device === undefined) await scheduler.drive(scheduler.sleep(10));
  const { contents } = await scheduler.drive(host.readAll([]));
  host.shadow.judgeRecovery(contents, 'all');
  check(host);
  return contents;
}

async function judgeBucket(bucket: SimBucket, host: SimHost): Promise<void> {
  const world = new Scheduler();
  const restored = await world.drive(restoreFrom(bucket.copy(world), world, new SeededRandom(3), false));
  host.shadow.judgeRestore(restored.contents, restored.recoveryPoint.lsn);
}

export function check(host: SimHost): void {
  if (host.violation !== undefined) throw host.violation;
}
