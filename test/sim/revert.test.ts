/** A volume is brought back to a snapshot, and its gateway is killed or loses its power at any moment of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SnapshotReport } from '../../src/api/gateway-view.js';
import { GatewayError } from '../../src/base/errors.js';
import { REVERT_FILE } from '../../src/engine/revert-record.js';
import { SeededRandom } from '../fake/random.js';
import { SimHost } from './host.js';
import { restoreFrom } from './restore.js';
import { Scheduler } from './scheduler.js';
import { BLOCK } from './shadow.js';
import { SimBucket } from './store.js';

const SIZE = 4 * 1024 * 1024;
const BLOCKS = SIZE / BLOCK;

class World {
  readonly scheduler = new Scheduler();
  readonly random: SeededRandom;
  readonly bucket: SimBucket;
  readonly host: SimHost;
  content: Uint8Array = new Uint8Array(SIZE);

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.bucket = new SimBucket(this.scheduler, this.random.fork());
    this.host = new SimHost({
      name: 'a',
      scheduler: this.scheduler,
      random: this.random.fork(),
      bucket: this.bucket,
      sizeBytes: SIZE,
      astray: false,
      graceMs: 1000,
      configuration: {
        whenFull: seed % 2 === 0 ? 'track' : 'throttle',
        intervalMs: 500,
        segmentBytes: 4096 * (4 + this.random.below(60)),
      },
    });
    // What is written here is what the volume itself wants.
    this.host.disk.onAppend = () => undefined;
  }

  async served(): Promise<void> {
    for (let waits = 0; this.host.device === undefined; waits++) {
      const status = this.host.gateway?.status();
      assert.ok(waits < 3000 && status?.state !== 'failed', `not served: ${JSON.stringify(status)}`);
      await this.scheduler.sleep(100);
    }
  }

  /** Writes and trims here and there. */
  async change(runs: number): Promise<void> {
    const device = this.host.device!;
    for (let run = 0; run < runs; run++) {
      const count = 1 + this.random.below(40);
      const first = this.random.below(BLOCKS - count);
      while (!device.writable) await new Promise<void>((resolve) => device.onceWritable(resolve));
      const zeros = this.random.fraction() < 0.2;
      const bytes = new Uint8Array(count * BLOCK).fill(zeros ? 0 : 1 + this.random.below(255));
      await new Promise<void>((resolve) => {
        if (zeros) device.trim(first * BLOCK, bytes.length, false, { done: () => resolve() });
        else device.write(first * BLOCK, bytes.length, bytes, 0, false, { done: () => resolve() });
      });
      this.content.set(bytes, first * BLOCK);
    }
  }

  async drain(): Promise<void> {
    const gateway = this.host.gateway!;
    await gateway.replicateTo(await gateway.forceFlush());
  }

  async read(): Promise<Uint8Array> {
    return (await this.host.readAll([])).contents;
  }

  /** What a restore gives now. */
  bucketNow(): Promise<Uint8Array> {
    return this.scheduler.aside(async () => {
      const world = new Scheduler();
      const restored = await world.drive(restoreFrom(this.bucket.copy(world), world, this.random.fork(), false));
      return restored.contents;
    });
  }

  /** Once the bucket was read. */
  async snapshots(): Promise<readonly SnapshotReport[]> {
    for (let waits = 0; ; waits++) {
      try {
        return this.host.gateway!.snapshots.list();
      } catch (error) {
        assert.ok(waits < 1000 && error instanceof GatewayError && error.code === 'store-unreachable', String(error));
        await this.scheduler.sleep(200);
      }
    }
  }

  /** As soon as the bucket is known to have it, and again where the store fails more often than is tried. */
  async revert(name: string): Promise<void> {
    for (let waits = 0; ; waits++) {
      try {
        await this.host.gateway!.revert(name, false, () => undefined);
        return;
      } catch (error) {
        assert.ok(waits < 1000 && error instanceof GatewayError && isPassing(error), String(error));
        await this.scheduler.sleep(200);
      }
    }
  }

  async complete(name: string): Promise<void> {
    for (let waits = 0; ; waits++) {
      if ((await this.snapshots()).some((one) => one.name === name && one.state === 'complete')) return;
      assert.ok(waits < 1000, `${name} is never complete`);
      await this.scheduler.sleep(200);
    }
  }
}

const isPassing = ({ code }: GatewayError): boolean => code === 'invalid-request' || code.startsWith('store-');
const same = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0;

/** Where the order of steps matters. */
const moments = [
  ['rename', REVERT_FILE],
  ['remove', REVERT_FILE],
  ['syncDirectory', ''],
  ['write', 'super'],
  ['sync', 'log/'],
  ['write', 'log/'],
  ['write', 'image'],
  ['sync', 'dirty'],
] as const;

async function play(world: World, seed: number): Promise<'reverted' | 'untouched' | 'finished later'> {
  const { host, scheduler, random, bucket } = world;
  await host.start();
  await world.served();
  await world.change(30);
  await world.drain();
  await host.gateway!.snapshots.create('then');
  await world.drain();
  const then = world.content.slice();
  await world.change(60);
  await world.drain();
  await world.complete('then');
  const now = world.content.slice();
  if (seed % 3 === 0) {
    bucket.plan.failBefore = 0.05;
    bucket.plan.loseReply = 0.05;
  }
  let outcome: 'reverted' | 'refused' | undefined;
  const crashes = seed % 5 > 0;
  const reverting = host
    .gateway!.revert('then', true, () => undefined)
    .then(
      () => (outcome = 'reverted'),
      (error: unknown) => {
        assert.ok(error instanceof GatewayError, String(error));
        outcome = 'refused';
      },
    );
  const { life } = host;
  let over = false;
  const died = new Promise<void>((resolve) => host.life?.onDeath(resolve));
  if (crashes) {
    const end = (): void => {
      if (over || host.life !== life) return;
      if (random.fraction() < 0.5) host.kill();
      else host.powerLoss();
    };
    const [operation, path] = moments[random.below(moments.length)]!;
    let passes = random.below(3);
    if (random.fraction() < 0.6)
      host.disk.atNext((found, where) => found === operation && where.startsWith(path) && passes-- === 0, end);
    else scheduler.at(random.below(1500), end);
    scheduler.at(60_000, () => {
      if (outcome === undefined && host.life === life) end();
    });
  }
  await Promise.race([reverting, died]);
  over = true;
  const inBucket = await world.bucketNow();
  assert.ok(same(inBucket, now) || same(inBucket, then), 'the bucket shows neither');
  if (host.alive && outcome === undefined) await reverting;
  let begun = false;
  if (!host.alive) {
    begun = host.disk.file(REVERT_FILE) !== undefined;
    await host.start();
    await world.served();
    await host.gateway!.forceFlush();
  }
  const found = await world.read();
  assert.ok(same(found, now) || same(found, then), 'the volume is neither what it was nor what it becomes');
  if (outcome === 'reverted' || begun)
    assert.ok(same(found, then), `it was reverted (${outcome}, ${begun}), and is not`);
  assert.equal(host.disk.file(REVERT_FILE), undefined);
  await world.drain();
  assert.ok(same(await world.bucketNow(), found), 'the drained bucket is not what the volume holds');
  // It goes on as any volume does, and back to where it was.
  const back = (await world.snapshots()).find(({ name }) => name.startsWith('before-revert-'));
  if (back !== undefined) {
    await world.revert(back.name);
    assert.ok(same(await world.read(), now), 'what it was is not there any more');
    await world.drain();
    assert.ok(same(await world.bucketNow(), now));
  }
  await host.stop();
  assert.equal(host.violation, undefined);
  return same(found, now) ? 'untouched' : begun ? 'finished later' : 'reverted';
}

describe('reverting to a snapshot', () => {
  it(
    'leaves what was or what becomes, here and in the bucket, wherever it is interrupted',
    { timeout: 900_000 },
    async () => {
      const outcomes = { reverted: 0, untouched: 0, 'finished later': 0 };
      for (let seed = 1; seed <= 30; seed++) {
        const world = new World(seed);
        try {
          outcomes[await world.scheduler.drive(play(world, seed))]++;
        } catch (error) {
          throw new Error(
            `seed ${seed}: ${String((error as Error).stack)}; ${world.host.log.lines.slice(-4).join('; ')}`,
          );
        }
      }
      assert.ok(
        Object.values(outcomes).every((count) => count > 2),
        JSON.stringify(outcomes),
      );
    },
  );
});
