/** However the bytes of a conversation are cut up, it is the same conversation; and no bytes at all do harm. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { clientFlags, CMD, FLAG, infoData, OPT, optionBytes, requestBytes } from '../../../fake/nbd-client.js';
import type { MemoryStream } from '../../../fake/memory-stream.js';
import { limits } from '../../../../src/base/limits.js';
import { contextData, extendedRequest, filterPayload, parseChunks } from '../../../fake/nbd-chunk.js';
import { Bench, contexts, extended, structured, joined, MIB, pattern, settled, volume } from './session.js';

/** Touches every state of handshake and transmission; 700 bytes or so. */
const conversation = joined([
  clientFlags(3),
  optionBytes(99, Buffer.from('who knows')),
  optionBytes(OPT.LIST),
  optionBytes(OPT.INFO, infoData('demo', [1, 2, 3])),
  optionBytes(OPT.GO, infoData('nothing')),
  optionBytes(OPT.GO, infoData('', [3])),
  requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 100, payload: pattern(150) }),
  requestBytes({ type: CMD.READ, cookie: 2n, offset: 90, length: 200 }),
  requestBytes({ type: CMD.WRITE, cookie: 3n, offset: MIB, payload: pattern(20) }),
  requestBytes({ type: CMD.WRITE, cookie: 4n, offset: 0, payload: pattern(5, 2), flags: FLAG.FUA }),
  requestBytes({ type: 77, cookie: 5n }),
  requestBytes({ type: CMD.TRIM, cookie: 6n, offset: 110, length: 10 }),
  requestBytes({ type: CMD.READ, cookie: 7n, offset: 0, length: 300 }),
  requestBytes({ type: CMD.FLUSH, cookie: 8n }),
  requestBytes({ type: CMD.DISC }),
]);

const small = { sizeBytes: MIB, description: 'small', keepHistory: false };

/** Feeds a conversation in the given pieces and returns everything that the server sent. */
async function answers(
  pieces: readonly Uint8Array[],
  prepare?: (bench: Bench, stream: MemoryStream) => void,
): Promise<string> {
  const bench = await Bench.start([volume(small)]);
  const stream = bench.connect();
  prepare?.(bench, stream);
  for (const piece of pieces) stream.feed(piece);
  await settled(6);
  assert(stream.finished, 'the conversation came to its end');
  assert.equal(bench.server.pool.lent, 0);
  assert.equal(bench.volume.holders.length, 0);
  return Buffer.from(stream.output()).toString('hex');
}

/** Replies to what was received together may leave in another order than those to what came apart. */
function sortedReplies(hex: string): string[] {
  const start = hex.indexOf('67446698');
  return [
    hex.slice(0, start),
    ...hex
      .slice(start)
      .split(/(?=67446698)/)
      .sort(),
  ];
}

describe('NBD conversation in pieces', () => {
  it('split once, at every byte', async () => {
    const whole = sortedReplies(await answers([conversation]));
    assert(whole.length > 8);
    for (let at = 1; at < conversation.length; at++) {
      const got = await answers([conversation.subarray(0, at), conversation.subarray(at)]);
      assert.deepEqual(sortedReplies(got), whole, `split at ${at}`);
    }
  });

  it('byte by byte', async () => {
    const whole = sortedReplies(await answers([conversation]));
    const bytes = Array.from(conversation, (_, at) => conversation.subarray(at, at + 1));
    assert.deepEqual(sortedReplies(await answers(bytes)), whole);
  });

  it('cut up anyhow, while the device is writable only now and then and the peer reads only now and then', async () => {
    const whole = sortedReplies(await answers([conversation]));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 120 }), { maxLength: 40 }),
        fc.infiniteStream(fc.boolean()),
        async (sizes, coin) => {
          const bench = await Bench.start([volume(small)]);
          const stream = bench.connect();
          const toss = (): boolean => coin.next().value === true;
          let at = 0;
          for (const size of [...sizes, conversation.length]) {
            bench.device.writable = toss();
            if (toss()) stream.take();
            else stream.stalled = true;
            stream.feed(conversation.subarray(at, at + size));
            at += size;
            if (toss()) await settled(1);
          }
          bench.device.writable = true;
          stream.take();
          await settled(6);
          stream.take();
          await settled(2);
          assert(stream.finished);
          assert.deepEqual(sortedReplies(Buffer.from(stream.output()).toString('hex')), whole);
          assert.equal(bench.server.pool.lent, 0);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe('NBD conversation in chunks', () => {
  const write = { type: CMD.WRITE, flags: FLAG.PAYLOAD_LEN };
  const status = { type: CMD.BLOCK_STATUS, flags: FLAG.PAYLOAD_LEN, cookie: 5n, offset: 512 };
  const chunked = joined([
    clientFlags(3),
    structured,
    extended,
    optionBytes(OPT.LIST_META_CONTEXT, contextData('', ['base:'])),
    contexts('base:allocation', 'keepgate:dirty'),
    optionBytes(OPT.GO, infoData('demo', [3])),
    extendedRequest({ ...write, cookie: 1n, offset: 100, payload: pattern(50) }),
    extendedRequest({ type: CMD.READ, cookie: 2n, offset: 90, length: 70 }),
    extendedRequest({ ...write, cookie: 3n, offset: MIB, payload: pattern(20) }),
    extendedRequest({ type: CMD.FLUSH, flags: FLAG.PAYLOAD_LEN, cookie: 4n, payload: pattern(9) }),
    extendedRequest({ ...status, payload: filterPayload(9000, [2]) }),
    extendedRequest({ ...status, cookie: 6n, payload: filterPayload(9000, [2, 2]) }),
    extendedRequest({ type: CMD.BLOCK_STATUS, cookie: 7n, length: MIB }),
    extendedRequest({ type: CMD.DISC }),
  ]);

  /** What was answered to each request, in any order. */
  async function chunksOf(pieces: readonly Uint8Array[]): Promise<readonly string[]> {
    const hex = await answers(pieces);
    const chunks = parseChunks(Buffer.from(hex.slice(hex.indexOf('6e8a278c')), 'hex'));
    assert(chunks.length > 7);
    const shown = chunks.map(({ cookie, type, payload }) => `${cookie} ${type} ${payload.toString('hex')}`);
    return shown.sort();
  }

  it('split once, at every byte, and byte by byte', async () => {
    const whole = await chunksOf([chunked]);
    for (let at = 1; at < chunked.length; at++)
      assert.deepEqual(await chunksOf([chunked.subarray(0, at), chunked.subarray(at)]), whole, `split at ${at}`);
    assert.deepEqual(await chunksOf(Array.from(chunked, (_, at) => chunked.subarray(at, at + 1))), whole);
  });

  it('answers of many filters at once wait for each other', async () => {
    const bench = await Bench.start([volume(small)]);
    const stream = await bench.attachWith([extended, contexts('base:allocation')]);
    let running = 0;
    let most = 0;
    const blockStatus = bench.device.blockStatus.bind(bench.device);
    bench.device.blockStatus = async (...args) => {
      most = Math.max(most, ++running);
      await settled(1);
      running--;
      return blockStatus(...args);
    };
    const one = extendedRequest({ ...status, payload: filterPayload(4096, [1]) });
    stream.feed(joined(Array.from({ length: 30 }, () => one)));
    await settled(200);
    assert.equal(parseChunks(stream.output()).length, 30);
    assert.equal(most, limits.nbdStatusInflightMax);
  });

  it('questions that wait keep nothing else waiting, and leave their place with their connection', async () => {
    const bench = await Bench.start([volume(small)]);
    const stream = await bench.attachWith([extended, contexts('base:allocation')]);
    const blockStatus = bench.device.blockStatus.bind(bench.device);
    const asked: (() => void)[] = [];
    bench.device.blockStatus = async (...args) => {
      await new Promise<void>((resolve) => asked.push(resolve));
      return blockStatus(...args);
    };
    const questions = [1n, 2n, 3n, 4n, 5n].map((cookie) =>
      extendedRequest({ type: CMD.BLOCK_STATUS, cookie, length: 4096 }),
    );
    stream.feed(joined([...questions, extendedRequest({ type: CMD.READ, cookie: 9n, length: 512 })]));
    await settled(4);
    assert.equal(asked.length, limits.nbdStatusInflightMax);
    assert.deepEqual(
      parseChunks(stream.output()).map(({ cookie }) => cookie),
      [9n],
      'the read behind them is answered',
    );
    asked[0]?.();
    await settled(4);
    assert.equal(asked.length, 3);
    stream.destroy();
    await settled(2);
    for (const answer of asked) answer();
    await settled(4);
    assert.equal(asked.length, 3, 'nobody asks for a connection that is gone');
    assert.equal(bench.volume.nbd.stats.inflight, 0);
  });

  it('answers of a client that does not read them stay within its budget', async () => {
    const bench = await Bench.start([volume(small)]);
    const stream = await bench.attachWith([extended, contexts('base:allocation')]);
    let asked = 0;
    // Answers as long as they get.
    const extents = Array.from({ length: limits.nbdStatusExtentsMax }, (_, at) => ({
      lengthBytes: MIB / limits.nbdStatusExtentsMax,
      state: at % 2 === 0 ? ('data' as const) : ('hole' as const),
    }));
    bench.device.blockStatus = () => {
      asked++;
      return Promise.resolve(extents);
    };
    stream.stalled = true;
    const one = extendedRequest({ type: CMD.BLOCK_STATUS, cookie: 1n, length: MIB });
    const all = Array.from({ length: limits.nbdInflightMax }, () => one);
    stream.feed(joined(all));
    await settled(200);
    const budgetBytes = limits.nbdReplyBytesPerConnectionMax;
    assert.ok(stream.pendingBytes <= budgetBytes, `${stream.pendingBytes} bytes wait`);
    stream.stalled = false;
    stream.take();
    await settled(2000);
    assert.equal(asked, limits.nbdInflightMax);
    assert.equal(bench.volume.nbd.stats.inflight, 0);
  });
});

describe('NBD bytes of any kind', () => {
  const bytes = fc.uint8Array({ maxLength: 200 });
  const option = fc
    .record({
      type: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.nat()),
      data: bytes,
      lie: fc.option(fc.integer({ min: 0, max: 0xffffffff })),
    })
    .map(({ type, data, lie }) => optionBytes(type, data, lie ?? data.length));
  const request = fc
    .record({
      type: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 0xffff })),
      flags: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff })),
      cookie: fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
      offset: fc.oneof(fc.integer({ min: 0, max: 2 * MIB }), fc.bigInt({ min: 0n, max: 0xffffffffffffffffn })),
      length: fc.oneof(fc.integer({ min: 0, max: 300_000 }), fc.integer({ min: 0, max: 0xffffffff })),
      payload: bytes,
    })
    .map((fields) => requestBytes(fields));
  const chunkedRequest = fc
    .record({
      type: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.integer({ min: 0, max: 0xffff })),
      flags: fc.oneof(fc.constant(0), fc.constant(FLAG.PAYLOAD_LEN), fc.integer({ min: 0, max: 0xffff })),
      cookie: fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
      offset: fc.oneof(fc.integer({ min: 0, max: 2 * MIB }), fc.bigInt({ min: 0n, max: 0xffffffffffffffffn })),
      lie: fc.option(fc.oneof(fc.integer({ min: 0, max: 300_000 }), fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }))),
      payload: fc.oneof(bytes, fc.constant(Buffer.alloc(12)), fc.constant(filterPayload(MIB, [1]))),
    })
    .map(({ lie, ...fields }) => extendedRequest({ ...fields, length: lie ?? fields.payload.length }));

  /** The server lives, and a client that behaves is served. */
  async function servesOn(bench: Bench, stream: MemoryStream): Promise<void> {
    stream.feedEnd();
    stream.take();
    await settled(6);
    assert(stream.destroyed, 'a connection whose peer left is over');
    assert.equal(bench.server.connections.length, 0);
    assert.equal(bench.device.partialWritesOpen, 0);
    assert.equal(bench.volume.nbd.stats.inflight, 0);
    assert.equal(bench.server.pool.lent, 0);
    const client = await bench.attach();
    client.feed(requestBytes({ type: CMD.FLUSH, cookie: 1n }));
    assert.equal(client.output().length, 16);
  }

  it('end at most their own connection in the handshake', async () => {
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(fc.oneof(bytes, option), { maxLength: 8 }), async (flagged, pieces) => {
        const bench = await Bench.start([volume(small)]);
        const stream = bench.connect();
        if (flagged) stream.feed(clientFlags(3));
        for (const piece of pieces) stream.feed(piece);
        await settled();
        await servesOn(bench, stream);
      }),
      { numRuns: 200 },
    );
  });

  it('end at most their own connection with extended headers', async () => {
    const some = fc.array(fc.oneof(chunkedRequest, chunkedRequest, bytes), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(some, async (pieces) => {
        const bench = await Bench.start([volume(small)]);
        const stream = await bench.attachWith([extended, contexts('base:allocation')]);
        for (const piece of pieces) stream.feed(piece);
        await settled();
        await servesOn(bench, stream);
      }),
      { numRuns: 200 },
    );
  });

  it('end at most their own connection in the transmission phase', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(request, request, bytes), { maxLength: 12 }), async (pieces) => {
        const bench = await Bench.start([volume(small)]);
        const stream = await bench.attach();
        for (const piece of pieces) stream.feed(piece);
        await settled();
        await servesOn(bench, stream);
      }),
      { numRuns: 200 },
    );
  });
});
