/** A buffer that is too small for the outage (whenFull: track), on the real engine. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { RoundSource } from '../../../src/ports/replication.js';
import { EngineRig } from '../../fake/engine-rig.js';
import { restoredImage } from '../../fake/restored-image.js';
import { SeededRandom } from '../../fake/random.js';
import { remoteImage } from '../../fake/replication-rig.js';
import { apply } from '../engine/operation.js';
import { settle } from '../engine/volume-harness.js';

const KIB = 1024;
const long = process.env['KEEPGATE_TEST_LONG'] === '1';
/** Of each history with crashes. */
const seeds = long ? 4 : 2;

async function tracked(seed: number): Promise<EngineRig> {
  const rig = new EngineRig(seed);
  rig.track();
  await rig.harness.create();
  await rig.replicate();
  await rig.harness.write(0, new Uint8Array(4096).fill(9));
  await rig.drain();
  return rig;
}

function unreachable(rig: EngineRig): void {
  rig.store.fault = () => ({ failBefore: 'store-unreachable' });
}

/** Overwrites the volume several times over, far more than the buffer holds. */
async function overwrite(rig: EngineRig, random: SeededRandom, writes: number): Promise<void> {
  for (let count = 0; count < writes; count++) {
    const length = 4096 * (1 + random.below(16));
    const offset = 4096 * random.below((rig.harness.sizeBytes - length) / 4096);
    if (random.fraction() < 0.1) await rig.harness.zero(offset, length, random.fraction() < 0.5);
    else await rig.harness.write(offset, new Uint8Array(length).fill(1 + random.below(255)));
  }
}

async function blocksOf(source: RoundSource, round: number): Promise<number> {
  let count = 0;
  for (let from: number | undefined = 0; from !== undefined;) {
    const piece = await source.read(round, from, 64);
    assert.ok(piece !== undefined);
    count += piece.blocks.length + piece.zeros.reduce((sum, zero) => sum + zero.count, 0);
    from = piece.next;
  }
  return count;
}

/** What the history says of rounds. */
async function stagedOf(rig: EngineRig): Promise<{
  readonly rounds: ReadonlySet<number>;
  readonly applied: ReadonlySet<number>;
  readonly blocks: number;
  /** Blocks that stand twice in a round. */
  readonly twice: readonly number[];
}> {
  const { segments } = await remoteImage(rig.store, rig.uuid, rig.harness.sizeBytes);
  const [rounds, applied, seen, twice] = [new Set<number>(), new Set<number>(), new Set<string>(), [] as number[]];
  for (const { index } of segments) {
    if (index.role === 'apply') applied.add(index.round ?? 0);
    if (index.role !== 'staged') continue;
    rounds.add(index.round ?? 0);
    for (const { count, firstBlock, blockCount } of [index.extents, index.zeros])
      for (let at = 0; at < count; at++)
        for (let block = firstBlock[at]!; block < firstBlock[at]! + blockCount[at]!; block++) {
          const name = `${index.round ?? 0}/${block}`;
          if (seen.has(name)) twice.push(block);
          seen.add(name);
        }
  }
  return { rounds, applied, blocks: seen.size, twice };
}

describe('a buffer that is full', () => {
  it('is no event for the client, and the bucket is brought up in a round', async () => {
    const rig = await tracked(1);
    const random = new SeededRandom(1);
    unreachable(rig);
    await overwrite(rig, random, 400);
    const { volume } = rig.harness;
    assert.equal(volume.replication.state.keeping, 'tracking');
    assert.ok(volume.status().trackedDirtyBlocks > 0);
    assert.ok(volume.status().bufferUsedBytes < 2048 * KIB);
    rig.store.fault = () => undefined;
    await rig.drain();
    await rig.until(() => volume.replication.state.keeping === 'draining');
    await rig.assertRemoteIsPrefix(rig.harness.operations.length);
    assert.equal(volume.status().trackedDirtyBlocks, 0);
    // And from there by the log again.
    const before = rig.store.keys(`${rig.uuid}/segments/`).length;
    await rig.harness.write(0, new Uint8Array(4096).fill(77));
    await rig.drain();
    await rig.assertRemoteIsPrefix(rig.harness.operations.length);
    assert.equal(rig.store.keys(`${rig.uuid}/segments/`).length, before + 1);
    rig.core!.receive({ type: 'stop' });
    await volume.close();
  });

  it('gives a recovery point for each round, exactly as of its moment, under any load', async () => {
    const rig = await tracked(2);
    const random = new SeededRandom(2);
    unreachable(rig);
    await overwrite(rig, random, 300);
    // An uplink that is slower than the client: while one round goes up, the buffer overflows again.
    let puts = 0;
    rig.store.fault = ({ operation }) => {
      if (operation === 'put') puts++;
      return operation === 'put' && random.fraction() < 0.5 ? { failBefore: 'store-unreachable' } : undefined;
    };
    const points = new Set<number>();
    for (let pass = 0; pass < 30; pass++) {
      await overwrite(rig, random, 20);
      for (let step = 0; step < 20; step++) {
        await settle();
        rig.harness.clock.advance(200);
      }
      points.add(await rig.assertRemoteIsPrefix());
    }
    assert.ok(puts > 50);
    assert.ok(points.size >= 3, `recovery points: ${[...points].join(' ')}`);
    rig.core!.receive({ type: 'stop' });
    await rig.harness.volume.close();
  });

  it('sends all of it again after a round that was given up', async () => {
    const rig = await tracked(3);
    const random = new SeededRandom(3);
    unreachable(rig);
    await overwrite(rig, random, 300);
    rig.core!.receive({ type: 'stop' });
    const { rounds } = rig.harness.volume.replication;
    const first = await rounds.begin();
    const all = await blocksOf(rounds, first.round);
    assert.ok(all > 300);
    // One that goes on is the same, however often it is asked for.
    assert.deepEqual(await rounds.begin(), first);
    rig.harness.disk.hook = (operation, path) => {
      if (operation === 'write' && path === 'spill') throw new GatewayError('disk-full', 'full');
    };
    await overwrite(rig, random, 300);
    rig.harness.disk.hook = () => undefined;
    assert.equal(await rounds.read(first.round, 0, 64), undefined);
    assert.equal(await rounds.end(first.round), undefined);
    const second = await rounds.begin();
    assert.notEqual(second.round, first.round);
    assert.ok((await blocksOf(rounds, second.round)) >= all);
    await rig.harness.volume.close();
  });

  it('goes on with a round after a restart, from where the bucket has it', async () => {
    for (const how of ['killed', 'power loss'] as const) {
      const rig = await tracked(4);
      const random = new SeededRandom(4);
      unreachable(rig);
      await overwrite(rig, random, 300);
      // The store takes some of the round, and no more.
      let left = 10;
      rig.store.fault = ({ operation, key }) =>
        operation === 'put' && key.includes('/segments/') && left-- <= 0
          ? { failBefore: 'store-unreachable' }
          : undefined;
      await rig.until(() => left < 0);
      await overwrite(rig, random, 100);
      await settle();
      const before = await stagedOf(rig);
      assert.ok(before.blocks > 100, `${before.blocks} blocks`);
      await rig.die(how, random);
      rig.store.fault = () => undefined;
      await rig.replicate();
      await rig.drain();
      await rig.assertRemoteIsPrefix(rig.history.length + rig.harness.operations.length);
      const after = await stagedOf(rig);
      assert.ok(after.rounds.has([...before.rounds][0]!));
      assert.deepEqual(after.twice, [], 'nothing is sent twice in a round');
      assert.ok(after.applied.has([...before.rounds].at(-1)!), 'the very round is applied');
      rig.core!.receive({ type: 'stop' });
      await rig.harness.volume.close();
    }
  });

  it('survives kills and power losses at any point of it', async () => {
    let entered = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const random = new SeededRandom(100 + seed);
      const rig = await tracked(100 + seed);
      for (let life = 0; life < 6; life++) {
        if (random.fraction() < 0.6) unreachable(rig);
        await overwrite(rig, random, random.below(200));
        if (rig.harness.volume.replication.state.keeping === 'tracking') entered++;
        rig.store.fault = () => (random.fraction() < 0.1 ? { failAfter: 'store-unreachable' } : undefined);
        for (let step = random.below(40); step > 0; step--) {
          await settle();
          rig.harness.clock.advance(random.below(400));
          if (random.fraction() < 0.3) await overwrite(rig, random, 5);
        }
        await rig.die(random.fraction() < 0.5 ? 'killed' : 'power loss', random);
        rig.store.fault = () => undefined;
        await rig.assertRemoteIsPrefix();
        await rig.replicate();
      }
      await rig.drain();
      await rig.assertRemoteIsPrefix(rig.history.length + rig.harness.operations.length);
      assert.ok(!rig.messages.some(({ type }) => type === 'fatal' || type === 'fenced'));
      rig.core!.receive({ type: 'stop' });
      await rig.harness.volume.close();
    }
    assert.ok(entered >= seeds, `tracked in ${entered} lives`);
  });

  const stateAfter = (rig: EngineRig, count: number): Uint8Array => {
    const content = new Uint8Array(rig.harness.sizeBytes);
    apply(content, [...rig.history, ...rig.harness.operations].slice(0, count));
    return content;
  };
  const snapshotOf = async (rig: EngineRig, snapshot: string): ReturnType<typeof restoredImage> =>
    restoredImage({ store: rig.store, clock: rig.harness.clock }, { snapshot });
  const namesIn = async (rig: EngineRig): Promise<string[]> => {
    const { snapshots } = await restoredImage({ store: rig.store, clock: rig.harness.clock });
    return snapshots.map(({ name }) => name);
  };

  it('makes of a snapshot the first recovery point behind its call', async () => {
    const rig = await tracked(5);
    const random = new SeededRandom(5);
    const exact = await rig.harness.volume.snapshots.record('exact', 0);
    const before = rig.harness.operations.length;
    await rig.drain();
    unreachable(rig);
    await overwrite(rig, random, 200);
    const { volume } = rig.harness;
    const lost = await volume.snapshots.record('deleted', 0);
    const first = await volume.snapshots.record('first', 0);
    const called = rig.harness.operations.length;
    await overwrite(rig, random, 200);
    assert.ok(volume.snapshots.tracking);
    await volume.snapshots.record('second', 0);
    await volume.snapshots.record('deleted', lost.lsn);
    await volume.snapshots.record('exact', exact.lsn);
    rig.store.fault = () => undefined;
    const moment = rig.harness.operations.length;
    await rig.drain();
    const late = await snapshotOf(rig, 'first');
    assert.ok(late.recoveryPoint.lsn > first.lsn && moment > called && called > before);
    assert.equal(Buffer.compare(late.image, stateAfter(rig, moment)), 0);
    const { image, recoveryPoint } = await snapshotOf(rig, 'second');
    assert.equal(Buffer.compare(image, late.image), 0);
    assert.equal(recoveryPoint.lsn, late.recoveryPoint.lsn);
    assert.deepEqual(await namesIn(rig), ['first', 'second']);
    // One of the two that share a root goes; the other stays as it was.
    await volume.snapshots.record('first', first.lsn);
    await overwrite(rig, random, 20);
    await rig.drain();
    assert.deepEqual(await namesIn(rig), ['second']);
    assert.equal(Buffer.compare((await snapshotOf(rig, 'second')).image, late.image), 0);
    rig.core!.receive({ type: 'stop' });
    await volume.close();
  });

  it('keeps snapshots and deletions that the log has let go of, over crashes', async () => {
    let late = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const random = new SeededRandom(200 + seed);
      const rig = await tracked(200 + seed);
      const alive = new Map<string, { readonly lsn: number; readonly operations: number }>();
      for (let life = 0; life < 5; life++) {
        if (random.fraction() < 0.7) unreachable(rig);
        for (let turn = 0; turn < 3; turn++) {
          await overwrite(rig, random, random.below(80));
          const [victim] = alive.keys();
          if (victim !== undefined && random.fraction() < 0.3) {
            await rig.harness.volume.snapshots.record(victim, alive.get(victim)!.lsn);
            alive.delete(victim);
          } else {
            const name = `s${life}-${turn}`;
            const { lsn } = await rig.harness.volume.snapshots.record(name, 0);
            alive.set(name, { lsn, operations: rig.history.length + rig.harness.operations.length });
          }
        }
        rig.store.fault = () => (random.fraction() < 0.1 ? { failAfter: 'store-unreachable' } : undefined);
        for (let step = random.below(40); step > 0; step--) {
          await settle();
          rig.harness.clock.advance(random.below(400));
        }
        await rig.die(random.fraction() < 0.5 ? 'killed' : 'power loss', random);
        rig.store.fault = () => undefined;
        await rig.replicate();
      }
      await rig.drain();
      assert.deepEqual((await namesIn(rig)).sort(), [...alive.keys()].sort());
      for (const [name, { lsn, operations }] of alive) {
        const { image, recoveryPoint } = await snapshotOf(rig, name);
        if (recoveryPoint.lsn > lsn) late++;
        const total = rig.history.length + rig.harness.operations.length;
        let at = operations;
        while (at < total && Buffer.compare(image, stateAfter(rig, at)) !== 0) at++;
        assert.equal(Buffer.compare(image, stateAfter(rig, at)), 0, `snapshot ${name} is no state behind its call`);
        if (recoveryPoint.lsn === lsn) assert.equal(Buffer.compare(image, stateAfter(rig, operations)), 0, name);
      }
      rig.core!.receive({ type: 'stop' });
      await rig.harness.volume.close();
    }
    assert.ok(late > 3, `${late} came late`);
  });
});
