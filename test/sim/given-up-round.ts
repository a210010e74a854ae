/**
 * A round that is given up because what is overwritten cannot be kept any more, crashed at each operation of its disk from
 * its beginning on. After each crash the volume is judged, the round goes on or the next one begins, and with each round
 * that is in the bucket a restore must give a state of the volume: no round has in it what was overwritten since it began.
 */
import { SeededRandom } from '../fake/random.js';
import { ArrivedSegments } from './arrival.js';
import { check, crash, Crashed, crashRecovery, recover, type CrashPoint } from './crash-point.js';
import { SimHost } from './host.js';
import { restoreFrom } from './restore.js';
import { Scheduler } from './scheduler.js';
import { ScriptedClient } from './scripted-client.js';
import { BLOCK, Violation } from './shadow.js';
import { SimBucket } from './store.js';

const SIZE = 256 * BLOCK;
/** By then all that is durable is in the image. */
const destagedMs = 6000;

export interface GivenUpRound {
  readonly unsynced: number;
  /** A round went on after the crash. */
  readonly wentOn: boolean;
}

/** Plays it up to the crash and on to its end; undefined: it was over before. */
export async function tryGivenUpRound(point: CrashPoint): Promise<GivenUpRound | undefined> {
  return new World().play(point);
}

class World {
  private readonly scheduler = new Scheduler();
  private readonly random = new SeededRandom(7);
  private readonly bucket = new SimBucket(this.scheduler, this.random.fork());
  private readonly host = new SimHost({
    name: 'a',
    scheduler: this.scheduler,
    random: this.random.fork(),
    bucket: this.bucket,
    sizeBytes: SIZE,
    astray: false,
    graceMs: 4000,
    configuration: { whenFull: 'track', intervalMs: 300, segmentBytes: 4 * BLOCK },
  });
  private readonly client = new ScriptedClient(this.host);
  private readonly segments = new ArrivedSegments();
  private violation: Error | undefined;

  async play(point: CrashPoint): Promise<GivenUpRound | undefined> {
    const { scheduler, host, bucket } = this;
    await scheduler.drive(host.start());
    while (host.device === undefined) await scheduler.drive(scheduler.sleep(10));
    await scheduler.drive(this.begin());
    let operation = 0;
    let unsynced = -1;
    host.disk.onOperation = () => {
      if (operation++ !== point.operation) return;
      unsynced = host.disk.unsynced;
      crash(host, point.how);
    };
    const gone = new Promise<never>((_, reject) => host.life?.onDeath(() => reject(new Crashed())));
    gone.catch(() => undefined);
    try {
      await scheduler.drive(Promise.race([this.giveUp(), gone]));
      return undefined;
    } catch (error) {
      if (!(error instanceof Crashed)) throw error;
    }
    host.disk.onOperation = () => undefined;
    host.disk.plan.fault = () => undefined;
    bucket.onArrival = (key, body) => this.arrived(key, body);
    if (point.again !== undefined) await crashRecovery(host, scheduler, point.again);
    const lines = host.log.lines.length;
    const contents = await recover(host, scheduler);
    const wentOn = host.log.lines.slice(lines).some((line) => line.includes('a round goes on'));
    bucket.plan.outageUntilMs = 0;
    await scheduler.drive(this.drain());
    check(host);
    if (this.violation !== undefined) throw this.violation;
    const restored = await this.restore();
    if (Buffer.compare(restored, contents) !== 0)
      throw new Violation('the drained bucket is not what the volume holds');
    return { unsynced, wentOn };
  }

  /** The bucket has something; a round of more begins, and does not get there. */
  private async begin(): Promise<void> {
    const { client, host, bucket } = this;
    await client.write(0, 12 * BLOCK);
    await client.flush();
    await this.drain();
    bucket.plan.outageUntilMs = Infinity;
    await client.write(0, 8 * BLOCK);
    await client.flush();
    const begun = new Promise<void>((resolve) =>
      host.disk.atNext((operation, path) => operation === 'create' && path === 'spill', resolve),
    );
    await host.device?.replication.holdRounds();
    bucket.plan.outageUntilMs = 0;
    host.device?.replication.releaseRounds();
    await begun;
    bucket.plan.outageUntilMs = Infinity;
  }

  private async giveUp(): Promise<void> {
    const { client, host, scheduler } = this;
    await client.write(BLOCK, 2 * BLOCK);
    await client.flush();
    await scheduler.sleep(destagedMs); // It is kept.
    host.disk.plan.fault = (operation, path) =>
      path === 'spill' && operation === 'write' ? { kind: 'fail', code: 'disk-full' } : undefined;
    await client.write(3 * BLOCK, 2 * BLOCK);
    await client.trim(6 * BLOCK, BLOCK);
    await client.flush();
    await scheduler.sleep(destagedMs); // It cannot be kept.
    if (!host.log.lines.some((line) => line.includes('given up'))) throw new Error('the round was not given up');
    await client.write(2 * BLOCK, 3 * BLOCK);
    await client.flush();
    await scheduler.sleep(destagedMs);
  }

  private async drain(): Promise<void> {
    const { gateway } = this.host;
    await gateway?.replicateTo(await gateway.forceFlush());
  }

  private arrived(key: string, body: Uint8Array): void {
    this.scheduler
      .aside(async () => {
        // What is staged shows with the last segment of its round.
        if ((await this.segments.roleOf(this.bucket, key, body)) === 'apply') await this.restore();
      })
      .catch((error: unknown) => {
        this.violation ??= error as Error;
      });
  }

  /** What the bucket gives back now, judged. */
  private async restore(): Promise<Uint8Array> {
    const world = new Scheduler();
    const random = new SeededRandom(3);
    const { contents, recoveryPoint } = await world.drive(
      restoreFrom(this.bucket.copy(world, random.fork()), world, random, false),
    );
    this.host.shadow.judgeRestore(contents, recoveryPoint.lsn);
    return contents;
  }
}
