import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../../src/base/assert.js';
import { TokenBucket } from '../../../src/bandwidth/token-bucket.js';
import { UNLIMITED } from '../../../src/ports/bandwidth.js';
import { ManualClock } from '../../fake/clock.js';

/** A bucket of 1000 bytes per second and a burst of 500, and a record of when each request was granted. */
function testBucket(bytesPerSecond = 1000, burstBytes = 500) {
  const clock = new ManualClock();
  const bucket = new TokenBucket({ clock, bytesPerSecond, burstBytes });
  const granted: string[] = [];
  /** true: granted at once. */
  const ask = (name: string, bytes: number, lane = ''): boolean => {
    const wait = bucket.take(bytes, { lane });
    if (wait === undefined) granted.push(`${name} ${clock.nowMs()}`);
    else void wait.then(() => granted.push(`${name} ${clock.nowMs()}`));
    return wait === undefined;
  };
  /** Moves time on in steps, so that each grant is recorded when it happens. */
  const run = async (untilMs: number): Promise<void> => {
    while (clock.nowMs() < untilMs) {
      clock.advance(10);
      await settle();
    }
  };
  return { clock, bucket, granted, ask, run };
}

/** Lets promise reactions run. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await Promise.resolve();
}

describe('token bucket', () => {
  it('grants the burst at once and then keeps the rate', async () => {
    const { granted, ask, run } = testBucket();
    assert.ok(ask('a', 500));
    ask('b', 300);
    ask('c', 200);
    await run(1000);
    assert.deepEqual(granted, ['a 0', 'b 300', 'c 500']);
  });

  it('fills up to the burst and no further', async () => {
    const { granted, ask, run } = testBucket();
    ask('a', 500);
    await run(10_000);
    ask('b', 500);
    ask('c', 100);
    await run(11_000);
    assert.deepEqual(granted, ['a 0', 'b 10000', 'c 10100']);
  });

  it('grants more than the burst when it is full, and lets later ones pay', async () => {
    const { granted, ask, run } = testBucket();
    ask('large', 2500);
    ask('next', 100);
    await run(3000);
    assert.deepEqual(granted, ['large 0', 'next 2100']);
  });

  it('serves in order: a small request does not overtake', async () => {
    const { granted, ask, run } = testBucket();
    ask('a', 500);
    ask('large', 400);
    ask('small', 1);
    await run(1000);
    assert.deepEqual(
      granted.map((line) => line.split(' ')[0]),
      ['a', 'large', 'small'],
    );
  });

  it('lets lanes take turns', async () => {
    const { granted, ask, run } = testBucket();
    ask('first', 500);
    for (let at = 0; at < 3; at++) ask(`x${at}`, 100, 'x');
    for (let at = 0; at < 3; at++) ask(`y${at}`, 100, 'y');
    await run(1000);
    assert.deepEqual(
      granted.map((line) => line.split(' ')[0]),
      ['first', 'x0', 'y0', 'x1', 'y1', 'x2', 'y2'],
    );
  });

  it('shares by bytes, not by requests, and leaves to others what a lane does not ask for', async () => {
    const { clock, bucket } = testBucket(1000, 500);
    const passed: Record<string, number> = { large: 0, small: 0, late: 0 };
    const keepAsking = async (lane: string, bytes: number, untilMs: number): Promise<void> => {
      while (clock.nowMs() < untilMs) {
        await bucket.take(bytes, { lane });
        passed[lane] = (passed[lane] ?? 0) + bytes;
      }
    };
    const run = async (untilMs: number): Promise<void> => {
      while (clock.nowMs() < untilMs) {
        clock.advance(10);
        for (let turn = 0; turn < 10; turn++) await settle();
      }
    };
    void keepAsking('large', 400, 1e9);
    void keepAsking('small', 10, 40_000);
    await run(20_000);
    assert.ok(Math.abs((passed['large'] ?? 0) - (passed['small'] ?? 0)) <= 800, JSON.stringify(passed));
    // One that was idle gets no more than its share afterwards.
    void keepAsking('late', 100, 40_000);
    const before = { ...passed };
    await run(35_000);
    const gained = ['large', 'small', 'late'].map((lane) => (passed[lane] ?? 0) - (before[lane] ?? 0));
    for (const bytes of gained) assert.ok(Math.abs(bytes - 5000) <= 1000, gained.join(' '));
    await run(41_000);
    const alone = passed['large'] ?? 0;
    await run(51_000);
    assert.ok((passed['large'] ?? 0) - alone >= 9_600, 'all of it, once it is alone');
  });

  it('changes its rate for those who wait', async () => {
    const { bucket, granted, ask, run } = testBucket();
    ask('a', 500);
    ask('b', 500);
    ask('c', 500);
    await run(100);
    bucket.setRate(4000);
    await run(200);
    assert.deepEqual(granted, ['a 0', 'b 200']);
    bucket.setRate(UNLIMITED);
    await settle();
    assert.deepEqual(granted, ['a 0', 'b 200', 'c 200']);
    assert.equal(bucket.bytesPerSecond, UNLIMITED);
    assert.ok(ask('d', 10 ** 12));
    bucket.setRate(1000);
    ask('e', 500);
    ask('f', 500);
    await run(700);
    assert.deepEqual(granted.slice(3), ['d 200', 'e 200', 'f 700']);
  });

  it('forgets a request that is aborted, and serves who waits behind it', async () => {
    const { bucket, granted, ask, run } = testBucket();
    ask('a', 500);
    const controller = new AbortController();
    const waiting = bucket.take(400, { signal: controller.signal });
    ask('behind', 100);
    const reason = new Error('stopping');
    await run(150);
    assert.deepEqual(granted, ['a 0']);
    controller.abort(reason);
    await assert.rejects(waiting ?? Promise.resolve(), reason);
    await settle();
    assert.deepEqual(granted, ['a 0', 'behind 150']);
    assert.equal(bucket.waiting, 0);
    assert.throws(() => bucket.take(1, { signal: controller.signal }), reason);
  });

  it('counts what has passed already', async () => {
    const { bucket, granted, ask, run } = testBucket();
    bucket.charge(1500);
    ask('a', 0);
    ask('b', 100);
    await run(2000);
    assert.deepEqual(granted, ['a 1000', 'b 1100']);
    bucket.charge(-100_000);
    assert.ok(ask('c', 500));
    assert.ok(!ask('d', 500), 'a refund does not exceed the burst');
  });

  it('never lets more pass than rate and burst allow, nor less when there is demand', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 500 }), { minLength: 5, maxLength: 40 }), async (sizes) => {
        const { clock, granted, ask, run } = testBucket();
        for (const [at, size] of sizes.entries()) ask(String(at), size);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        await run(total + 100);
        assert.equal(granted.length, sizes.length, `by ${clock.nowMs()} ms`);
        let passed = 0;
        for (const line of granted) {
          const [at, ms] = line.split(' ').map(Number) as [number, number];
          passed += sizes[at] ?? 0;
          assert.ok(passed <= 500 + ms + 1e-6, `${passed} bytes by ${ms} ms`);
          assert.ok(passed >= Math.min(total, ms - 500 - 20), `only ${passed} bytes by ${ms} ms`);
        }
      }),
      { numRuns: 30 },
    );
  });

  it('has a burst of its own that follows the rate', () => {
    const clock = new ManualClock();
    assert.equal(new TokenBucket({ clock, bytesPerSecond: 10 }).burstBytes, 65_536);
    assert.equal(new TokenBucket({ clock, bytesPerSecond: 1e6 }).burstBytes, 1e6);
    assert.equal(new TokenBucket({ clock, bytesPerSecond: UNLIMITED }).burstBytes, 16 * 1024 * 1024);
    for (const wrong of [0, -1, NaN])
      assert.throws(() => new TokenBucket({ clock, bytesPerSecond: wrong }), InvariantError);
  });
});
