import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, remoteImage, Rig, ticks } from '../../fake/replication-rig.js';

/** A directory and its copy, which both believe to be the owner: the copy goes on, and fences the first. */
async function fenced(options: { committed: boolean; localWrites: number }): Promise<{ rig: Rig; other: Rig }> {
  const rig = new Rig();
  const random = new SeededRandom(3);
  rig.start();
  for (let batch = 0; batch < 5; batch++) rig.writeRandom(random);
  await rig.drain();
  const { store, log, state, clock, config } = rig;
  const other = new Rig({ store, log: log.clone(), state, seed: 77, clock, config });
  other.start();
  // Paused for ever right behind its fence, unless it commits.
  if (!options.committed) {
    store.fault = ({ operation, key }) =>
      operation === 'put' && key.includes('/segments/') && store.keys(`${config.uuid}/segments/`).some(isFenceOf(rig))
        ? { failBefore: 'store-unreachable' }
        : undefined;
  }
  other.write([{ kind: 'write', firstBlock: 0, data: new Uint8Array(BLOCK).fill(200) }]);
  if (options.committed) await other.drain();
  else {
    other.core?.receive({ type: 'drain', id: 1, lsn: other.log.lastLsn });
    await other.until(() => store.keys(`${config.uuid}/segments/`).some(isFenceOf(rig)));
    await ticks(50);
  }
  await other.kill();
  store.fault = () => undefined;
  for (let batch = 0; batch < options.localWrites; batch++) {
    rig.write([{ kind: 'write', firstBlock: 1, data: new Uint8Array(BLOCK).fill(100 + batch) }]);
  }
  return { rig, other };
}

const isFenceOf = (rig: Rig) => (key: string) =>
  key.endsWith(`-${String(rig.state.segmentNumber + 1).padStart(15, '0')}`) && rig.store.peek(key) !== undefined;

async function meetFence(rig: Rig): Promise<void> {
  rig.core?.receive({ type: 'drain', id: 9, lsn: rig.log.lastLsn });
  await rig.until(() => rig.ended() !== undefined);
  assert.equal(rig.ended()?.type, 'fenced');
}

/** How it ended. */
async function takeOver(rig: Rig): Promise<'taken' | { code: string; message: string }> {
  const before = rig.messages.length;
  const durable = {
    durableLsn: rig.log.lastLsn,
    sizeBytes: 0,
    oldestPendingMs: 0,
    destagedLsn: 0,
    segmentRecorded: rig.state.segmentNumber,
  };
  rig.core?.receive({ type: 'takeOver', id: 3, replication: rig.state, durable });
  const end = () =>
    rig.messages.slice(before).find(({ type }) => type === 'tookOver' || type === 'fatal' || type === 'fenced');
  await rig.until(() => end() !== undefined);
  const ended = end();
  if (ended?.type === 'tookOver') return ended.refusal ?? 'taken';
  if (ended?.type === 'fatal') return ended;
  return { code: 'fenced', message: ended?.type === 'fenced' ? ended.reason : '' };
}

async function equal(rig: Rig): Promise<void> {
  const { image, chain } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
  assert.equal(chain.lastGroup.lsn, rig.log.lastLsn);
  assert.equal(Buffer.compare(image, rig.log.imageAt(rig.log.lastLsn)), 0);
}

describe('takeover', () => {
  it('goes on where the other owner committed nothing, fences it, and is durable', async () => {
    const { rig, other } = await fenced({ committed: false, localWrites: 3 });
    await meetFence(rig);
    assert.equal(await takeOver(rig), 'taken');
    assert.equal(rig.state.fenced, false);
    await rig.until(() => rig.state.replicatedLsn === rig.log.lastLsn);
    await equal(rig);
    await rig.kill();
    rig.start();
    rig.writeRandom(new SeededRandom(4));
    await rig.drain();
    await equal(rig);
    // The other one wakes up, and has lost.
    other.start();
    await other.until(() => other.ended() !== undefined);
    const ended = other.ended();
    assert.ok(ended?.type === 'fatal' && ['remote-forked', 'remote-ahead'].includes(ended.code), JSON.stringify(ended));
    await rig.kill();
    await other.kill();
  });

  it('goes on after a death at any of its requests', async () => {
    for (let deadAt = 1; deadAt < 40; deadAt++) {
      const { rig } = await fenced({ committed: false, localWrites: 2 });
      await meetFence(rig);
      let calls = 0;
      const never = new Promise<void>(() => undefined);
      rig.store.fault = () => (++calls >= deadAt ? { delay: never } : undefined);
      const durable = {
        durableLsn: rig.log.lastLsn,
        sizeBytes: 0,
        oldestPendingMs: 0,
        destagedLsn: 0,
        segmentRecorded: rig.state.segmentNumber,
      };
      rig.core?.receive({ type: 'takeOver', id: 3, replication: rig.state, durable });
      for (let step = 0; step < 60 && calls < deadAt; step++) {
        await ticks(4);
        rig.clock.advance(50);
      }
      await rig.kill();
      rig.store.fault = () => undefined;
      rig.start();
      if (rig.state.fenced) {
        await rig.until(() => rig.ended() !== undefined);
        assert.equal(await takeOver(rig), 'taken', `dead at ${deadAt}`);
      }
      await rig.drain();
      await equal(rig);
      await rig.kill();
      if (calls < deadAt) return;
    }
  });

  it('is refused where both went on, changes nothing, and says what each side would lose', async () => {
    const { rig, other } = await fenced({ committed: true, localWrites: 3 });
    await meetFence(rig);
    const segments = rig.store.keys(`${rig.config.uuid}/segments/`);
    const answer = await takeOver(rig);
    assert.ok(answer !== 'taken' && answer.code === 'remote-forked', JSON.stringify(answer));
    assert.match(answer.message, /both went on from LSN \d+: the bucket has 1 LSNs until .* this directory has 3 LSNs/);
    assert.equal(rig.state.fenced, true);
    assert.deepEqual(rig.store.keys(`${rig.config.uuid}/segments/`), segments, 'nobody was fenced');
    await equal(other);
    // Again, and the same after a restart.
    assert.notEqual(await takeOver(rig), 'taken');
    await rig.kill();
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    assert.equal(rig.ended()?.type, 'fenced');
    await rig.kill();
  });

  it('is refused where only the bucket went on, and says that nothing is lost by taking its side', async () => {
    const { rig } = await fenced({ committed: true, localWrites: 0 });
    const { lastLsn } = rig.log;
    rig.write([{ kind: 'mark' }]);
    rig.core?.receive({ type: 'stop' });
    await rig.kill();
    rig.state = { ...rig.state, fenced: true };
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    const answer = await takeOver(rig);
    assert.ok(answer !== 'taken', 'refused');
    assert.match(answer.message, /nothing is lost by taking the bucket’s side/);
    assert.ok(rig.state.replicatedLsn <= lastLsn);
    await rig.kill();
  });

  it('is nothing that an owner does', async () => {
    const rig = new Rig();
    rig.start();
    rig.writeRandom(new SeededRandom(1));
    await rig.drain();
    const answer = await takeOver(rig);
    assert.ok(answer !== 'taken' && answer.code === 'invalid-request');
    rig.writeRandom(new SeededRandom(2));
    await rig.drain();
    await rig.kill();
  });
});
