/**
 * The rules of NBD that servers get wrong most often, one test each. Every title names the paragraph of the protocol
 * document (NetworkBlockDevice/nbd, doc/proto.md) that has the rule.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CHUNK, chunkError, parseChunks, statusOf } from '../../../fake/nbd-chunk.js';
import { clientFlags, CMD, E, FLAG, infoData, OPT, optionBytes, requestBytes } from '../../../fake/nbd-client.js';
import type { RequestFields } from '../../../fake/nbd-client.js';
import {
  Bench,
  contexts,
  extended,
  joined,
  MIB,
  optionReplies,
  pattern,
  replies,
  settled,
  structured,
  volume,
} from './session.js';

const KIB = 1024;
const REP = { ACK: 1, SERVER: 2, INFO: 3, ERR_UNSUP: 0x80000001, ERR_INVALID: 0x80000003, ERR_UNKNOWN: 0x80000006 };

async function errorsOf(bench: Bench, requests: readonly RequestFields[]): Promise<number[]> {
  const stream = await bench.attach();
  const errors: number[] = [];
  for (const fields of requests) {
    stream.feed(requestBytes(fields));
    await settled();
    errors.push(replies(stream)[0]?.error ?? 0);
  }
  stream.feed(requestBytes({ type: CMD.FLUSH }));
  assert.equal(replies(stream)[0]?.error, 0, 'the connection goes on');
  return errors;
}

describe('NBD protocol: handshake', () => {
  it('"Baseline": an option that is not known is ERR_UNSUP, and the next one is parsed', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(joined([optionBytes(0x12345678, Buffer.alloc(100)), optionBytes(OPT.LIST)]));
    assert.deepEqual(
      optionReplies(stream).map(({ type }) => type),
      [REP.ERR_UNSUP, REP.SERVER, REP.ACK],
    );
  });

  it('"Newstyle negotiation": client flags that are not known close the connection', async () => {
    const bench = await Bench.start();
    for (const flags of [4, 7, 0x80000000]) {
      const stream = bench.connect();
      stream.feed(clientFlags(flags));
      assert(stream.destroyed);
    }
  });

  it('"Conventions": strings have up to 4096 bytes', async () => {
    const stream = (await Bench.start()).connectForOptions();
    for (const [lengthBytes, expected] of [
      [4096, REP.ERR_UNKNOWN],
      [4097, REP.ERR_INVALID],
    ] as const) {
      stream.feed(optionBytes(OPT.GO, infoData('n'.repeat(lengthBytes))));
      assert.equal(optionReplies(stream)[0]?.type, expected);
    }
  });

  it('"NBD_OPT_ABORT": data is ignored, the answer is ACK', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(optionBytes(OPT.ABORT, Buffer.from('bye')));
    assert.equal(optionReplies(stream)[0]?.type, REP.ACK);
    assert(stream.finished);
  });

  it('"NBD_OPT_LIST": every export with its description, and data is ERR_INVALID', async () => {
    const bench = await Bench.start([
      volume({ name: 'a', sizeBytes: MIB, description: 'the first' }),
      volume({ name: 'b', sizeBytes: MIB, description: 'ein Zweites: äöü' }),
    ]);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.LIST));
    const listed = optionReplies(stream).filter(({ type }) => type === REP.SERVER);
    assert.deepEqual(
      listed.map(({ data }) => [data.toString('utf8', 4, 5), data.toString('utf8', 5)]),
      [
        ['a', 'the first'],
        ['b', 'ein Zweites: äöü'],
      ],
    );
    stream.feed(optionBytes(OPT.LIST, Buffer.from('x')));
    assert.equal(optionReplies(stream)[0]?.type, REP.ERR_INVALID);
  });

  it('"NBD_OPT_EXPORT_NAME" and "NBD_OPT_INFO": the empty name is the default export', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.INFO, infoData('', [1])));
    assert.equal(optionReplies(stream)[1]?.data.toString('utf8', 2), 'demo');
    stream.feed(optionBytes(OPT.EXPORT_NAME));
    await settled();
    assert.equal(stream.output().length, 10);
  });

  it('"NBD_OPT_STARTTLS": what was negotiated before it is forgotten', async () => {
    const bench = await Bench.start([volume()], 'on');
    const stream = bench.connectForOptions();
    for (const option of [extended, contexts('base:allocation'), optionBytes(OPT.STARTTLS)]) stream.feed(option);
    await settled();
    bench.security.finish(stream, undefined);
    stream.output();
    stream.feed(contexts('base:allocation'));
    assert.equal(optionReplies(stream)[0]?.type, REP.ERR_INVALID, 'there are no chunks any more');
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    assert.equal(optionReplies(stream)[0]?.data.readUInt16BE(10), 0x0d6d, 'nor what depends on them');
    stream.feed(requestBytes({ type: CMD.READ, length: 4 }));
    assert.equal(replies(stream, () => 4)[0]?.error, 0, 'replies are simple');
  });

  it('"FORCEDTLS mode": everything but STARTTLS and ABORT is ERR_TLS_REQD, EXPORT_NAME disconnects', async () => {
    const bench = await Bench.start([volume()], 'required');
    const stream = bench.connectForOptions();
    for (const option of [
      OPT.LIST,
      OPT.INFO,
      OPT.GO,
      OPT.STRUCTURED_REPLY,
      OPT.LIST_META_CONTEXT,
      OPT.SET_META_CONTEXT,
      OPT.EXTENDED_HEADERS,
      99,
    ]) {
      stream.feed(optionBytes(option));
      assert.equal(optionReplies(stream)[0]?.type, 0x80000005);
    }
    const name = bench.connectForOptions();
    name.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('demo')));
    assert(name.finished);
    stream.feed(optionBytes(OPT.ABORT));
    assert.equal(optionReplies(stream)[0]?.type, REP.ACK);
  });

  it('"Block size constraints": 1, 4096 and 32 MiB are advertised, and without asking the defaults hold', async () => {
    const bench = await Bench.start();
    const asking = bench.connectForOptions();
    asking.feed(optionBytes(OPT.INFO, infoData('demo', [3])));
    const sizes = optionReplies(asking)[1]?.data;
    assert.deepEqual([2, 6, 10].map((at) => sizes?.readUInt32BE(at)), [1, 4096, 32 * MIB]); // prettier-ignore
    assert.deepEqual(
      await errorsOf(bench, [
        { type: CMD.WRITE, offset: 1, payload: pattern(1) },
        { type: CMD.WRITE, offset: 3, payload: pattern(32 * MIB) },
        { type: CMD.WRITE, offset: 0, payload: pattern(32 * MIB + 1) },
      ]),
      [0, 0, E.INVAL],
    );
  });

  it('"Transmission flags": DF only after structured replies; FAST_ZERO with WRITE_ZEROES; what a disk is', async () => {
    const flagsOf = async (options: Parameters<typeof volume>[0], first: readonly Uint8Array[]): Promise<number> => {
      const stream = (await Bench.start([volume(options)])).connectForOptions();
      for (const option of first) stream.feed(option);
      stream.output();
      stream.feed(optionBytes(OPT.INFO, infoData('demo')));
      return optionReplies(stream)[0]?.data.readUInt16BE(10) ?? 0;
    };
    assert.equal(await flagsOf({}, []), 0x0d6d);
    assert.equal(await flagsOf({}, [structured]), 0x0ded);
    assert.equal(await flagsOf({ readOnly: true }, []), 0x050f);
    assert.equal(await flagsOf({ rotational: true }, []), 0x0d7d);
  });
});

describe('NBD protocol: transmission', () => {
  const end = 64 * MIB;

  it('"Request types": requests up to 32 MiB work, and no length ever disconnects', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 32 * MIB }));
    await settled();
    assert.equal(replies(stream, () => 32 * MIB)[0]?.data.length, 32 * MIB);
    const lengths = [32 * MIB + 1, 0xffffffff, 0];
    assert.deepEqual(
      await errorsOf(
        bench,
        lengths.map((length) => ({ type: CMD.READ, length })),
      ),
      [E.INVAL, E.INVAL, E.INVAL],
    );
  });

  it('"Error values": past the end a write or zeroes are ENOSPC, a read, trim or status EINVAL', async () => {
    assert.deepEqual(
      await errorsOf(await Bench.start(), [
        { type: CMD.WRITE, offset: end, payload: pattern(1) },
        { type: CMD.WRITE_ZEROES, offset: end - 1, length: 2 },
        { type: CMD.READ, offset: end - 1, length: 2 },
        { type: CMD.TRIM, offset: end, length: 1 },
      ]),
      [E.NOSPC, E.NOSPC, E.INVAL, E.INVAL],
    );
    const stream = await (await Bench.start()).attachWith([structured, contexts('base:allocation')]);
    stream.feed(requestBytes({ type: CMD.BLOCK_STATUS, offset: end - 1, length: 2 }));
    await settled();
    assert.equal(chunkError(parseChunks(stream.output())), E.INVAL);
  });

  it('"Error values": writing to a read-only export is EPERM', async () => {
    assert.deepEqual(
      await errorsOf(await Bench.start([volume({ readOnly: true })]), [
        { type: CMD.WRITE, payload: pattern(1) },
        { type: CMD.TRIM, length: 512 },
        { type: CMD.WRITE_ZEROES, length: 512 },
        { type: CMD.WRITE_ZEROES, length: 4096, flags: FLAG.FAST_ZERO },
      ]),
      [E.PERM, E.PERM, E.PERM, E.PERM],
    );
  });

  it('"Error values": commands and flags that are not known are EINVAL', async () => {
    assert.deepEqual(
      await errorsOf(await Bench.start(), [
        { type: 8 },
        { type: 0xffff },
        { type: CMD.FLUSH, flags: 0x40 },
        { type: CMD.READ, length: 1, flags: FLAG.DF },
        { type: CMD.BLOCK_STATUS, length: 1 },
      ]),
      [E.INVAL, E.INVAL, E.INVAL, E.INVAL, E.INVAL],
    );
  });

  it('"Command flags": FUA is accepted with every command', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([structured, contexts('base:allocation')]);
    for (const type of [CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE, CMD.FLUSH]) {
      const payload = pattern(type === CMD.WRITE ? 512 : 0);
      stream.feed(requestBytes({ type, flags: FLAG.FUA, payload, length: type === CMD.FLUSH ? 0 : 512 }));
      await settled();
      assert.equal(replies(stream)[0]?.error, 0);
    }
    for (const type of [CMD.READ, CMD.BLOCK_STATUS]) {
      stream.feed(requestBytes({ type, flags: FLAG.FUA, length: 512 }));
      await settled();
      assert.equal(chunkError(parseChunks(stream.output())), 0);
    }
  });

  it('"NBD_CMD_READ": after structured replies there is no simple reply to it, also for an error', async () => {
    const stream = await (await Bench.start()).attachWith([structured]);
    for (const [offset, expected] of [
      [0, 0],
      [end, E.INVAL],
    ] as const) {
      // prettier-ignore
      stream.feed(requestBytes({ type: CMD.READ, offset, length: 512 }));
      await settled();
      assert.equal(chunkError(parseChunks(stream.output())), expected);
    }
  });

  it('"NBD_CMD_READ": DF up to 64 KiB works, in one content chunk', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(MIB));
    const stream = await bench.attachWith([structured]);
    for (const length of [1, 4096, 64 * KIB]) {
      stream.feed(requestBytes({ type: CMD.READ, flags: FLAG.DF, offset: 77, length }));
      const chunks = parseChunks(stream.output());
      assert.deepEqual(chunks.map(({ type, payload }) => [type, payload.length]), [[CHUNK.OFFSET_DATA, 8 + length]]); // prettier-ignore
    }
  });

  it('"NBD_CMD_BLOCK_STATUS": at least one extent and no more than 2^20; with REQ_ONE one, within the request', async () => {
    const bench = await Bench.start();
    for (let at = 1000; at < end; at += 8 * KIB) bench.device.image[at] = 1;
    const stream = await bench.attachWith([structured, contexts('base:allocation')]);
    for (const flags of [0, FLAG.REQ_ONE]) {
      stream.feed(requestBytes({ type: CMD.BLOCK_STATUS, flags, offset: 512, length: end - 512 }));
      await settled();
      const [status] = parseChunks(stream.output()).map(statusOf);
      assert(status !== undefined && status.extents.length >= 1 && status.extents.length <= 2 ** 20);
      if (flags !== 0) assert.deepEqual(status.extents, [[4096 - 512, 0]]);
    }
  });

  it('"NBD_CMD_WRITE_ZEROES": FAST_ZERO that would be slow is ENOTSUP at once and changes nothing', async () => {
    const bench = await Bench.start();
    bench.device.image.fill(1);
    const zeroes = { type: CMD.WRITE_ZEROES, flags: FLAG.FAST_ZERO };
    assert.deepEqual(
      await errorsOf(bench, [
        { ...zeroes, offset: 4096, length: 8192 },
        { ...zeroes, offset: 4097, length: 8192 },
        { ...zeroes, offset: 0, length: 100 },
      ]),
      [0, E.NOTSUP, E.NOTSUP],
    );
    assert(bench.device.image.subarray(0, 4096).every((byte) => byte === 1));
    assert(bench.device.image.subarray(4096, 12288).every((byte) => byte === 0));
    // Without room it is an answer, not a wait.
    bench.device.writable = false;
    const stream = await bench.attach();
    stream.feed(requestBytes({ ...zeroes, offset: 0, length: 4096 }));
    assert.equal(replies(stream)[0]?.error, E.NOTSUP);
  });

  it('"NBD_CMD_DISC": what is in flight is finished', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([structured]);
    bench.device.holdReads = true;
    stream.feed(joined([requestBytes({ type: CMD.READ, length: 4096 }), requestBytes({ type: CMD.DISC })]));
    assert.equal(stream.finished, false);
    for (const held of bench.device.heldReads.splice(0)) held.release();
    await settled();
    assert.equal(chunkError(parseChunks(stream.output())), 0);
    assert(stream.finished);
  });
});
