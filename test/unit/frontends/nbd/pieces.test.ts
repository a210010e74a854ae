/** However the bytes of a conversation are cut up, it is the same conversation; and no bytes at all do harm. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { clientFlags, CMD, FLAG, infoData, OPT, optionBytes, requestBytes } from '../../../fake/nbd-client.js';
import type { MemoryStream } from '../../../fake/memory-stream.js';
import { Bench, joined, MIB, pattern, settled, volume } from './session.js';

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
