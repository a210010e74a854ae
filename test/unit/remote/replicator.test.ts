import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ManualClock } from '../../fake/clock.js';
import { MemoryStore } from '../../fake/memory-store.js';
import type { StoreFault } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, remoteImage, Rig, ticks } from '../../fake/replication-rig.js';
import { NeighbourSurvey } from '../../../src/remote/neighbours.js';
import { putFormatVersion } from '../../../src/remote/seal-header.js';

async function assertRemoteIsPrefix(rig: Rig): Promise<number> {
  const { image, chain } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
  const { lsn } = chain.lastGroup;
  assert.ok(rig.log.endsAt(lsn), `recovery point ${lsn} is a batch boundary`);
  assert.equal(Buffer.compare(image, rig.log.imageAt(lsn)), 0, `content as of LSN ${lsn}`);
  return lsn;
}

function filled(blocks: number, byte: number): Uint8Array {
  return new Uint8Array(blocks * BLOCK).fill(byte);
}

async function replicated(): Promise<{ rig: Rig; random: SeededRandom }> {
  const rig = new Rig({ seed: 31 });
  const random = new SeededRandom(32);
  for (let batch = 0; batch < 10; batch++) rig.writeRandom(random);
  rig.start();
  await rig.drain();
  return { rig, random };
}

describe('replicator', () => {
  it('brings random writes, trims, zeros and resizes into the bucket', async () => {
    for (const seed of [3, 4, 5]) {
      const rig = new Rig({ seed });
      const random = new SeededRandom(seed);
      rig.start();
      for (let round = 0; round < 40; round++) {
        rig.writeRandom(random);
        if (round === 20) rig.write([{ kind: 'resize', sizeBytes: rig.log.createdSizeBytes + 64 * BLOCK }]);
        if (random.fraction() < 0.2) await rig.drain();
      }
      await rig.drain();
      assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
      assert.equal(rig.state.replicatedLsn, rig.log.lastLsn);
      await rig.kill();
    }
  });

  it('sends nothing while the volume is idle, and nothing for marks', async () => {
    const rig = new Rig();
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    rig.write([{ kind: 'write', firstBlock: 1, data: filled(1, 9) }]);
    await rig.drain();
    await rig.until(() => rig.messages.some(({ type }) => type === 'receipt'));
    const calls = rig.store.calls.length;
    for (let round = 0; round < 5; round++) {
      rig.write([{ kind: 'mark' }]);
      rig.clock.advance(60_000);
      await ticks(3);
    }
    await rig.drain();
    assert.equal(rig.store.calls.length, calls);
    assert.equal(rig.state.replicatedLsn, rig.log.lastLsn, 'the log behind marks may go');
    await rig.kill();
  });

  it('cuts a group at its age without being asked', async () => {
    const rig = new Rig({ config: { intervalMs: 5000 } });
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    const lsn = rig.write([{ kind: 'write', firstBlock: 1, data: filled(1, 9) }]);
    const beganMs = rig.clock.nowMs();
    await rig.until(() => rig.state.replicatedLsn === lsn);
    const tookMs = rig.clock.nowMs() - beganMs;
    assert.ok(tookMs >= 5000 && tookMs < 5500, `took ${tookMs} ms`);
    await rig.kill();
  });

  it('keeps only the newest version of a block when it is behind', async () => {
    const rig = new Rig();
    for (let round = 0; round < 50; round++) rig.write([{ kind: 'write', firstBlock: 5, data: filled(4, 1 + round) }]);
    rig.start();
    await rig.drain();
    const { segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    assert.equal(segments.length, 1);
    assert.equal(segments[0]!.index.payloadBlocks, 4);
    const coalesced = (): number[] =>
      rig.messages.flatMap((message) => (message.type === 'status' ? [message.status.coalescedBytes] : []));
    await rig.until(() => coalesced().at(-1) === 49 * 4 * BLOCK);
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    await rig.kill();
  });

  it('waits out a store that fails, says so, and never ends by it', async () => {
    const rig = new Rig();
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    rig.store.fault = () => ({ failBefore: 'store-unreachable' });
    rig.write([{ kind: 'write', firstBlock: 1, data: filled(3, 9) }]);
    const modes = (): string[] =>
      rig.messages.flatMap((message) => (message.type === 'status' ? [message.status.mode] : []));
    await rig.until(() => modes().includes('blocked'));
    rig.clock.advance(3_600_000);
    assert.equal(rig.ended(), undefined);
    rig.store.fault = () => undefined;
    await rig.drain();
    await rig.until(() => modes().at(-1) === 'idle');
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    await rig.kill();
  });

  it('never uploads a payload that rotted in the log, but says that the block is lost, and goes on', async () => {
    const rig = new Rig();
    rig.write([{ kind: 'write', firstBlock: 1, data: filled(3, 9) }]);
    rig.log.rot(1);
    rig.start();
    await rig.drain();
    rig.write([{ kind: 'write', firstBlock: 9, data: filled(1, 8) }]);
    await rig.drain();
    const { segments, image } = await remoteImage(rig.store, rig.config.uuid, 256 * BLOCK);
    assert.deepEqual(
      [...segments[0]!.index.sums].map((sum) => sum === 1),
      [false, true, false],
    );
    assert.deepEqual(image.subarray(2 * BLOCK, 3 * BLOCK), new Uint8Array(BLOCK));
    assert.equal(image[9 * BLOCK], 8);
    await rig.kill();
    // The next life finds its own group again, in spite of the block.
    rig.state = { ...rig.states[0]!, segmentNumber: 0, remoteEpoch: 0, replicatedLsn: 0, cursor: rig.log.start };
    rig.state = { ...rig.state, chainHead: new Uint8Array(32) };
    rig.start();
    rig.write([{ kind: 'write', firstBlock: 2, data: filled(1, 7) }]);
    await rig.drain();
    assert.equal(rig.ended(), undefined);
    const after = await remoteImage(rig.store, rig.config.uuid, 256 * BLOCK);
    assert.deepEqual(after.image, rig.log.imageAt(rig.log.lastLsn), 'what is written again is whole again');
    await rig.kill();
  });

  it('replicates a payload that rotted in the log from the image, if that has it', async () => {
    const rig = new Rig();
    rig.write([{ kind: 'write', firstBlock: 1, data: filled(3, 9) }]);
    const image = await rig.disk.open('image', { mode: 'write', create: true });
    await image.write([rig.log.imageAt(1)], 0);
    rig.log.rot(1);
    rig.start();
    await rig.drain();
    const remote = await remoteImage(rig.store, rig.config.uuid, 256 * BLOCK);
    assert.deepEqual(remote.image, rig.log.imageAt(1));
    await rig.kill();
  });

  it('does nothing more after stop, whatever was in flight', async () => {
    const rig = new Rig();
    rig.start();
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    let release: () => void = () => undefined;
    const delay = new Promise<void>((resolve) => (release = resolve));
    rig.store.fault = ({ operation }) => (operation === 'put' ? { delay } : undefined);
    const core = rig.core!;
    rig.write([{ kind: 'write', firstBlock: 1, data: filled(3, 9) }]);
    core.receive({ type: 'drain', id: 1, lsn: 1 });
    await rig.until(() => rig.store.calls.some(({ key }) => key.includes('/epochs/')));
    core.receive({ type: 'stop' });
    const messages = rig.messages.length;
    const calls = rig.store.calls.length;
    release();
    await core.ended();
    rig.clock.advance(100_000);
    await ticks(5);
    assert.equal(rig.messages.length, messages);
    assert.equal(rig.store.calls.length, calls);
  });
});

describe('replicator after crashes', () => {
  const faults: readonly (readonly [string, StoreFault])[] = [
    ['before', { failBefore: 'store-unreachable' }],
    ['after', { failAfter: 'store-unreachable' }],
  ];
  for (const [when, fault] of faults) {
    it(`continues when it dies ${when} any of its store operations was applied`, async () => {
      let died = true;
      for (let at = 1; died; at++) {
        const rig = new Rig({ seed: at });
        const random = new SeededRandom(at);
        died = false;
        for (let batch = 0; batch < 12; batch++) rig.writeRandom(random, 4);
        rig.store.fault = ({ ordinal }) => {
          if (ordinal < at) return undefined;
          died = true;
          return fault;
        };
        rig.start();
        await rig.until(() => died || rig.state.replicatedLsn === rig.log.lastLsn);
        await ticks(2);
        await rig.kill();
        rig.store.fault = () => undefined;
        for (let batch = 0; batch < 3; batch++) rig.writeRandom(random, 4);
        rig.start();
        await rig.drain();
        assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn, `died at operation ${at}`);
        assert.equal(rig.ended(), undefined);
        await rig.kill();
      }
    });
  }

  it('continues when it is killed in the middle of parallel uploads, 30 times', async () => {
    const rig = new Rig({ seed: 11, blocks: 1024 });
    const random = new SeededRandom(12);
    let kills = 0;
    while (kills < 30) {
      for (let batch = 0; batch < 30; batch++) rig.writeRandom(random);
      const lost = new Set<string>();
      rig.store.fault = ({ operation, key }) => {
        if (operation !== 'put' || !key.includes('/segments/')) return undefined;
        // Any subset of what is in flight arrives; the reply never does.
        const fate = random.fraction();
        lost.add(key);
        return fate < 0.4
          ? { failBefore: 'store-unreachable' }
          : fate < 0.7
            ? { failAfter: 'store-unreachable' }
            : undefined;
      };
      rig.start();
      await rig.until(() => lost.size > 1 + random.below(4) || rig.state.replicatedLsn === rig.log.lastLsn);
      await rig.kill();
      kills++;
      assert.ok((await assertRemoteIsPrefix(rig)) >= 0);
      assert.equal(rig.ended(), undefined);
    }
    rig.store.fault = () => undefined;
    rig.start();
    await rig.drain();
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    await rig.kill();
  });

  it('takes lost replies and late duplicates as what they are', async () => {
    const rig = new Rig({ seed: 21 });
    const random = new SeededRandom(22);
    rig.start();
    rig.store.fault = () => {
      const fate = random.fraction();
      return fate < 0.25
        ? { failAfter: 'store-unreachable' }
        : fate < 0.5
          ? { lateDuplicate: true }
          : fate < 0.6
            ? { failBefore: 'store-slow-down' }
            : undefined;
    };
    for (let round = 0; round < 30; round++) {
      rig.writeRandom(random);
      if (round % 7 === 6) {
        await rig.drain();
        rig.store.deliverLate();
      }
      if (round % 10 === 9) {
        await rig.kill();
        rig.store.deliverLate();
        rig.start();
      }
    }
    await rig.drain();
    rig.store.deliverLate();
    rig.store.fault = () => undefined;
    assert.equal(rig.ended(), undefined);
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    await rig.kill();
  });
});

describe('replicator and other owners', () => {
  /** A copy of the directory: same volume, same past, its own future. */
  function twin(rig: Rig, throughLsn?: number, state = rig.state): Rig {
    const copy = new Rig({
      store: rig.store,
      log: rig.log.clone(throughLsn),
      state,
      seed: 77,
      clock: rig.clock,
      config: rig.config,
    });
    return copy;
  }

  it('fences the owner that it follows, which stops durably and for good', async () => {
    const { rig, random } = await replicated();
    const other = twin(rig);
    other.writeRandom(random);
    other.start();
    await other.drain();
    rig.writeRandom(random);
    rig.core!.receive({ type: 'drain', id: 5, lsn: rig.log.lastLsn });
    await rig.until(() => rig.ended() !== undefined);
    assert.equal(rig.ended()?.type, 'fenced');
    assert.equal(rig.state.fenced, true);
    assert.equal(await assertRemoteIsPrefix(other), other.log.lastLsn);
    await rig.kill();
    const calls = rig.store.calls.length;
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    assert.equal(rig.ended()?.type, 'fenced');
    assert.equal(rig.store.calls.length, calls, 'a fenced directory asks nothing');
    await other.kill();
  });

  it('refuses a directory that was rolled back, and one whose clone went on', async () => {
    const { rig, random } = await replicated();
    const before = rig.state;
    const beforeLsn = rig.log.lastLsn;
    rig.writeRandom(random);
    await rig.drain();
    await rig.kill();
    const rolledBack = twin(rig, beforeLsn, before);
    rolledBack.start();
    rolledBack.core!.receive({ type: 'drain', id: 1, lsn: beforeLsn });
    await ticks(20);
    assert.equal(rolledBack.ended(), undefined, 'nothing to send, nothing refused yet');
    rolledBack.write([{ kind: 'write', firstBlock: 0, data: filled(1, 1) }]);
    rolledBack.core!.receive({ type: 'drain', id: 2, lsn: rolledBack.log.lastLsn });
    await rolledBack.until(() => rolledBack.ended() !== undefined);
    const ended = rolledBack.ended();
    assert.ok(ended?.type === 'fatal' && ['remote-ahead', 'remote-forked'].includes(ended.code));
    // Further LSNs than the bucket has do not help: the content is another one.
    const forked = twin(rig, beforeLsn, before);
    for (let batch = 0; batch < 10; batch++)
      forked.write([{ kind: 'write', firstBlock: 0, data: filled(1, 100 + batch) }]);
    forked.start();
    await forked.until(() => forked.ended() !== undefined);
    const fork = forked.ended();
    assert.equal(fork?.type === 'fatal' && fork.code, 'remote-forked');
    // Nobody was fenced by the refused: the owner goes on.
    rig.writeRandom(random);
    rig.start();
    await rig.drain();
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    await rig.kill();
  });

  it('says remote-ahead when the bucket is newer than the directory', async () => {
    const { rig, random } = await replicated();
    const before = rig.state;
    const beforeLsn = rig.log.lastLsn;
    for (let batch = 0; batch < 5; batch++) rig.writeRandom(random);
    await rig.drain();
    await rig.kill();
    const rolledBack = twin(rig, beforeLsn, before);
    rolledBack.write([{ kind: 'write', firstBlock: 0, data: filled(1, 1) }]);
    rolledBack.start();
    await rolledBack.until(() => rolledBack.ended() !== undefined);
    const ended = rolledBack.ended();
    assert.equal(ended?.type === 'fatal' && ended.code, 'remote-ahead');
  });

  it('refuses when the history, or the volume itself, is gone', async () => {
    const { rig } = await replicated();
    await rig.kill();
    const all = rig.store.snapshot();
    for (const gone of ['/segments/', '/volume', '/keys/']) {
      rig.store.restore(new Map([...all].filter(([key]) => !key.includes(gone))));
      rig.start();
      await rig.until(() => rig.ended() !== undefined);
      const ended = rig.ended();
      assert.equal(ended?.type === 'fatal' && ended.code, 'remote-vanished', gone);
      await rig.kill();
    }
  });

  it('never mixes two histories when two incarnations race', async () => {
    for (let seed = 1; seed <= 25; seed++) {
      const store = new MemoryStore();
      const one = new Rig({ store, seed });
      const random = new SeededRandom(seed);
      for (let batch = 0; batch < 6; batch++) one.writeRandom(random);
      one.start();
      await one.drain();
      await one.kill();
      const two = twin(one);
      store.fault = () => {
        const fate = random.fraction();
        if (fate < 0.1) return { failAfter: 'store-unreachable' };
        return fate < 0.6 ? { delay: ticks(random.below(12)) } : undefined;
      };
      one.writeRandom(random);
      two.writeRandom(random);
      const rigs = [one, two];
      for (const rig of rigs) rig.start();
      for (let round = 0; round < 6; round++) {
        for (const rig of rigs) if (random.fraction() < 0.6) rig.writeRandom(random);
        for (const rig of rigs) rig.core!.receive({ type: 'drain', id: round, lsn: rig.log.lastLsn });
        await ticks(random.below(30));
        one.clock.advance(500);
      }
      const settled = (rig: Rig): boolean => rig.ended() !== undefined || rig.state.replicatedLsn === rig.log.lastLsn;
      await one.until(() => settled(one) && settled(two));
      store.fault = () => undefined;
      const { image, chain } = await remoteImage(store, one.config.uuid, one.log.createdSizeBytes);
      const { lsn } = chain.lastGroup;
      const same = rigs.map((rig) => rig.log.endsAt(lsn) && Buffer.compare(image, rig.log.imageAt(lsn)) === 0);
      assert.ok(same.some(Boolean), `seed ${seed}: the bucket is one of the two histories`);
      const alive = rigs.filter((rig) => rig.ended() === undefined);
      assert.ok(alive.length <= 1, `seed ${seed}: one owner at most`);
      for (const rig of alive) assert.equal(same[rigs.indexOf(rig)], true, `seed ${seed}: the owner's history`);
      for (const rig of rigs) await rig.kill();
    }
  });
});

describe('creating a remote volume', () => {
  it('waits while the store is unreachable, and then creates it', async () => {
    const rig = new Rig();
    rig.store.fault = () => ({ failBefore: 'store-unreachable' });
    rig.start();
    await rig.until(() =>
      rig.messages.some((message) => message.type === 'status' && message.status.mode === 'blocked'),
    );
    assert.ok(!rig.messages.some(({ type }) => type === 'attached'));
    rig.store.fault = () => undefined;
    await rig.until(() => rig.messages.some(({ type }) => type === 'attached'));
    assert.ok(rig.messages.some((message) => message.type === 'attached' && message.created));
    await rig.kill();
  });

  it('refuses a name that is taken', async () => {
    const first = new Rig({ seed: 1 });
    first.start();
    await first.until(() => first.messages.some(({ type }) => type === 'attached'));
    const second = new Rig({ seed: 2, store: first.store });
    second.start();
    await second.until(() => second.ended() !== undefined);
    const ended = second.ended();
    assert.equal(ended?.type === 'fatal' && ended.code, 'remote-exists');
    assert.ok(!second.store.keys().some((key) => key.startsWith(second.config.uuid)));
    const third = new Rig({ seed: 3, store: first.store, config: { name: 'disk1' } });
    third.start();
    await third.until(() => third.messages.some(({ type }) => type === 'attached'));
    await Promise.all([first.kill(), third.kill()]);
  });

  it('looks at volumes under the prefix once for all that a gateway creates, and not at all later', async () => {
    const store = new MemoryStore();
    const attached = (rig: Rig): Promise<void> =>
      rig.until(() => rig.messages.some(({ type }) => type === 'attached' || type === 'fatal'));
    const others = Array.from(
      { length: 20 },
      (_, at) => new Rig({ seed: 10 + at, store, config: { name: `other${at}` } }),
    );
    for (const other of others) {
      other.start();
      await attached(other);
      await other.kill();
    }
    const clock = new ManualClock();
    const neighbours = new NeighbourSurvey();
    const own = [1, 2, 3].map((seed) => new Rig({ seed, store, clock, neighbours, config: { name: `disk${seed}` } }));
    const asked = async (): Promise<Readonly<Record<'theirs' | 'steps', number>>> => {
      const before = store.calls.length;
      for (const rig of own) rig.start();
      for (const rig of own) await attached(rig);
      assert.deepEqual(
        own.map((rig) => rig.ended()),
        [undefined, undefined, undefined],
      );
      for (const rig of own) await rig.kill();
      const calls = store.calls.slice(before);
      return {
        theirs: calls.filter(({ key }) => others.some(({ config }) => key.startsWith(config.uuid))).length,
        steps: calls.filter(({ operation, key }) => operation === 'list' && key === '').length,
      };
    };
    const { theirs, steps } = await asked();
    assert.equal(theirs, 2 * others.length); // key and volume of each
    assert.ok(steps >= others.length + 1 && steps <= others.length + own.length + 1, `${steps} steps of the listing`);
    assert.deepEqual(await asked(), { theirs: 0, steps: 0 });
  });

  it('looks for itself where the volume that looked for all of them is stopped, or its store fails', async () => {
    const store = new MemoryStore();
    const taken = new Rig({ seed: 9, store, config: { name: 'disk2' } });
    taken.start();
    await taken.until(() => taken.messages.some(({ type }) => type === 'attached'));
    await taken.kill();
    const clock = new ManualClock();
    const neighbours = new NeighbourSurvey();
    const [first, second] = [1, 2].map(
      (seed) => new Rig({ seed, store, clock, neighbours, config: { name: `disk${seed}` } }),
    );
    let held = (): void => undefined;
    const hold = new Promise<void>((resolve) => (held = resolve));
    let isHeld = false;
    store.fault = ({ operation, key }) => {
      if (isHeld || operation !== 'get' || key !== `${taken.config.uuid}/volume`) return undefined;
      isHeld = true;
      return { delay: hold, failBefore: 'store-forbidden' };
    };
    first!.start();
    await first!.until(() => isHeld);
    second!.start();
    await second!.until(() => second!.store.calls.some(({ key }) => key.startsWith(`${second!.config.uuid}/keys`)));
    await ticks(20);
    const stopped = first!.kill();
    held();
    await stopped;
    await second!.until(() => second!.ended() !== undefined);
    const ended = second!.ended();
    assert.equal(ended?.type === 'fatal' && ended.code, 'remote-exists');
  });

  for (const kind of ['epochs', 'checkpoints'] as const) {
    it(`refuses before its first PUT where the newest of ${kind} is a newer version's, but not where a bit has flipped`, async () => {
      const { rig } = await replicated();
      await rig.kill();
      const name = rig.store
        .keys()
        .filter((key) => key.startsWith(`${rig.config.uuid}/${kind}/`))
        .sort()
        .at(-1)!;
      const sound = rig.store.peek(name)!;
      const change = (at: number, value: number): void => rig.store.poke(name, sound.with(at, value));
      // A version to come, which this one cannot open: its objects are sealed with keys of their own.
      rig.store.poke(name, putFormatVersion(sound, 2).with(sound.length - 1, sound.at(-1)! ^ 1));
      const before = rig.store.calls.length;
      rig.write([{ kind: 'write', firstBlock: 0, data: filled(1, 1) }]);
      rig.start();
      await rig.until(() => rig.ended() !== undefined);
      const ended = rig.ended();
      assert.equal(ended?.type === 'fatal' && ended.code, 'format-newer');
      const puts = rig.store.calls.slice(before).filter(({ operation }) => operation === 'put');
      assert.deepEqual(
        puts.filter(({ key }) => key.startsWith(rig.config.uuid)),
        [],
      );
      await rig.kill();
      change(8, 3); // one bit more than 1
      rig.start();
      await rig.drain();
      assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
      await rig.kill();
    });
  }

  it('needs --new beside volumes that the key does not open', async () => {
    const { testMaster } = await import('../../fake/replication-rig.js');
    const first = new Rig({ seed: 1, config: { masters: [testMaster(1)] } });
    first.start();
    await first.until(() => first.messages.some(({ type }) => type === 'attached'));
    const second = new Rig({ seed: 2, store: first.store });
    second.start();
    await second.until(() => second.ended() !== undefined);
    const ended = second.ended();
    assert.equal(ended?.type === 'fatal' && ended.code, 'remote-exists');
    assert.ok(ended?.type === 'fatal' && ended.message.includes('--new'));
    const third = new Rig({ seed: 3, store: first.store, config: { allowNew: true } });
    third.start();
    await third.until(() => third.messages.some(({ type }) => type === 'attached'));
    await Promise.all([first.kill(), third.kill()]);
  });

  it('refuses a store that ignores If-None-Match, unless told to fence none', async () => {
    const rig = new Rig({ seed: 5 });
    rig.store.conditionalPuts = false;
    rig.start();
    await rig.until(() => rig.ended() !== undefined);
    const ended = rig.ended();
    assert.equal(ended?.type === 'fatal' && ended.code, 'store-no-conditional-put');
    const trusting = new Rig({ seed: 6, config: { fencing: 'none' } });
    trusting.store.conditionalPuts = false;
    const random = new SeededRandom(6);
    for (let life = 0; life < 3; life++) {
      for (let batch = 0; batch < 5; batch++) trusting.writeRandom(random);
      trusting.start();
      await trusting.drain();
      await trusting.kill();
    }
    assert.equal(await assertRemoteIsPrefix(trusting), trusting.log.lastLsn);
    const { segments } = await remoteImage(trusting.store, trusting.config.uuid, trusting.log.createdSizeBytes);
    const first = segments.find(({ key }) => key.epoch === 2);
    assert.equal(first?.index.takeover?.successorEpoch, 2, 'the fence is repeated in the first segment');
  });
});
