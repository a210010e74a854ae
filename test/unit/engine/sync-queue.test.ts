/** Group commit: who waits for which sync, and that nothing stays unsynced because nobody asks. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SyncQueue } from '../../../src/engine/sync-queue.js';
import { ManualClock } from '../../fake/clock.js';
import { settle } from './volume-harness.js';

interface Rig {
  readonly clock: ManualClock;
  readonly queue: SyncQueue;
  /** Ends the sync that has waited longest. */
  readonly end: () => Promise<void>;
  readonly underWay: () => number;
}

function rig(unsyncedBytesMax: number): Rig {
  const clock = new ManualClock();
  const running: (() => void)[] = [];
  const queue = new SyncQueue({
    clock,
    durableLsn: 0,
    sync: () => new Promise<void>((resolve) => running.push(resolve)),
    onDurable: () => undefined,
    onFatal: (cause) => assert.fail(String(cause)),
  });
  queue.unsyncedBytesMax = unsyncedBytesMax;
  return {
    clock,
    queue,
    end: async () => {
      running.shift()?.();
      await settle();
    },
    underWay: () => running.length,
  };
}

describe('group commit', () => {
  it('syncs by itself what was appended while a slow sync ran, although its time came in the middle of it', async () => {
    const { clock, queue, end, underWay } = rig(1000);
    queue.appended(1, 0, 10, true);
    queue.start();
    queue.appended(2, 0, 10, true);
    clock.advance(60_000);
    await end();
    assert.equal(queue.durableLsn, 1);
    assert.equal(underWay(), 1);
    await end();
    assert.equal(queue.durableLsn, 2);
    assert.equal(underWay(), 0);
  });

  it('syncs by itself what exceeded the bound while a sync ran', async () => {
    const { clock, queue, end } = rig(1000);
    queue.appended(1, 0, 10, true);
    queue.start();
    clock.advance(60_000);
    queue.appended(2, 0, 2000, true);
    await end();
    await end();
    assert.equal(queue.durableLsn, 2);
  });

  it('answers a request with the first sync that began after what it asks for was appended', async () => {
    const { queue, end } = rig(1000);
    const answered: number[] = [];
    queue.appended(1, 0, 10, true);
    queue.request(1, { done: () => answered.push(1) });
    await settle();
    queue.appended(2, 0, 10, true);
    queue.request(2, { done: () => answered.push(2) });
    await end();
    assert.deepEqual(answered, [1]);
    await end();
    assert.deepEqual(answered, [1, 2]);
  });
});
