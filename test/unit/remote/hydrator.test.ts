/** Restored volumes that serve while their content comes from the bucket: the bucket's side. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { limits } from '../../../src/base/limits.js';
import type { ObjectStore } from '../../../src/ports/object-store.js';
import { openPin } from '../../../src/remote/pin.js';
import type { FakeHydratingVolume } from '../../fake/hydrating-volume.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, Rig, ticks, writtenRig } from '../../fake/replication-rig.js';
import { restoredImage } from '../../fake/restored-image.js';
import { begin, checkpointWithShards, lookAfter } from './hydration-rig.js';

describe('instant restore', () => {
  it('brings everything home, and leaves nothing in the bucket or beside the volume', async () => {
    for (const seed of [1, 2, 3]) {
      const rig = await writtenRig(seed);
      await rig.kill();
      const before = rig.store.keys();
      const { volume } = await begin(rig);
      const disk = new MemoryDisk();
      const { hydrator, failure, log } = lookAfter(rig, volume, { disk });
      hydrator.start();
      await rig.until(() => hydrator.status.phase === 'complete' || failure() !== undefined);
      assert.equal(failure(), undefined);
      await hydrator.stop();
      assert.equal(Buffer.compare(volume.image, rig.log.imageAt(rig.log.lastLsn)), 0);
      assert.deepEqual(rig.store.keys(), before);
      assert.deepEqual(await disk.list('.'), []);
      assert.deepEqual(log.lines.length, 1);
    }
  });
});

describe('the way to the first read', () => {
  it('takes some dozens of round trips to the store, however much was written since the last checkpoint', async () => {
    const rig = new Rig({ seed: 41 });
    const random = new SeededRandom(41);
    rig.start();
    for (let group = 0; group < 70; group++) {
      rig.writeRandom(random, 1);
      await rig.drain();
    }
    await rig.kill();
    for (const key of rig.store.keys(`${rig.config.uuid}/checkpoints/`)) rig.store.poke(key, undefined);
    let waiting: (() => void)[] = [];
    rig.store.fault = () => ({ delay: new Promise((resolve) => waiting.push(resolve)) });
    let trips = 0;
    const through = async <Result>(work: Promise<Result>): Promise<Result> => {
      let done = false;
      void work.finally(() => (done = true)).catch(() => undefined);
      for (; !done; trips++) {
        const due = waiting;
        waiting = [];
        for (const answer of due) answer();
        await ticks(3);
      }
      return work;
    };
    const { volume } = await through(begin(rig));
    const restoreTrips = trips;
    const { hydrator } = lookAfter(rig, volume, { disk: new MemoryDisk() });
    hydrator.start();
    assert.ok(!(volume.frozen instanceof GatewayError));
    await through(volume.frozen.fetch(0, 1, {}));
    assert.ok(rig.store.keys(`${rig.config.uuid}/segments/`).length >= 70);
    assert.ok(restoreTrips < 40, `${restoreTrips} until the directory is made`);
    assert.ok(trips < 70, `${trips} until the first read is served`);
    rig.store.fault = () => undefined;
    for (const answer of waiting) answer();
    await hydrator.stop();
  });
});

describe('filling a restored volume', () => {
  it('goes on where it was after every crash, at any request, and fetches no segment much more than once', async () => {
    const rig = await writtenRig(4, 60);
    await rig.kill();
    await checkpointWithShards(rig);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const whole = await begin(rig);
    rig.store.calls.length = 0;
    await home(rig, whole.volume, new MemoryDisk());
    const requests = rig.store.calls.length;
    assert.ok(requests > 20);
    const bucket = rig.store.snapshot();
    for (let at = 1; at < requests; at += 3) {
      rig.store.restore(bucket);
      const { volume } = await begin(rig);
      const disk = new MemoryDisk();
      const first = lookAfter(rig, volume, { disk });
      let count = 0;
      let dead = false;
      rig.store.fault = () => {
        dead ||= ++count > at;
        return dead ? { delay: new Promise(() => undefined) } : undefined;
      };
      first.hydrator.start();
      await rig.until(() => dead || first.hydrator.status.phase === 'complete');
      rig.store.fault = () => undefined;
      disk.kill();
      const again = volume.reopen();
      await home(rig, again, disk);
      assert.equal(Buffer.compare(again.image, expected), 0, `died at request ${at}`);
      assert.deepEqual(rig.store.keys(`${rig.config.uuid}/pins/`), [], `died at request ${at}`);
    }
  });

  it('waits for a store that is away, and for space, and goes on by itself', async () => {
    const rig = await writtenRig(5);
    await rig.kill();
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { volume } = await begin(rig);
    const random = new SeededRandom(50);
    let away = true;
    let crowded = 3;
    rig.store.fault = () => (away || random.fraction() < 0.2 ? { failBefore: 'store-unreachable' } : undefined);
    volume.refuse = () => (crowded > 0 && crowded-- > 0 ? new GatewayError('disk-full', 'no space') : undefined);
    const { hydrator, failure } = lookAfter(rig, volume, { disk: new MemoryDisk() });
    hydrator.start();
    await rig.until(() => hydrator.status.problem !== undefined);
    assert.match(hydrator.status.problem ?? '', /injected/);
    assert.ok(!(volume.frozen instanceof GatewayError));
    const early = volume.frozen.fetch(0, 4, {});
    away = false;
    await rig.until(() => hydrator.status.phase === 'complete' || failure() !== undefined);
    await early;
    assert.equal(failure(), undefined);
    await hydrator.stop();
    assert.equal(Buffer.compare(volume.image, expected), 0);
    assert.equal(hydrator.status.remainingBlocks, 0);
  });

  it('leaves alone what was written meanwhile', async () => {
    const rig = await writtenRig(6);
    await rig.kill();
    const { volume } = await begin(rig);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    for (let block = 0; block < volume.blockCount; block += 3) {
      volume.overwrite(block, 9);
      expected.fill(9, block * BLOCK, (block + 1) * BLOCK);
    }
    await home(rig, volume, new MemoryDisk());
    assert.equal(Buffer.compare(volume.image, expected), 0);
  });

  it('brings home what it can where a segment is missing, says which, and completes when that is back', async () => {
    const rig = await writtenRig(7);
    await rig.kill();
    await checkpointWithShards(rig);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { volume } = await begin(rig);
    const victim = await largest(rig);
    const body = rig.store.peek(victim)!;
    rig.store.poke(victim, undefined);
    const disk = new MemoryDisk();
    const { hydrator, log } = lookAfter(rig, volume, { disk });
    hydrator.start();
    await rig.until(() => log.lines.some((line) => line.includes('cannot be filled completely yet')));
    assert.ok(volume.owedBlocks > 0 && volume.owedBlocks < 100);
    const [, , name = ''] = victim.split('/');
    const [epoch, number] = name.split('-').map(Number);
    assert.ok(log.lines.some((line) => line.includes(`${epoch}-${number}`) || line.includes(victim)));
    assert.ok(volume.progress.segmentsThrough < (number ?? 0));
    for (let block = 0; block < volume.blockCount; block++) {
      const outcome = await volume.read(block, 1).catch((error: unknown) => error);
      assert.ok(outcome === undefined || outcome instanceof GatewayError);
    }
    rig.store.poke(victim, body);
    await rig.until(() => hydrator.status.phase === 'complete', 1_200_000);
    await hydrator.stop();
    assert.equal(Buffer.compare(volume.image, expected), 0);
  });

  it('lets reads on demand pass first', async () => {
    const rig = await writtenRig(8, 60);
    await rig.kill();
    const { volume } = await begin(rig);
    const order: string[] = [];
    const spy = (name: string): ObjectStore => ({
      description: name,
      put: (...args) => rig.store.put(...args),
      get: (...args) => {
        order.push(name);
        return rig.store.get(...args);
      },
      head: (...args) => rig.store.head(...args),
      list: (...args) => rig.store.list(...args),
      delete: (...args) => rig.store.delete(...args),
      close: () => rig.store.close(),
    });
    const held: (() => void)[] = [];
    rig.store.fault = ({ operation, key }) =>
      operation === 'get' && key.includes('/segments/') && order.at(-1) === 'demand'
        ? { delay: new Promise((resolve) => held.push(resolve)) }
        : undefined;
    const { hydrator } = lookAfter(rig, volume, {
      disk: new MemoryDisk(),
      store: spy('demand'),
      background: spy('fill'),
    });
    hydrator.start();
    for (let release = held.shift(); volume.owedBlocks === volume.blockCount; release = held.shift()) {
      release?.();
      await ticks(3);
    }
    const owed = Array.from({ length: volume.blockCount }, (_, block) => block);
    const states = await volume.owed(0, volume.blockCount);
    const reads = owed.filter((block) => states[block] === 1).map((block) => volume.read(block, 1));
    const from = order.length;
    await ticks(20);
    assert.ok(order.slice(from).filter((name) => name === 'fill').length <= 4, 'those that were under way');
    rig.store.fault = () => undefined;
    for (const release of held) release();
    await Promise.all(reads);
    await rig.until(() => hydrator.status.phase === 'complete');
    await hydrator.stop();
  });
});

describe('pins of a restored volume', () => {
  it('stand without a gap from the restore to the end, over restarts, and none is left', async () => {
    const rig = await writtenRig(9, 60);
    await rig.kill();
    const { volume, made } = await begin(rig);
    assert.equal(made.pins.length, 1);
    const pins = (): string[] => rig.store.keys(`${rig.config.uuid}/pins/`);
    assert.deepEqual(
      pins(),
      made.pins.map((id) => `${rig.config.uuid}/pins/${id}`),
    );
    let least = Infinity;
    const floors = new Set<number>();
    const sealer = await rig.sealer();
    const bucket = rig.store;
    let completed = false;
    let current = volume;
    bucket.fault = ({ operation, key }) => {
      if (!completed && current.active) least = Math.min(least, pins().length);
      if (operation === 'delete' && key.includes('/pins/')) {
        const recorded = current.progress.pins.map((id) => sealer.names.pin(id));
        for (const pin of pins()) {
          assert.ok(!current.active || recorded.includes(pin), 'what stands is recorded');
          floors.add(openPin(sealer, pin, bucket.peek(pin)!).floor);
        }
      }
      return undefined;
    };
    const disk = new MemoryDisk();
    for (let life = 0; life < 3; life++) {
      let begun = false;
      current.refuse = () => {
        begun = true;
        return new GatewayError('disk-full', 'no space');
      };
      const { hydrator } = lookAfter(rig, current, { disk });
      hydrator.start();
      await rig.until(() => begun);
      for (let hour = 0; hour < 3; hour++) {
        rig.clock.advance(limits.pinRenewMs);
        await ticks(20);
      }
      await hydrator.stop();
      assert.equal(pins().length, 1);
      current = current.reopen();
    }
    assert.equal(least, 1);
    assert.deepEqual([...floors], [made.source.pinFloor]);
    current.refuse = () => undefined;
    await home(rig, current, disk);
    completed = true;
    assert.deepEqual(pins(), []);
  });

  it('are put again when the store took them for granted: a reader that was away for days has one again', async () => {
    const rig = await writtenRig(10);
    await rig.kill();
    const { volume } = await begin(rig);
    for (const pin of rig.store.keys(`${rig.config.uuid}/pins/`)) rig.store.poke(pin, undefined);
    const { hydrator } = lookAfter(rig, volume, { disk: new MemoryDisk() });
    volume.refuse = () => new GatewayError('disk-full', 'no space');
    hydrator.start();
    await rig.until(() => rig.store.keys(`${rig.config.uuid}/pins/`).length === 1);
    volume.refuse = () => undefined;
    await rig.until(() => hydrator.status.phase === 'complete');
    await hydrator.stop();
  });

  it('are done without where the store lets nobody put them', async () => {
    const rig = await writtenRig(11);
    await rig.kill();
    rig.store.fault = ({ operation }) =>
      operation === 'put' || operation === 'delete' ? { failBefore: 'store-forbidden' } : undefined;
    const { volume, made } = await begin(rig);
    assert.deepEqual(made.pins, []);
    await home(rig, volume, new MemoryDisk());
    assert.equal(Buffer.compare(volume.image, rig.log.imageAt(rig.log.lastLsn)), 0);
  });

  it('keep everything that a reader needs, however much its owner compacts and deletes', async () => {
    for (const seed of [21, 22]) {
      const rig = new Rig({ seed, blocks: 128, config: { compaction: true, graceMs: 4000 } });
      const random = new SeededRandom(seed);
      rig.start();
      await churn(rig, random, 30);
      const disk = new MemoryDisk();
      const expected = rig.log.imageAt(rig.log.lastLsn);
      const { volume } = await begin(rig);
      // Long after the restore: only its pin has protected it.
      await churn(rig, random, 60);
      const deleted = rig.store.calls.filter(({ operation, key }) => operation === 'delete' && !key.includes('/pins/'));
      assert.ok(deleted.length > 0, 'the owner does delete');
      let begun = 0;
      volume.refuse = () => (++begun > 40 ? new GatewayError('disk-full', 'no space') : undefined);
      const { hydrator, log, failure } = lookAfter(rig, volume, { disk });
      hydrator.start();
      await churn(rig, random, 40);
      await hydrator.stop();
      const again = volume.reopen();
      await churn(rig, random, 20);
      volume.refuse = () => undefined;
      await home(rig, again, disk);
      assert.equal(failure(), undefined);
      assert.deepEqual(
        log.lines.filter((line) => line.includes('lacks')),
        [],
      );
      assert.equal(Buffer.compare(again.image, expected), 0);
      await rig.kill();
    }
  });
});

describe('taking over without the content', () => {
  it('goes on as the volume, fences the owner before, and deletes nothing that is still to come', async () => {
    const config = { compaction: true, graceMs: 4000 };
    const rig = new Rig({ seed: 31, blocks: 128, config });
    const random = new SeededRandom(31);
    rig.start();
    await churn(rig, random, 30);
    const expected = rig.log.imageAt(rig.log.lastLsn);
    const { made, volume } = await begin(rig, { takeOver: true });
    assert.equal(made.uuid, rig.config.uuid);
    assert.equal(made.source.uuid, rig.config.uuid);
    const heir = new Rig({
      store: rig.store,
      log: rig.log.clone(made.source.recoveryPoint.lsn),
      clock: rig.clock,
      config: rig.config,
      seed: 32,
      state: { ...rig.state, replicatedLsn: made.source.recoveryPoint.lsn, ...made.remote },
    });
    heir.start();
    await churn(heir, random, 60);
    rig.writeRandom(random);
    await rig.until(() => rig.ended() !== undefined);
    assert.equal(rig.ended()?.type, 'fenced');
    const deletes = heir.store.calls.filter(({ operation, key }) => operation === 'delete' && !key.includes('/pins/'));
    assert.ok(deletes.length > 0, 'the heir does delete');
    const { hydrator, log, failure } = lookAfter(heir, volume, { disk: new MemoryDisk() });
    hydrator.start();
    await churn(heir, random, 20);
    await heir.until(() => hydrator.status.phase === 'complete' || failure() !== undefined);
    await hydrator.stop();
    assert.equal(log.lines.length, 1, log.lines.join('\n'));
    assert.equal(Buffer.compare(volume.image, expected), 0);
    const again = await restoredImage(heir);
    assert.equal(Buffer.compare(again.image, heir.log.imageAt(heir.log.lastLsn)), 0);
    await rig.kill();
    await heir.kill();
  });

  it('is refused for a snapshot', async () => {
    const rig = await writtenRig(12);
    rig.write([{ kind: 'snapshot', name: 'kept', snapshotLsn: 0 }]);
    await rig.drain();
    await rig.kill();
    await assert.rejects(begin(rig, { takeOver: true, snapshot: 'kept' }), { code: 'invalid-request' });
    assert.deepEqual(rig.store.keys(`${rig.config.uuid}/pins/`), []);
  });
});

/** Until all of it is there. */
async function home(rig: Rig, volume: FakeHydratingVolume, disk: MemoryDisk): Promise<void> {
  const { hydrator, failure, log } = lookAfter(rig, volume, { disk });
  hydrator.start();
  const problem = (): boolean => log.lines.some((line) => line.includes('cannot be filled'));
  await rig.until(() => hydrator.status.phase === 'complete' || failure() !== undefined || problem());
  assert.equal(failure(), undefined);
  assert.equal(hydrator.status.phase, 'complete', log.lines.join('\n'));
  await hydrator.stop();
}

/** The segment object that is read most for the recovery point. */
async function largest(rig: Rig): Promise<string> {
  const { volume } = await begin(rig);
  rig.store.calls.length = 0;
  await home(rig, volume, new MemoryDisk());
  const counts = new Map<string, number>();
  for (const { operation, key } of rig.store.calls)
    if (operation === 'get' && key.includes('/segments/')) counts.set(key, (counts.get(key) ?? 0) + 1);
  return [...counts].sort((left, right) => right[1] - left[1])[0]![0];
}

/** Overwrites single blocks at random places, so many groups; each is committed before the next. */
async function churn(rig: Rig, random: SeededRandom, groups: number): Promise<void> {
  const blocks = rig.log.createdSizeBytes / BLOCK;
  for (let group = 0; group < groups; group++) {
    rig.write(
      Array.from({ length: 12 }, () => ({
        kind: 'write' as const,
        firstBlock: random.below(blocks),
        data: random.bytes(BLOCK),
      })),
    );
    await rig.drain();
    const untilMs = rig.clock.nowMs() + 500;
    await rig.until(() => rig.clock.nowMs() >= untilMs);
  }
}
