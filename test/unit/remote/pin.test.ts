import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { openPin, Pin, withPin } from '../../../src/remote/pin.js';
import { PinWatch } from '../../../src/remote/pin-watch.js';
import { ObjectSealer } from '../../../src/remote/seal.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';
import { ticks } from '../../fake/replication-rig.js';

const UUID = '11111111-2222-4333-8444-555555555555';

function rig(): {
  store: MemoryStore;
  sealer: ObjectSealer;
  clock: ManualClock;
  pin: Parameters<typeof withPin>[0];
  log: RecordedLog;
} {
  const store = new MemoryStore();
  const clock = new ManualClock();
  const random = new SeededRandom(1);
  const sealer = new ObjectSealer({ key: random.bytes(32), uuid: UUID, random });
  const log = new RecordedLog();
  return { store, sealer, clock, log, pin: { store, sealer, clock, random, log, reader: 'here', request: {} } };
}

describe('pin', () => {
  it('stands while it is read, with the bytes of docs/formats.md, and is gone afterwards', async () => {
    const { store, sealer, pin } = rig();
    await withPin(pin, async (held) => {
      await held.narrow(0x0102);
      const [name] = store.keys();
      const opened = sealer.openWhole({ kind: 'pin', name: name!, epoch: 0, number: 0, part: 0 }, store.peek(name!)!);
      const hex = Buffer.from(opened.index.subarray(0, 24)).toString('hex');
      // 1800000000000 ms, the floor, then "here" with its length
      assert.equal(hex, '00505c18a3010000' + '0201000000000000' + '0400' + '68657265' + '0000');
    });
    assert.deepEqual(store.keys(), []);
  });

  it('is removed when the reader fails, and the failure is kept', async () => {
    const { store, pin } = rig();
    await assert.rejects(
      withPin(pin, () => Promise.reject(new Error('broken'))),
      /broken/,
    );
    assert.deepEqual(store.keys(), []);
  });

  it('is taken back when the reader is interrupted, but not waited for long', async () => {
    for (const slow of [false, true]) {
      const { store, pin, clock } = rig();
      const interrupted = new AbortController();
      const read = withPin({ ...pin, request: { signal: interrupted.signal } }, () => {
        store.fault = () =>
          slow ? { delay: new Promise((resolve) => clock.after(limits.pinReleaseMsMax + 1, resolve)) } : undefined;
        interrupted.abort();
        return Promise.reject(new Error('interrupted'));
      });
      const ended = assert.rejects(read, /interrupted/);
      await ticks(5);
      clock.advance(limits.pinReleaseMsMax + 1);
      await ended;
      assert.equal(store.keys().length, slow ? 1 : 0);
    }
  });

  it('is done without where it may not be written', async () => {
    const { store, pin, log } = rig();
    store.fault = () => ({ failBefore: 'store-forbidden' });
    assert.equal(await withPin(pin, () => Promise.resolve(5)), 5);
    assert.equal(log.lines.length, 1);
  });

  it('stands without a gap while it is renewed and narrowed, and only rises', async () => {
    const { store, sealer, clock, pin } = rig();
    const held = await Pin.put(pin);
    const names = new Set(store.keys());
    let least = Infinity;
    store.fault = () => {
      least = Math.min(least, store.keys().length);
      return undefined;
    };
    await held.narrow(7);
    await held.narrow(3);
    for (let hour = 0; hour < 3; hour++) {
      clock.advance(limits.pinRenewMs);
      await ticks(3);
    }
    assert.equal(least, 1);
    const [name] = store.keys();
    assert.equal(openPin(sealer, name!, store.peek(name!)!).floor, 7);
    assert.ok(!names.has(name!));
    await held.release();
    clock.advance(2 * limits.pinRenewMs);
    await ticks(3);
    assert.deepEqual(store.keys(), []);
  });

  it('keeps standing as it was when it cannot be renewed', async () => {
    const { store, clock, pin } = rig();
    await Pin.put(pin);
    const before = store.keys();
    store.fault = () => ({ failBefore: 'store-unreachable' });
    clock.advance(limits.pinRenewMs);
    await ticks(3);
    assert.deepEqual(store.keys(), before);
  });
});

describe('watch over pins', () => {
  it('takes the lowest floor, and one that it cannot open for the lowest', async () => {
    const { store, sealer, pin } = rig();
    const watch = new PinWatch([]);
    assert.equal((await watch.look(store, sealer, 0, {})).floor, Infinity);
    for (const floor of [9, 4]) await (await Pin.put(pin)).narrow(floor);
    assert.equal((await watch.look(store, sealer, 0, {})).floor, 4);
    store.poke(sealer.names.pin('broken'), new Uint8Array(100));
    assert.equal((await watch.look(store, sealer, 0, {})).floor, 0);
  });

  it('forgets a pin that stood unchanged for a day of its own running time, over restarts', async () => {
    const { store, sealer, clock, pin } = rig();
    const held = await Pin.put(pin);
    const first = new PinWatch([]);
    assert.equal((await first.look(store, sealer, 1000, {})).floor, 0);
    const second = new PinWatch(first.seen);
    assert.equal((await second.look(store, sealer, 1000 + limits.pinStaleMs - 1, {})).floor, 0);
    const view = await second.look(store, sealer, 1000 + limits.pinStaleMs, {});
    assert.deepEqual(view, { floor: Infinity, stale: store.keys() });
    // A reader that lives has renewed it.
    clock.advance(limits.pinRenewMs);
    await ticks(3);
    assert.equal((await second.look(store, sealer, 1000 + limits.pinStaleMs, {})).floor, 0);
    await held.release();
  });

  it('does not miss a pin that is renewed between its listing and its reading', async () => {
    const { store, sealer, pin } = rig();
    const held = await Pin.put(pin);
    let renewed: Promise<void> | undefined;
    store.fault = ({ operation }) => {
      if (operation !== 'get' || renewed !== undefined) return undefined;
      renewed = held.narrow(7);
      return { delay: renewed };
    };
    const watch = new PinWatch([]);
    assert.equal((await watch.look(store, sealer, 0, {})).floor, 0);
    assert.notEqual(renewed, undefined);
    assert.equal((await watch.look(store, sealer, 0, {})).floor, 7);
  });

  it('does not answer when the pins cannot be listed', async () => {
    const { store, sealer } = rig();
    store.fault = () => ({ failBefore: 'store-unreachable' });
    await assert.rejects(new PinWatch([]).look(store, sealer, 0, {}), { code: 'store-unreachable' });
  });
});
