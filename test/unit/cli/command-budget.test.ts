import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { commandBudget } from '../../../src/cli/command-budget.js';
import { UNLIMITED } from '../../../src/ports/bandwidth.js';
import type { BandwidthPlan } from '../../../src/ports/bandwidth.js';
import { ManualClock } from '../../fake/clock.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { ticks } from '../../fake/replication-rig.js';

const KIB = 1024;
const plan: BandwidthPlan = { upload: UNLIMITED, download: UNLIMITED, timezone: 'UTC', schedule: [] };

/** Bytes that a command has got when so much time has passed, asking for 64 KiB at a time. */
async function fetched(given: BandwidthPlan, url: string, seconds: number): Promise<number> {
  const clock = new ManualClock();
  const inner = new MemoryStore();
  inner.poke('object', new Uint8Array(64 * KIB));
  const budget = commandBudget(given, { url, clock });
  const store = budget.limited(inner);
  let bytes = 0;
  const ended = new AbortController();
  const work = (async () => {
    while (!ended.signal.aborted && bytes < 64 * 64 * KIB) {
      bytes += (await store.get('object', { range: { start: 0, lengthBytes: 64 * KIB } })).length;
    }
  })();
  for (let second = 0; second < seconds; second++) {
    await ticks(80);
    clock.advance(1000);
  }
  await ticks(80);
  const got = bytes;
  ended.abort();
  clock.advance(10_000);
  await work;
  budget.close();
  return got;
}

describe('bandwidth of a command', () => {
  it('is what the configuration says for downloads, its schedule included', async () => {
    assert.equal(await fetched(plan, 's3://bucket', 0), 64 * 64 * KIB);
    const limited = await fetched({ ...plan, download: 64 * KIB }, 's3://bucket', 10);
    assert.ok(limited >= 10 * 64 * KIB && limited <= 12 * 64 * KIB, `${limited} bytes`);
    const always = { days: [0, 1, 2, 3, 4, 5, 6], fromMinute: 0, toMinute: 1440 };
    const schedule = [{ ...always, upload: undefined, download: 128 * KIB }];
    const scheduled = await fetched({ ...plan, schedule }, 's3://bucket', 10);
    assert.ok(scheduled >= 20 * 64 * KIB && scheduled <= 24 * 64 * KIB, `${scheduled} bytes`);
  });

  it('has no limit to find out where the store is a directory', async () => {
    assert.equal(await fetched({ ...plan, download: 'auto' }, 'file:///bucket', 0), 64 * 64 * KIB);
  });
});
