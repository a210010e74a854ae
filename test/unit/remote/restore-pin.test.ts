import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ObjectSealer } from '../../../src/remote/seal.js';
import { withPin } from '../../../src/remote/restore-pin.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';

const UUID = '11111111-2222-4333-8444-555555555555';

function rig(): { store: MemoryStore; sealer: ObjectSealer; pin: Parameters<typeof withPin>[0]; log: RecordedLog } {
  const store = new MemoryStore();
  const random = new SeededRandom(1);
  const sealer = new ObjectSealer({ key: random.bytes(32), uuid: UUID, random });
  const log = new RecordedLog();
  return {
    store,
    sealer,
    log,
    pin: { store, sealer, clock: new ManualClock(), random, log, reader: 'here', request: {} },
  };
}

describe('pin', () => {
  it('stands while it is read, with the bytes of docs/formats.md, and is gone afterwards', async () => {
    const { store, sealer, pin } = rig();
    await withPin(pin, () => {
      const [name] = store.keys();
      const opened = sealer.openWhole({ kind: 'pin', name: name!, epoch: 0, number: 0, part: 0 }, store.peek(name!)!);
      const hex = Buffer.from(opened.index.subarray(0, 16)).toString('hex');
      // 1800000000000 ms, then "here" with its length
      assert.equal(hex, '00505c18a3010000' + '0400' + '68657265' + '0000');
      return Promise.resolve();
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

  it('is done without where it may not be written', async () => {
    const { store, pin, log } = rig();
    store.fault = () => ({ failBefore: 'store-forbidden' });
    assert.equal(await withPin(pin, () => Promise.resolve(5)), 5);
    assert.equal(log.lines.length, 1);
  });
});
