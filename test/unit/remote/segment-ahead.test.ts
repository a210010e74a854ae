import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { emptyChain } from '../../../src/remote/chain.js';
import { readChain } from '../../../src/remote/chain-walk.js';
import type { ObjectStore, StoreRequest } from '../../../src/ports/object-store.js';
import { SeededRandom } from '../../fake/random.js';
import { remoteImage, Rig, ticks } from '../../fake/replication-rig.js';

const head = { start: 0, lengthBytes: 65_536, orLess: true };

/** A history of many small groups. */
async function history(seed: number): Promise<Rig> {
  const rig = new Rig({ seed });
  const random = new SeededRandom(seed);
  rig.start();
  for (let group = 0; group < 40; group++) {
    rig.writeRandom(random, 1);
    await rig.drain();
  }
  await rig.kill();
  return rig;
}

const segmentGets = (rig: Rig): number =>
  rig.store.calls.filter(({ operation, key }) => operation === 'get' && key.includes('/segments/')).length;

describe('reading segments ahead', () => {
  it('walks a history in a tenth of the round trips, and asks for little that is not there', async () => {
    const rig = await history(1);
    const { groups, segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    const sealer = await rig.sealer();
    const seen: number[] = [];
    let waiting: (() => void)[] = [];
    rig.store.calls.length = 0;
    rig.store.fault = () => ({ delay: new Promise((resolve) => waiting.push(resolve)) });
    let done = false;
    const walk = readChain(emptyChain, {
      store: rig.store,
      sealer,
      request: {},
      createdSizeBytes: rig.log.createdSizeBytes,
      visit: (group) => {
        seen.push(group.point.lsn);
      },
    }).then(() => (done = true));
    let trips = 0;
    for (; !done; trips++) {
      const due = waiting;
      waiting = [];
      for (const answer of due) answer();
      await ticks(2);
    }
    await walk;
    assert.deepEqual(seen, groups);
    assert.ok(trips < segments.length / 4, `${trips} round trips for ${segments.length} segments`);
    assert.ok(segmentGets(rig) <= segments.length + 18, `${segmentGets(rig)} requests`);
  });

  it('ends all that it asked for with its request', async () => {
    const rig = await history(4);
    const sealer = await rig.sealer();
    const ended = new AbortController();
    const request = { signal: ended.signal };
    const signals = new Set<AbortSignal | undefined>();
    const store: ObjectStore = Object.assign(Object.create(rig.store) as ObjectStore, {
      get: (_key: string, { signal }: StoreRequest = {}) => {
        signals.add(signal);
        if (signals.size < 12) return rig.store.get(_key, { ...(signal && { signal }), range: head });
        return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('given up'))));
      },
    });
    const options = { store, sealer, request, createdSizeBytes: rig.log.createdSizeBytes, visit: () => undefined };
    const walk = readChain(emptyChain, options);
    await rig.until(() => signals.size >= 16);
    ended.abort();
    await assert.rejects(walk, /given up/);
    assert.ok([...signals].every((signal) => signal?.aborted === true && signal !== ended.signal));
  });

  it('stops where it shall, and asks for nothing behind that', async () => {
    const rig = await history(2);
    const { groups } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    const sealer = await rig.sealer();
    const seen: number[] = [];
    rig.store.calls.length = 0;
    const options = { store: rig.store, sealer, request: {}, createdSizeBytes: rig.log.createdSizeBytes };
    await readChain(emptyChain, { ...options, untilNumber: 30, visit: ({ point }) => void seen.push(point.lsn) });
    assert.deepEqual(seen, groups.slice(0, seen.length));
    assert.equal(segmentGets(rig), 30);
  });

  it('does not take for the end what came while it was read ahead', async () => {
    const rig = await history(3);
    const { groups, segments } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
    const sealer = await rig.sealer();
    const late = segments.slice(-5).map(({ key }) => sealer.names.segment(key));
    const bodies = late.map((name) => rig.store.peek(name)!);
    for (const name of late) rig.store.poke(name, undefined);
    const seen: number[] = [];
    await readChain(emptyChain, {
      store: rig.store,
      sealer,
      request: {},
      createdSizeBytes: rig.log.createdSizeBytes,
      visit: ({ point }) => {
        seen.push(point.lsn);
        if (point.number === segments.length - 7) late.forEach((name, at) => rig.store.poke(name, bodies[at]));
      },
    });
    assert.deepEqual(seen, groups);
  });
});
