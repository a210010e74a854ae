import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errorCodes, GatewayError } from '../../../../src/base/errors.js';
import type { ErrorCode } from '../../../../src/base/errors.js';
import { ioOps } from '../../../../src/base/io-stats.js';
import { limits } from '../../../../src/base/limits.js';
import { CMD, E, FLAG, requestBytes } from '../../../fake/nbd-client.js';
import type { RequestFields } from '../../../fake/nbd-client.js';
import { Bench, joined, MIB, pattern, replies, settled, volume } from './session.js';

const KIB = 1024;

async function errorOf(bench: Bench, fields: RequestFields): Promise<number | undefined> {
  const stream = await bench.attach();
  stream.feed(requestBytes(fields));
  await settled();
  const answered = replies(stream);
  stream.feedEnd();
  await settled();
  assert(stream.finished, 'the connection stood until the peer left');
  assert.equal(answered.length, 1);
  return answered[0]?.error;
}

describe('NBD transmission: golden bytes', () => {
  it('a read is answered by header and data, a write by the header alone', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(
      Buffer.from(
        '25609513' + '0000' + '0001' + '0102030405060708' + '0000000000001000' + '00000004' + 'deadbeef',
        'hex',
      ),
    );
    stream.feed(
      Buffer.from('25609513' + '0000' + '0000' + 'f1f2f3f4f5f6f7f8' + '0000000000000fff' + '00000006', 'hex'),
    );
    assert.equal(
      Buffer.from(stream.output()).toString('hex'),
      '67446698' + '00000000' + '0102030405060708' + '67446698' + '00000000' + 'f1f2f3f4f5f6f7f8' + '00deadbeef00',
    );
  });

  it('an error has no data', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(
      Buffer.from('25609513' + '0000' + '00ff' + '0102030405060708' + '0000000000000000' + '00000004', 'hex'),
    );
    assert.equal(Buffer.from(stream.output()).toString('hex'), '67446698' + '00000016' + '0102030405060708');
  });
});

describe('NBD transmission: commands', () => {
  it('every command reaches the device with its range and flags, and one wake-up is one commit and one write', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const writesBefore = stream.writes;
    const data = pattern(8 * KIB);
    stream.feed(
      joined([
        requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 4096, payload: data }),
        requestBytes({ type: CMD.WRITE, cookie: 2n, offset: 512, payload: data.subarray(0, 10), flags: FLAG.FUA }),
        requestBytes({ type: CMD.FLUSH, cookie: 3n }),
        requestBytes({ type: CMD.TRIM, cookie: 4n, offset: 4096, length: 4096, flags: FLAG.FUA }),
        requestBytes({ type: CMD.WRITE_ZEROES, cookie: 5n, offset: 0, length: 100 }),
        requestBytes({ type: CMD.WRITE_ZEROES, cookie: 6n, offset: 0, length: 64 * MIB, flags: FLAG.NO_HOLE }),
        requestBytes({ type: CMD.CACHE, cookie: 7n, offset: 0, length: 64 * MIB }),
        requestBytes({ type: CMD.READ, cookie: 8n, offset: 4096, length: 8, flags: FLAG.FUA }),
      ]),
    );
    const answered = replies(stream, (cookie) => (cookie === 8n ? 8 : 0));
    assert.deepEqual(
      answered.map((reply) => reply.error),
      new Array(8).fill(0),
    );
    assert.deepEqual(new Set(answered.map((reply) => reply.cookie)), new Set([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n]));
    assert.equal(bench.device.commits, 1);
    assert.equal(stream.writes - writesBefore, 1);
    const plain = { forceUnitAccess: false, mayPunch: false };
    assert.deepEqual(bench.device.history, [
      { ...plain, op: 'write', offset: 4096, lengthBytes: 8192 },
      { ...plain, op: 'write', offset: 512, lengthBytes: 10, forceUnitAccess: true },
      { ...plain, op: 'flush', offset: 0, lengthBytes: 0, forceUnitAccess: true },
      { op: 'trim', offset: 4096, lengthBytes: 4096, forceUnitAccess: true, mayPunch: true },
      { op: 'zero', offset: 0, lengthBytes: 100, forceUnitAccess: false, mayPunch: true },
      { ...plain, op: 'zero', offset: 0, lengthBytes: 64 * MIB },
      { ...plain, op: 'cache', offset: 0, lengthBytes: 64 * MIB },
      { ...plain, op: 'read', offset: 4096, lengthBytes: 8 },
    ]);
  });

  it('a wake-up of reads alone commits nothing', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(requestBytes({ type: CMD.READ, length: 4096 }));
    assert.equal(replies(stream, () => 4096).length, 1);
    assert.equal(bench.device.commits, 0);
  });

  it('reads and writes of every size up to 32 MiB come back as they went', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    for (const length of [1, 511, 4096, 256 * KIB, 256 * KIB + 1, MIB, 4 * MIB, 4 * MIB + 1, 32 * MIB]) {
      const data = pattern(length, length);
      stream.feed(requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 4095, payload: data }));
      await settled();
      assert.deepEqual(
        replies(stream).map((reply) => reply.error),
        [0],
        `write of ${length}`,
      );
      stream.feed(requestBytes({ type: CMD.READ, cookie: 2n, offset: 4095, length }));
      await settled();
      const [reply] = replies(stream, () => length);
      assert.equal(reply?.error, 0);
      assert.equal(Buffer.compare(reply.data, data), 0, `read of ${length}`);
    }
  });
});

describe('NBD transmission: errors', () => {
  const end = 64 * MIB;
  const cases: readonly (readonly [string, RequestFields, number])[] = [
    ['write past the end', { type: CMD.WRITE, offset: end - 1, payload: Buffer.alloc(2) }, E.NOSPC],
    ['write of zeroes past the end', { type: CMD.WRITE_ZEROES, offset: end, length: 1 }, E.NOSPC],
    ['read past the end', { type: CMD.READ, offset: end - 4096, length: 4097 }, E.INVAL],
    ['trim past the end', { type: CMD.TRIM, offset: end, length: 512 }, E.INVAL],
    ['cache past the end', { type: CMD.CACHE, offset: 0, length: 0xffffffff }, E.INVAL],
    ['read at the last offset there is', { type: CMD.READ, offset: 0xffffffffffffffffn, length: 1 }, E.INVAL],
    ['write at 2^63', { type: CMD.WRITE, offset: 1n << 63n, payload: Buffer.alloc(1) }, E.NOSPC],
    ['read of nothing', { type: CMD.READ, length: 0 }, E.INVAL],
    ['write of nothing', { type: CMD.WRITE, length: 0 }, E.INVAL],
    ['trim of nothing', { type: CMD.TRIM, length: 0 }, E.INVAL],
    ['read beyond 32 MiB', { type: CMD.READ, length: 32 * MIB + 1 }, E.INVAL],
    ['write beyond 32 MiB', { type: CMD.WRITE, payload: Buffer.alloc(32 * MIB + 1) }, E.INVAL],
    ['flush of a range', { type: CMD.FLUSH, offset: 0, length: 512 }, E.INVAL],
    ['flush at an offset', { type: CMD.FLUSH, offset: 512, length: 0 }, E.INVAL],
    ['block status, which is not offered', { type: 7, length: 512 }, E.INVAL],
    ['unknown command', { type: 0xffff, length: 512 }, E.INVAL],
    ['read with DF, which is not offered', { type: CMD.READ, length: 512, flags: FLAG.DF }, E.INVAL],
    ['write with NO_HOLE', { type: CMD.WRITE, payload: Buffer.alloc(512), flags: FLAG.NO_HOLE }, E.INVAL],
    ['write with an unknown flag', { type: CMD.WRITE, payload: Buffer.alloc(512), flags: 0x8000 }, E.INVAL],
    ['write with PAYLOAD_LEN', { type: CMD.WRITE, payload: Buffer.alloc(512), flags: FLAG.PAYLOAD_LEN }, E.INVAL],
    ['trim with FAST_ZERO', { type: CMD.TRIM, length: 4096, flags: FLAG.FAST_ZERO }, E.INVAL],
  ];
  for (const [name, fields, expected] of cases) {
    it(`${name} is ${expected}, and the connection goes on`, async () => {
      const bench = await Bench.start();
      assert.equal(await errorOf(bench, fields), expected);
      assert.deepEqual(bench.device.history, []);
    });
  }

  it('changes to a read-only volume are EPERM, reads and flushes are not', async () => {
    const changes = [CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES].map((type) => ({
      type,
      payload: Buffer.alloc(type === CMD.WRITE ? 512 : 0),
      length: 512,
    }));
    for (const fields of changes)
      assert.equal(await errorOf(await Bench.start([volume({ readOnly: true })]), fields), E.PERM);
    assert.equal(await errorOf(await Bench.start([volume({ readOnly: true })]), { type: CMD.FLUSH }), 0);
  });

  it('the error of a write is answered after its payload, however that arrives', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const bytes = requestBytes({ type: CMD.WRITE, cookie: 1n, offset: 64 * MIB, payload: Buffer.alloc(1000) });
    stream.feed(bytes.subarray(0, 500));
    assert.equal(replies(stream).length, 0);
    stream.feed(joined([bytes.subarray(500), requestBytes({ type: CMD.FLUSH, cookie: 2n })]));
    assert.deepEqual(
      replies(stream).map(({ cookie, error }) => [cookie, error]),
      [
        [1n, E.NOSPC],
        [2n, 0],
      ],
    );
  });

  it('what the device answers later becomes the reply’s error', async () => {
    for (const [code, expected] of [
      ['disk-full', E.NOSPC],
      ['buffer-full', E.NOSPC],
      ['checksum-mismatch', E.IO],
      ['read-only', E.PERM],
      ['volume-closed', E.IO],
    ] as const) {
      for (const op of ['read', 'write', 'flush', 'trim', 'zero', 'cache'] as const) {
        const bench = await Bench.start();
        bench.device.failNext(op, new GatewayError(code, 'as the test wants'));
        const type = {
          read: CMD.READ,
          write: CMD.WRITE,
          flush: CMD.FLUSH,
          trim: CMD.TRIM,
          zero: CMD.WRITE_ZEROES,
          cache: CMD.CACHE,
        }[op];
        const payload = Buffer.alloc(op === 'write' ? 512 : 0);
        assert.equal(
          await errorOf(bench, { type, payload, length: op === 'flush' ? 0 : 512 }),
          expected,
          `${op} ${code}`,
        );
        assert.equal(bench.volume.nbd.stats.errors[ioOps.indexOf(op)], 1);
      }
    }
  });

  it('what the device refuses at once does too, whole and in pieces', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.close();
    const write = requestBytes({ type: CMD.WRITE, cookie: 1n, payload: Buffer.alloc(512) });
    stream.feed(write);
    stream.feed(write.subarray(0, 100));
    stream.feed(write.subarray(100));
    stream.feed(requestBytes({ type: CMD.READ, cookie: 2n, length: 512 }));
    stream.feed(requestBytes({ type: CMD.READ, cookie: 3n, length: MIB }));
    stream.feed(requestBytes({ type: CMD.READ, cookie: 4n, length: 32 * MIB }));
    stream.feed(requestBytes({ type: CMD.FLUSH, cookie: 5n }));
    await settled();
    assert.deepEqual(
      replies(stream).map(({ cookie, error }) => [cookie, error]),
      [1n, 1n, 2n, 3n, 4n, 5n].map((cookie) => [cookie, E.IO]),
    );
    assert.equal(bench.server.pool.lent, 0);
  });

  it('every code of the registry has an answer of both phases', async () => {
    const { nbdAnswers } = await import('../../../../src/frontends/nbd/error-table.js');
    const { optionReply } = await import('../../../../src/frontends/nbd/wire.js');
    for (const code of Object.keys(errorCodes) as ErrorCode[]) {
      assert(nbdAnswers[code].request > 0, code);
      assert(optionReply[nbdAnswers[code].option] >= 0x80000000, code);
    }
  });

  it('a wrong magic closes this connection and no other', async () => {
    const bench = await Bench.start();
    const good = await bench.attach();
    const bad = await bench.attach();
    const bytes = requestBytes({ type: CMD.FLUSH });
    bytes[0] = 0;
    bad.feed(bytes);
    assert(bad.destroyed);
    good.feed(requestBytes({ type: CMD.FLUSH, cookie: 9n }));
    assert.deepEqual(
      replies(good).map((reply) => reply.cookie),
      [9n],
    );
    assert.equal(bench.volume.holders.length, 1);
  });

  it('a write far beyond the maximum is cut off, and nothing of it is kept', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(requestBytes({ type: CMD.WRITE, length: limits.nbdSkippedPayloadBytesMax + 1 }));
    assert(stream.destroyed);
    assert.equal(bench.volume.nbd.stats.inflight, 0);
  });
});
