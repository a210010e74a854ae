/** READ and errors in structured and in extended chunks. Titles name the paragraph of proto.md. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { limits } from '../../../../src/base/limits.js';
import { CHUNK, chunkError, contentOf, extendedRequest, parseChunks } from '../../../fake/nbd-chunk.js';
import { CMD, E, FLAG, infoData, OPT, optionBytes, requestBytes } from '../../../fake/nbd-client.js';
import { Bench, extended, joined, MIB, optionReplies, pattern, replies, settled, structured } from './session.js';

const KIB = 1024;
const ACK = 1;
const ERR_INVALID = 0x80000003;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const forms = [
  { name: 'structured', option: structured, request: requestBytes },
  { name: 'extended', option: extended, request: extendedRequest },
] as const;

describe('NBD_OPT_STRUCTURED_REPLY and NBD_OPT_EXTENDED_HEADERS', () => {
  it('take no data, may come twice and in any order, and DF is advertised with either', async () => {
    const stream = (await Bench.start()).connectForOptions();
    const types = (): number[] => optionReplies(stream).map(({ type }) => type);
    const flags = (): number => {
      stream.feed(optionBytes(OPT.INFO, infoData('demo')));
      return optionReplies(stream)[0]?.data.readUInt16BE(10) ?? 0;
    };
    for (const option of [OPT.STRUCTURED_REPLY, OPT.EXTENDED_HEADERS]) {
      stream.feed(optionBytes(option, Buffer.from('x')));
      assert.deepEqual(types(), [ERR_INVALID]);
    }
    assert.equal(flags() & 0x80, 0);
    for (const option of [structured, structured, extended, structured, extended]) {
      stream.feed(option);
      assert.deepEqual(types(), [ACK]);
      assert.equal(flags() & 0x80, 0x80);
    }
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    stream.output();
    stream.feed(extendedRequest({ type: CMD.FLUSH, cookie: 1n }));
    assert.deepEqual(parseChunks(stream.output()).map((chunk) => chunk.extended), [true]); // prettier-ignore
  });

  it('EXPORT_NAME is not allowed with extended headers: disconnects', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(extended);
    stream.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('demo')));
    assert(stream.destroyed);
  });

  it('a request of the other form is cut off', async () => {
    for (const [option, bytes] of [
      [structured, extendedRequest({ type: CMD.FLUSH })],
      [extended, joined([requestBytes({ type: CMD.FLUSH }), Buffer.alloc(4)])],
    ] as const) {
      const stream = await (await Bench.start()).attachWith([option]);
      stream.feed(bytes);
      assert(stream.destroyed);
    }
  });
});

describe('Structured reply chunk message: golden bytes', () => {
  it('READ, its error, and what stays simple', async () => {
    const bench = await Bench.start();
    bench.device.image.set(Buffer.from('deadbeef', 'hex'), 4096);
    const stream = await bench.attachWith([structured]);
    stream.feed(
      Buffer.from('25609513' + '0000' + '0000' + '0102030405060708' + '0000000000001000' + '00000004', 'hex'),
    );
    assert.equal(hex(stream.output()), '668e33ef' + '0001' + '0001' + '0102030405060708' + '0000000c' + '0000000000001000' + 'deadbeef'); // prettier-ignore
    stream.feed(
      Buffer.from('25609513' + '0000' + '0000' + '0102030405060708' + 'f000000000001000' + '00000004', 'hex'),
    );
    assert.equal(hex(stream.output()), '668e33ef' + '0001' + '8001' + '0102030405060708' + '00000006' + '00000016' + '0000'); // prettier-ignore
    stream.feed(
      Buffer.from('25609513' + '0000' + '0003' + '0102030405060708' + '0000000000000000' + '00000000', 'hex'),
    );
    assert.equal(hex(stream.output()), '67446698' + '00000000' + '0102030405060708');
  });
});

describe('Extended reply chunk message: golden bytes', () => {
  it('READ, WRITE with its payload length, an error with the offset that was sent', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([extended]);
    stream.feed(Buffer.from('21e41c71' + '0021' + '0001' + '0102030405060708' + '0000000000001000' + '0000000000000004' + 'deadbeef', 'hex')); // prettier-ignore
    assert.equal(hex(stream.output()), '6e8a278c' + '0001' + '0000' + '0102030405060708' + '0000000000001000' + '0000000000000000'); // prettier-ignore
    stream.feed(Buffer.from('21e41c71' + '0000' + '0000' + 'f102030405060708' + '0000000000001001' + '0000000000000003', 'hex')); // prettier-ignore
    assert.equal(hex(stream.output()), '6e8a278c' + '0001' + '0001' + 'f102030405060708' + '0000000000001001' + '000000000000000b' + '0000000000001001' + 'adbeef'); // prettier-ignore
    stream.feed(Buffer.from('21e41c71' + '0000' + '0000' + '0102030405060708' + 'fffffffffffffffe' + 'ffffffffffffffff', 'hex')); // prettier-ignore
    assert.equal(hex(stream.output()), '6e8a278c' + '0001' + '8001' + '0102030405060708' + 'fffffffffffffffe' + '0000000000000006' + '00000016' + '0000'); // prettier-ignore
  });
});

describe('NBD_CMD_READ in chunks', () => {
  for (const { name, option, request } of forms) {
    it(`${name}: of every size and alignment, whole, and with DF in one chunk`, async () => {
      const bench = await Bench.start();
      bench.device.image.set(pattern(40 * MIB));
      const stream = await bench.attachWith([option]);
      for (const length of [1, 511, 4096, 64 * KIB, 256 * KIB, 256 * KIB + 1, 4 * MIB, 4 * MIB + 1, 32 * MIB]) {
        for (const offset of [0, 4095]) {
          for (const flags of [0, FLAG.DF]) {
            stream.feed(request({ type: CMD.READ, cookie: 5n, offset, length, flags }));
            await settled();
            const chunks = parseChunks(stream.output());
            assert.equal(chunkError(chunks), 0);
            const data = chunks.filter(({ type }) => type === CHUNK.OFFSET_DATA);
            if (flags !== 0) assert.equal(data.length, 1, `${length} with DF`);
            const content = contentOf(chunks, offset, length);
            assert.equal(Buffer.compare(content, bench.device.image.subarray(offset, offset + length)), 0);
          }
        }
      }
      assert.equal(bench.server.pool.lent, 0);
    });

    it(`${name}: chunks of a long one begin at multiples of 512 where they can`, async () => {
      const stream = await (await Bench.start()).attachWith([option]);
      stream.feed(request({ type: CMD.READ, offset: 5000, length: 16 * MIB }));
      await settled();
      const offsets = parseChunks(stream.output()).map(({ payload }) => Number(payload.readBigUInt64BE(0)));
      assert(offsets.length > 1);
      assert.deepEqual(offsets.filter((offset) => offset % 512 !== 0), [5000]); // prettier-ignore
    });

    it(`${name}: no simple reply ever, whatever becomes of it`, async () => {
      const bench = await Bench.start();
      const stream = await bench.attachWith([option]);
      bench.device.holdReads = true;
      for (const length of [4096, MIB]) {
        for (const error of [undefined, new GatewayError('checksum-mismatch', 'as the test wants')]) {
          stream.feed(request({ type: CMD.READ, offset: 0, length }));
          for (const held of bench.device.heldReads.splice(0)) held.release(error);
          await settled();
          assert.equal(chunkError(parseChunks(stream.output())), error === undefined ? 0 : E.IO);
        }
      }
      bench.device.close();
      stream.feed(request({ type: CMD.READ, offset: 0, length: 16 }));
      assert.equal(chunkError(parseChunks(stream.output())), E.IO);
      assert.equal(bench.server.pool.lent, 0);
    });

    it(`${name}: an error in the middle of a long one is an error chunk, and the connection goes on`, async () => {
      for (const flags of [0, FLAG.DF]) {
        const bench = await Bench.start();
        const stream = await bench.attachWith([option]);
        bench.device.holdReads = true;
        stream.feed(request({ type: CMD.READ, cookie: 1n, offset: 0, length: 16 * MIB, flags }));
        for (let piece = 0; piece < 3; piece++) {
          bench.device.heldReads
            .shift()
            ?.release(piece < 2 ? undefined : new GatewayError('disk-failed', 'bad sector'));
          await settled();
        }
        bench.device.holdReads = false;
        await settled();
        const chunks = parseChunks(stream.output());
        assert.equal(chunkError(chunks), E.IO);
        const data = chunks.filter(({ type }) => type === CHUNK.OFFSET_DATA);
        if (flags === 0) assert.equal(data.length, 2);
        else assert.deepEqual(data.map(({ payload }) => payload.length), [8 + 16 * MIB], 'filled up to its end'); // prettier-ignore
        stream.feed(request({ type: CMD.FLUSH, cookie: 2n }));
        if (option === structured) assert.equal(replies(stream)[0]?.error, 0);
        else assert.equal(chunkError(parseChunks(stream.output())), 0);
        assert.equal(bench.server.pool.lent, 0);
        assert.equal(bench.volume.nbd.stats.inflight, 0);
      }
    });
  }

  it('a peer that does not read bounds a long one to two buffers, and gets it all when it does', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(64 * MIB));
    const stream = await bench.attachWith([extended]);
    stream.stalled = true;
    stream.feed(extendedRequest({ type: CMD.READ, offset: 0, length: 64 * MIB }));
    await settled();
    assert(bench.server.pool.lent <= 3, `${bench.server.pool.lent} buffers`);
    while (bench.volume.nbd.stats.inflight > 0) {
      stream.take();
      await settled();
    }
    const content = contentOf(parseChunks(stream.output()), 0, 64 * MIB);
    assert.equal(Buffer.compare(content, bench.device.image), 0);
  });
});

describe('NBD_OPT_EXTENDED_HEADERS: lengths of 64 bits', () => {
  it('a READ beyond the longest payload comes in chunks, none of which is longer; with DF it is EOVERFLOW', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(64 * MIB));
    const stream = await bench.attachWith([extended]);
    stream.feed(extendedRequest({ type: CMD.READ, offset: 1, length: 40 * MIB }));
    await settled();
    const chunks = parseChunks(stream.output());
    assert.equal(chunkError(chunks), 0);
    assert(chunks.every(({ payload }) => payload.length <= 32 * MIB));
    const expected = bench.device.image.subarray(1, 1 + 40 * MIB);
    assert.equal(Buffer.compare(contentOf(chunks, 1, 40 * MIB), expected), 0);
    stream.feed(extendedRequest({ type: CMD.READ, offset: 1, length: 40 * MIB, flags: FLAG.DF }));
    assert.equal(chunkError(parseChunks(stream.output())), E.OVERFLOW);
  });

  it('TRIM, WRITE_ZEROES and CACHE take them whole, and past the end they are refused', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([extended]);
    for (const type of [CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE]) {
      stream.feed(extendedRequest({ type, offset: 0, length: 64 * MIB }));
      assert.equal(chunkError(parseChunks(stream.output())), 0);
      for (const length of [1n << 32n, (1n << 63n) + 1n, (1n << 64n) - 1n]) {
        stream.feed(extendedRequest({ type, offset: 512, length }));
        assert.equal(chunkError(parseChunks(stream.output())), type === CMD.WRITE_ZEROES ? E.NOSPC : E.INVAL);
      }
    }
    assert.equal(bench.device.history.length, 3);
  });
});

describe('NBD_CMD_FLAG_PAYLOAD_LEN', () => {
  it('a WRITE without it has no payload, and is EINVAL', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([extended]);
    stream.feed(
      joined([
        extendedRequest({ type: CMD.WRITE, cookie: 1n, length: 512 }),
        extendedRequest({ type: CMD.FLUSH, cookie: 2n }),
      ]),
    );
    await settled();
    assert.deepEqual(parseChunks(stream.output()).map((chunk) => [chunk.cookie, chunkError([chunk])]), [[1n, E.INVAL], [2n, 0]]); // prettier-ignore
  });

  it('a payload that the command does not take is used up, and is EINVAL', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([extended]);
    for (const type of [CMD.READ, CMD.FLUSH, CMD.TRIM, CMD.WRITE_ZEROES, CMD.CACHE, CMD.BLOCK_STATUS, 99]) {
      const bytes = joined([
        extendedRequest({ type, cookie: 1n, flags: FLAG.PAYLOAD_LEN, payload: pattern(600) }),
        extendedRequest({ type: CMD.WRITE, cookie: 2n, flags: FLAG.PAYLOAD_LEN, payload: pattern(10) }),
      ]);
      stream.feed(bytes.subarray(0, 300));
      stream.feed(bytes.subarray(300));
      await settled();
      assert.deepEqual(parseChunks(stream.output()).map((chunk) => [chunk.cookie, chunkError([chunk])]), [[1n, E.INVAL], [2n, 0]]); // prettier-ignore
    }
  });

  it('a payload of 32 MiB is taken, a longer one ends the connection', async () => {
    const bench = await Bench.start();
    const stream = await bench.attachWith([extended]);
    const payload = pattern(32 * MIB);
    stream.feed(extendedRequest({ type: CMD.WRITE, offset: 3, flags: FLAG.PAYLOAD_LEN, payload }));
    await settled();
    assert.equal(chunkError(parseChunks(stream.output())), 0);
    assert.equal(Buffer.compare(bench.device.image.subarray(3, 3 + payload.length), payload), 0);
    const length = limits.nbdRequestBytesMax + 1;
    stream.feed(extendedRequest({ type: CMD.WRITE, flags: FLAG.PAYLOAD_LEN, length }));
    assert(stream.destroyed);
    assert.equal(bench.volume.nbd.stats.inflight, 0);
  });

  it('errors of a WRITE come behind its payload, in pieces as well', async () => {
    const stream = await (await Bench.start()).attachWith([extended]);
    const bytes = extendedRequest({
      type: CMD.WRITE,
      flags: FLAG.PAYLOAD_LEN,
      offset: 64 * MIB,
      payload: pattern(1000),
    });
    for (const at of [1, 31, 32, 33, 500]) {
      stream.feed(bytes.subarray(0, at));
      assert.equal(stream.output().length, 0);
      stream.feed(bytes.subarray(at));
      assert.equal(chunkError(parseChunks(stream.output())), E.NOSPC);
    }
  });
});
