/** The decorators around a store: retry, byte budget, counters; and the probe for conditional PUTs. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { TokenBucket } from '../../../src/bandwidth/token-bucket.js';
import { LimitedStore } from '../../../src/remote/store-limit.js';
import { ObservedStore } from '../../../src/remote/store-observe.js';
import { probeConditionalPut } from '../../../src/remote/store-probe.js';
import { RetryingStore, retryDelayMs } from '../../../src/remote/store-retry.js';
import { ManualClock } from '../../fake/clock.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { SeededRandom } from '../../fake/random.js';

const body = new Uint8Array(1000).fill(7);

/** Answers when `answer` does, moving time on for whatever waits. */
async function finish<Result>(clock: ManualClock, answer: Promise<Result>): Promise<Result> {
  const state = { settled: false };
  const mark = (): void => void (state.settled = true);
  answer.then(mark, mark);
  for (;;) {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    if (state.settled) return answer;
    clock.advance(50);
  }
}

describe('retry', () => {
  const make = (attemptsMax?: number) => {
    const clock = new ManualClock();
    const inner = new MemoryStore();
    const retries: string[] = [];
    const store = new RetryingStore(inner, {
      clock,
      random: new SeededRandom(1),
      ...(attemptsMax === undefined ? {} : { attemptsMax }),
      onRetry: (error, attempt) => retries.push(`${attempt} ${error.code}`),
    });
    return { clock, inner, store, retries };
  };

  it('repeats what may pass until it passes', async () => {
    const { clock, inner, store, retries } = make();
    inner.fault = ({ ordinal }) => (ordinal <= 4 ? { failBefore: 'store-unreachable' } : undefined);
    assert.equal(await finish(clock, store.put('a', body, { ifAbsent: true })), 'stored');
    assert.deepEqual(
      retries,
      [1, 2, 3, 4].map((attempt) => `${attempt} store-unreachable`),
    );
    assert.deepEqual(inner.peek('a'), body);
  });

  it('repeats every kind of request', async () => {
    const { clock, inner, store } = make();
    await inner.put('a', body, { ifAbsent: false });
    inner.fault = ({ ordinal }) => (ordinal % 2 === 0 ? { failBefore: 'store-slow-down' } : undefined);
    assert.equal((await finish(clock, store.get('a'))).length, 1000);
    assert.equal((await finish(clock, store.head('a')))?.sizeBytes, 1000);
    await finish(clock, store.delete('a'));
    assert.equal(await finish(clock, store.head('a')), undefined);
    assert.deepEqual(
      inner.calls.map(({ operation }) => operation),
      ['put', 'get', 'get', 'head', 'head', 'delete', 'delete', 'head', 'head'],
    );
  });

  it('tells after a lost reply that the object exists, and leaves whose it is to the caller', async () => {
    const { clock, inner, store } = make();
    inner.fault = ({ ordinal }) => (ordinal === 1 ? { failAfter: 'store-unreachable' } : undefined);
    assert.equal(await finish(clock, store.put('a', body, { ifAbsent: true })), 'exists');
  });

  it('throws at once what will not pass', async () => {
    const { inner, store } = make();
    inner.fault = () => ({ failBefore: 'store-forbidden' });
    await assert.rejects(store.get('a'), { code: 'store-forbidden' });
    inner.fault = () => undefined;
    await assert.rejects(store.get('a'), { code: 'object-missing' });
    assert.equal(inner.calls.length, 2);
  });

  it('gives up after attemptsMax', async () => {
    const { clock, inner, store } = make(3);
    inner.fault = () => ({ failBefore: 'store-failed' });
    await assert.rejects(finish(clock, store.get('a')), { code: 'store-failed' });
    assert.equal(inner.calls.length, 3);
  });

  it('stops waiting when it is aborted', async () => {
    const { inner, store } = make();
    inner.fault = () => ({ failBefore: 'store-failed' });
    const controller = new AbortController();
    const answer = store.get('a', { signal: controller.signal });
    const reason = new Error('stopping');
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    controller.abort(reason);
    await assert.rejects(answer, reason);
    assert.equal(inner.calls.length, 1);
  });

  it('continues a listing behind the last key that it yielded', async () => {
    const { clock, inner, store } = make();
    for (const key of ['a', 'b', 'c', 'd']) await inner.put(key, body, { ifAbsent: false });
    const whole = inner.list.bind(inner);
    let failures = 0;
    inner.list = async function* (prefix, options) {
      for await (const object of whole(prefix, options)) {
        yield object;
        if (failures < 3) {
          failures++;
          throw new GatewayError('store-unreachable', 'the connection ended');
        }
      }
    };
    const keys: string[] = [];
    await finish(
      clock,
      (async () => {
        for await (const { key } of store.list('')) keys.push(key);
      })(),
    );
    assert.deepEqual(keys, ['a', 'b', 'c', 'd']);
    assert.equal(failures, 3);
  });

  it('waits longer and longer, never as long as another gateway', () => {
    for (let attempt = 1; attempt < 40; attempt++) {
      assert.ok(retryDelayMs(attempt, 0) < retryDelayMs(attempt, 0.99));
      assert.ok(retryDelayMs(attempt, 0) >= 100);
      assert.ok(retryDelayMs(attempt, 1) <= 30_000);
      assert.ok(retryDelayMs(attempt + 1, 0.5) >= retryDelayMs(attempt, 0.5));
    }
  });
});

describe('byte budget', () => {
  const make = () => {
    const clock = new ManualClock();
    const bucket = () => new TokenBucket({ clock, bytesPerSecond: 1000, burstBytes: 1000 });
    const inner = new MemoryStore();
    const store = new LimitedStore(inner, { upload: bucket(), download: bucket(), lane: 'v' });
    return { clock, inner, store };
  };

  it('holds uploads back before they are sent, failed ones too', async () => {
    const { clock, inner, store } = make();
    inner.fault = ({ ordinal }) => (ordinal === 1 ? { failBefore: 'store-failed' } : undefined);
    await assert.rejects(store.put('a', body, { ifAbsent: true }), { code: 'store-failed' });
    const second = store.put('a', body, { ifAbsent: true });
    clock.advance(990);
    await Promise.resolve();
    assert.equal(inner.calls.length, 1);
    clock.advance(10);
    assert.equal(await second, 'stored');
  });

  it('holds back a range before it is asked for, and what follows a download of unknown length', async () => {
    const { clock, inner, store } = make();
    await inner.put('a', body, { ifAbsent: false });
    await store.get('a');
    const range = { start: 0, lengthBytes: 500 };
    const ranged = store.get('a', { range });
    clock.advance(490);
    await Promise.resolve();
    assert.equal(inner.calls.length, 2);
    clock.advance(10);
    assert.equal((await ranged).length, 500);
    clock.advance(1000);
    await store.get('a', { range: { start: 900, lengthBytes: 5000, orLess: true } });
    assert.equal((await store.get('a', { range: { start: 0, lengthBytes: 900 } })).length, 900);
    const startMs = clock.nowMs();
    await finish(clock, store.get('a', { range: { start: 0, lengthBytes: 100 } }));
    assert.equal(clock.nowMs() - startMs, 100);
  });

  it('passes the rest through, and an abort', async () => {
    const { inner, store } = make();
    assert.equal(store.description, inner.description);
    await store.put('a', body, { ifAbsent: true });
    assert.equal((await store.head('a'))?.sizeBytes, 1000);
    for await (const { key } of store.list('')) assert.equal(key, 'a');
    const controller = new AbortController();
    const waiting = store.put('b', body, { ifAbsent: true, signal: controller.signal });
    controller.abort(new Error('stopping'));
    await assert.rejects(waiting, /stopping/);
    await store.delete('a');
    assert.deepEqual(inner.keys(), []);
  });
});

describe('counters', () => {
  it('count every attempt by its outcome', async () => {
    const clock = new ManualClock();
    const inner = new MemoryStore();
    const store = new ObservedStore(inner, { clock });
    const { counters } = store;
    inner.fault = ({ ordinal }) => (ordinal === 3 || ordinal === 6 ? { failBefore: 'store-slow-down' } : undefined);
    await store.put('a', body, { ifAbsent: true });
    await store.put('a', body, { ifAbsent: true });
    await assert.rejects(store.put('b', body, { ifAbsent: true }));
    await store.get('a', { range: { start: 0, lengthBytes: 100 } });
    await assert.rejects(store.get('c'), { code: 'object-missing' });
    await assert.rejects(store.get('a'));
    await assert.rejects(store.put('d', body, { ifAbsent: true, signal: AbortSignal.abort() }));
    for await (const _ of store.list('')) assert.equal(_.key, 'a');
    await store.delete('a');
    assert.deepEqual(counters.uploadRequests, { stored: 1, exists: 1, failed: 1, aborted: 1 });
    assert.deepEqual(counters.errors, { 'store-slow-down': 2 });
    assert.equal(counters.uploadedBytes, 1000);
    assert.equal(counters.downloadedBytes, 100);
    assert.equal(counters.downloadRequests, 3);
    assert.equal(counters.listRequests + counters.deleteRequests, 2);
    assert.equal(
      counters.uploadSeconds.reduce((sum, count) => sum + count, 0),
      2,
    );
  });

  it('sort upload times into their buckets', async () => {
    const clock = new ManualClock();
    const inner = new MemoryStore();
    const store = new ObservedStore(inner, { clock });
    for (const seconds of [0.02, 1.5, 500]) {
      let open: () => void = () => assert.fail('the promise has not begun');
      const delay = new Promise<void>((resolve) => (open = resolve));
      inner.fault = () => ({ delay });
      const answer = store.put('a', body, { ifAbsent: false });
      clock.advance(seconds * 1000);
      open();
      await answer;
    }
    assert.deepEqual([...store.counters.uploadSeconds], [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert.ok(Math.abs(store.counters.uploadSecondsSum - 501.52) < 1e-9);
  });
});

describe('probe for conditional PUTs', () => {
  const random = new SeededRandom(3);
  const clock = new ManualClock();

  it('believes a store that lets one PUT win, and leaves nothing behind', async () => {
    const store = new MemoryStore();
    assert.deepEqual(await probeConditionalPut(store, { random, clock }), {
      conditionalPut: true,
      detail: '1 of 8 racing PUTs with If-None-Match won',
    });
    assert.deepEqual(store.keys(), []);
  });

  it('does not believe a store that ignores the header, refuses it, or honours it only when PUTs do not race', async () => {
    const ignoring = new MemoryStore();
    ignoring.conditionalPuts = false;
    assert.equal((await probeConditionalPut(ignoring, { random, clock })).conditionalPut, false);

    const refusing = new MemoryStore();
    refusing.fault = ({ operation }) => (operation === 'put' ? { failBefore: 'store-no-conditional-put' } : undefined);
    assert.equal((await probeConditionalPut(refusing, { random, clock })).conditionalPut, false);

    const racy = new MemoryStore();
    racy.conditionalPuts = false;
    racy.fault = ({ ordinal }) => {
      if (ordinal === 9) racy.conditionalPuts = true;
      return undefined;
    };
    assert.equal((await probeConditionalPut(racy, { random, clock })).conditionalPut, false);
  });

  it('is not misled by conflicts and lost replies', async () => {
    const store = new MemoryStore();
    store.fault = ({ ordinal }) => {
      if (ordinal === 1) return { failAfter: 'store-failed' };
      return ordinal <= 4 ? { failBefore: 'store-failed' } : undefined;
    };
    assert.equal((await probeConditionalPut(store, { random, clock })).conditionalPut, true);
  });

  it('believes a store that takes one write a second of one name, and waits for its turns', async () => {
    const store = new MemoryStore();
    let nextMs = 0;
    store.fault = ({ operation }) => {
      if (operation !== 'put') return undefined;
      if (clock.nowMs() < nextMs) return { failBefore: 'store-slow-down' };
      nextMs = clock.nowMs() + 1000;
      return undefined;
    };
    const { conditionalPut } = await finish(clock, probeConditionalPut(store, { random, clock }));
    assert.equal(conditionalPut, true);
    assert.deepEqual(store.keys(), []);
  });

  it('is content with credentials that may not delete', async () => {
    const store = new MemoryStore();
    store.fault = ({ operation }) => (operation === 'delete' ? { failBefore: 'store-forbidden' } : undefined);
    let refusal = '';
    const refused = ({ code }: { code: string }): void => void (refusal = code);
    assert.equal((await probeConditionalPut(store, { random, clock, refused })).conditionalPut, true);
    assert.equal(store.keys('probe-').length, 1);
    assert.equal(refusal, 'store-forbidden');
  });

  it('does not take a delete that failed for one that is forbidden', async () => {
    const store = new MemoryStore();
    store.fault = ({ operation }) => (operation === 'delete' ? { failBefore: 'store-unreachable' } : undefined);
    const refused = (): void => assert.fail('it says that the store forbids deletes');
    assert.equal((await probeConditionalPut(store, { random, clock, refused })).conditionalPut, true);
  });

  it('sends no delete where nothing is ever to be deleted', async () => {
    const store = new MemoryStore();
    assert.equal((await probeConditionalPut(store, { random, clock, appendOnly: true })).conditionalPut, true);
    assert.deepEqual(
      store.calls.filter(({ operation }) => operation === 'delete'),
      [],
    );
  });

  it('says nothing about a store that it cannot reach', async () => {
    const store = new MemoryStore();
    store.fault = () => ({ failBefore: 'store-unreachable' });
    await assert.rejects(probeConditionalPut(store, { random, clock }), { code: 'store-unreachable' });
  });
});
