/**
 * What every ObjectStore must do, whatever is behind it. Each test uses keys of its own, so that a suite can run
 * against a bucket that keeps its objects.
 */
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { GatewayError } from '../../src/base/errors.js';
import type { ErrorCode } from '../../src/base/errors.js';
import type { ObjectStore } from '../../src/ports/object-store.js';

export interface StoreUnderTest {
  readonly store: ObjectStore;
  /** Ends what the factory began, after the store was closed. */
  readonly end?: () => Promise<void>;
}

export interface ConformanceOptions {
  /**
   * false: a store that falls short of S3 as s3rver does, and is tested for the rest: it ignores If-None-Match, takes
   * "bytes=0-0" for the whole object, lists by path components, and fails where a second page would begin.
   */
  readonly complete?: boolean;
  /** A store of the same kind whose bucket does not exist. */
  readonly missingBucket?: () => Promise<ObjectStore>;
}

export function run(name: string, factory: () => Promise<StoreUnderTest>, options: ConformanceOptions = {}): void {
  const { complete = true, missingBucket } = options;
  describe(`object store conformance: ${name}`, () => {
    let subject: StoreUnderTest;
    let store: ObjectStore;
    before(async () => {
      subject = await factory();
      store = subject.store;
    });
    after(async () => {
      await subject.store.close();
      await subject.end?.();
    });

    describe('put and get', () => wholeObjects(() => store));
    describe('ranges', () => ranges(() => store, complete));
    describe('listing', () => listing(() => store, complete));
    describe('absence and abort', () => absence(() => store));
    if (complete) describe('conditional put', () => conditional(() => store));
    if (missingBucket !== undefined) {
      it('says that the bucket is missing', async () => {
        const other = await missingBucket();
        await rejects(other.put('a', bytesOf('x'), { ifAbsent: false }), 'store-bucket-missing');
        await rejects(collect(other.list('')), 'store-bucket-missing');
        await other.close();
      });
    }
  });
}

function wholeObjects(store: () => ObjectStore): void {
  it('returns what was put, of any length, in memory of its own', async () => {
    const folder = randomUUID();
    for (const lengthBytes of [0, 1, 4095, 70_000, 3_000_000]) {
      const key = `${folder}/whole/${lengthBytes}`;
      const body = pattern(lengthBytes);
      assert.equal(await store().put(key, body, { ifAbsent: false }), 'stored');
      body.fill(0xee);
      assert.deepEqual(Buffer.from(await store().get(key)), Buffer.from(pattern(lengthBytes)));
      assert.equal((await store().head(key))?.sizeBytes, lengthBytes);
    }
  });

  it('replaces an object without ifAbsent', async () => {
    const key = randomUUID();
    await store().put(key, bytesOf('old, and longer'), { ifAbsent: false });
    assert.equal(await store().put(key, bytesOf('new'), { ifAbsent: false }), 'stored');
    assert.equal(Buffer.from(await store().get(key)).toString(), 'new');
  });

  it('stores the view that it was given, not the buffer behind it', async () => {
    const key = randomUUID();
    await store().put(key, bytesOf('..middle..').subarray(2, 8), { ifAbsent: false });
    assert.equal(Buffer.from(await store().get(key)).toString(), 'middle');
  });

  it('forgets a deleted object, and deletes what is not there without complaint', async () => {
    const key = `${randomUUID()}/gone`;
    await store().put(key, bytesOf('x'), { ifAbsent: false });
    await store().delete(key);
    await rejects(store().get(key), 'object-missing');
    await store().delete(key);
  });

  it('keeps twenty objects apart that are put at once', async () => {
    const folder = randomUUID();
    const numbers = Array.from({ length: 20 }, (_, number) => number);
    await Promise.all(
      numbers.map((n) => store().put(`${folder}/a/b${n}/c`, bytesOf(`body ${n}`), { ifAbsent: false })),
    );
    for (const n of numbers)
      assert.equal(Buffer.from(await store().get(`${folder}/a/b${n}/c`)).toString(), `body ${n}`);
  });
}

function ranges(store: () => ObjectStore, complete: boolean): void {
  const key = randomUUID();
  before(() => store().put(key, pattern(10_000), { ifAbsent: false }));

  it('returns exactly the range', async () => {
    for (const [start, lengthBytes] of [
      [0, complete ? 1 : 2],
      [0, 10_000],
      [9_999, 1],
      [1234, 5678],
    ] as const) {
      const part = await store().get(key, { range: { start, lengthBytes } });
      assert.deepEqual(Buffer.from(part), Buffer.from(pattern(10_000).subarray(start, start + lengthBytes)));
    }
  });

  it('refuses a range past the end as damage', async () => {
    await rejects(store().get(key, { range: { start: 9_999, lengthBytes: 2 } }), 'object-damaged');
    await rejects(store().get(key, { range: { start: 10_000, lengthBytes: 1 } }), 'object-damaged');
    await rejects(store().get(key, { range: { start: 50_000, lengthBytes: 10 } }), 'object-damaged');
  });

  it('returns what there is with orLess', async () => {
    const part = await store().get(key, { range: { start: 9_990, lengthBytes: 65_536, orLess: true } });
    assert.deepEqual(Buffer.from(part), Buffer.from(pattern(10_000).subarray(9_990)));
    const none = await store().get(key, { range: { start: 10_000, lengthBytes: 5, orLess: true } });
    assert.equal(none.length, 0);
    const exact = await store().get(key, { range: { start: 1, lengthBytes: 9_999, orLess: true } });
    assert.equal(exact.length, 9_999);
  });

  it('says that an absent object is missing, whatever the range', async () => {
    await rejects(store().get(randomUUID(), { range: { start: 0, lengthBytes: 5, orLess: true } }), 'object-missing');
  });
}

function listing(store: () => ObjectStore, complete: boolean): void {
  const folder = randomUUID();
  // '-' and '.' sort before '/', '0' behind it: an order by path components would differ.
  const unusual = complete ? ['a-b', 'a.b'] : [];
  const usual = ['a/b', 'a/b0', 'a/c/d', 'a0', 'b/0000000009', 'b/0000000010', 'c'];
  const keys = [...unusual, ...usual].map((key) => `${folder}/${key}`);
  before(async () => {
    for (const key of [...keys].reverse()) await store().put(key, bytesOf(key), { ifAbsent: false });
  });

  it('yields every key with its size, in byte order', async () => {
    const found = await collect(store().list(`${folder}/`));
    assert.deepEqual(
      found.map(({ key }) => key),
      keys,
    );
    for (const { key, sizeBytes } of found) assert.equal(sizeBytes, key.length);
  });

  it('takes the prefix as characters, not as a directory', async () => {
    const found = await collect(store().list(`${folder}/a`));
    assert.deepEqual(
      found.map(({ key }) => key),
      keys.slice(0, -3),
    );
    assert.deepEqual((await collect(store().list(`${folder}/b/00000000`))).length, 2);
    assert.deepEqual(await collect(store().list(`${folder}/x`)), []);
  });

  it('starts behind a key, whether that exists or not', async () => {
    for (const [at, key] of keys.entries()) {
      const rest = await collect(store().list(`${folder}/`, { after: key }));
      assert.deepEqual(
        rest.map((object) => object.key),
        keys.slice(at + 1),
        key,
      );
    }
    const behind = await collect(store().list(`${folder}/`, { after: `${folder}/a/` }));
    assert.deepEqual(
      behind.map(({ key }) => key),
      keys.slice(unusual.length),
    );
  });

  it('yields many keys, over pages where the store pages', async () => {
    const many = `${folder}-many/`;
    const names = Array.from(
      { length: complete ? 1105 : 205 },
      (_, number) => `${many}${number.toString().padStart(6, '0')}`,
    );
    for (let at = 0; at < names.length; at += 50) {
      await Promise.all(names.slice(at, at + 50).map((key) => store().put(key, bytesOf('x'), { ifAbsent: false })));
    }
    assert.deepEqual(
      (await collect(store().list(many))).map(({ key }) => key),
      names,
    );
  });

  it('can be left early', async () => {
    for await (const { key } of store().list(`${folder}/`)) {
      assert.equal(key, keys[0]);
      break;
    }
  });
}

function absence(store: () => ObjectStore): void {
  it('says that an absent object is missing', async () => {
    const key = `${randomUUID()}/nothing/here`;
    await rejects(store().get(key), 'object-missing');
    assert.equal(await store().head(key), undefined);
    assert.deepEqual(await collect(store().list(key)), []);
  });

  it('does not take a folder for an object', async () => {
    const folder = randomUUID();
    await store().put(`${folder}/below`, bytesOf('x'), { ifAbsent: false });
    assert.equal(await store().head(folder), undefined);
    await rejects(store().get(folder), 'object-missing');
  });

  it('rejects with the signal’s own reason when it is aborted', async () => {
    const reason = new Error('no longer wanted');
    const signal = AbortSignal.abort(reason);
    const key = randomUUID();
    await assert.rejects(store().put(key, bytesOf('x'), { ifAbsent: false, signal }), reason);
    await assert.rejects(store().get(key, { signal }), reason);
    assert.equal(await store().head(key), undefined);
  });
}

function conditional(store: () => ObjectStore): void {
  it('leaves an existing object alone with ifAbsent', async () => {
    const key = `${randomUUID()}/once`;
    assert.equal(await store().put(key, bytesOf('first'), { ifAbsent: true }), 'stored');
    assert.equal(await store().put(key, bytesOf('second'), { ifAbsent: true }), 'exists');
    assert.equal(Buffer.from(await store().get(key)).toString(), 'first');
  });

  it('lets one of twenty racing PUTs win, and keeps that one’s body', async () => {
    const key = `${randomUUID()}/race`;
    const racers = Array.from({ length: 20 }, (_, racer) => `racer ${racer} `.repeat(1000));
    const answers = await Promise.all(racers.map((body) => conditionalPut(store(), key, body)));
    assert.equal(answers.filter((answer) => answer === 'stored').length, 1);
    const winner = racers[answers.indexOf('stored')];
    assert.equal(Buffer.from(await store().get(key)).toString(), winner);
  });

  it('can be taken anew after it was deleted', async () => {
    const key = randomUUID();
    await store().put(key, bytesOf('first'), { ifAbsent: true });
    await store().delete(key);
    assert.equal(await store().put(key, bytesOf('second'), { ifAbsent: true }), 'stored');
  });
}

/** A conflict (409) says that another PUT is under way: the answer comes with the next attempt. */
async function conditionalPut(store: ObjectStore, key: string, body: string): Promise<'stored' | 'exists'> {
  for (;;) {
    try {
      return await store.put(key, bytesOf(body), { ifAbsent: true });
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'store-failed') throw error;
    }
  }
}

async function rejects(answer: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(answer, (error) => {
    assert.ok(error instanceof GatewayError, String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(!error.message.includes('\n'), 'an error is one line');
    return true;
  });
}

async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const all: Item[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Bytes whose every stretch of four differs from its neighbours. */
function pattern(lengthBytes: number): Uint8Array {
  const bytes = new Uint8Array(lengthBytes);
  for (let at = 0; at < lengthBytes; at++) bytes[at] = (at * 31 + (at >> 8) * 7) & 0xff;
  return bytes;
}
