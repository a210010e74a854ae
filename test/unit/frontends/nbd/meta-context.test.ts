/** Metadata contexts in the handshake, and BLOCK_STATUS over both forms of chunks. Titles name the paragraph of proto.md. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { limits } from '../../../../src/base/limits.js';
import {
  chunkError,
  contextData,
  extendedRequest,
  filterPayload,
  parseChunks,
  statusOf,
} from '../../../fake/nbd-chunk.js';
import { CMD, E, FLAG, infoData, OPT, optionBytes, requestBytes } from '../../../fake/nbd-client.js';
import type { MemoryStream } from '../../../fake/memory-stream.js';
import { Bench, contexts, extended, joined, MIB, optionReplies, settled, structured, volume } from './session.js';

const ACK = 1;
const META = 4;
const ERR_INVALID = 0x80000003;
const ERR_UNKNOWN = 0x80000006;
const BLOCK = 4096;

async function asked(
  option: number,
  queries: readonly string[],
  first: readonly Uint8Array[] = [structured],
): Promise<{ types: number[]; names: string[]; ids: number[]; stream: MemoryStream }> {
  const stream = (await Bench.start()).connectForOptions();
  for (const bytes of first) stream.feed(bytes);
  stream.output();
  stream.feed(optionBytes(option, contextData('demo', queries)));
  const replies = optionReplies(stream);
  const found = replies.filter(({ type }) => type === META);
  return {
    types: replies.map(({ type }) => type),
    names: found.map(({ data }) => data.toString('utf8', 4)),
    ids: found.map(({ data }) => data.readUInt32BE(0)),
    stream,
  };
}

describe('NBD_OPT_LIST_META_CONTEXT', () => {
  it('without queries all that there are, with ids of 0', async () => {
    const { names, ids, types } = await asked(OPT.LIST_META_CONTEXT, []);
    assert.deepEqual(names, ['base:allocation', 'keepgate:dirty', 'keepgate:remote']);
    assert.deepEqual(ids, [0, 0, 0]);
    assert.equal(types.at(-1), ACK);
  });

  it('a namespace stands for all of its own, unknown ones find nothing and are no error', async () => {
    assert.deepEqual((await asked(OPT.LIST_META_CONTEXT, ['keepgate:'])).names, ['keepgate:dirty', 'keepgate:remote']);
    const none = await asked(OPT.LIST_META_CONTEXT, ['qemu:dirty-bitmap:x', 'base:other']);
    assert.deepEqual(none.types, [ACK]);
  });

  it('golden bytes', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    stream.feed(structured);
    stream.output();
    stream.feed(Buffer.from('49484156454f5054' + '00000009' + '0000001f' + '00000004' + '64656d6f' + '00000001' + '0000000f' + Buffer.from('base:allocation').toString('hex'), 'hex')); // prettier-ignore
    const reply = '0003e889045565a9' + '00000009';
    assert.equal(
      Buffer.from(stream.output()).toString('hex'),
      reply + '00000004' + '00000013' + '00000000' + Buffer.from('base:allocation').toString('hex') + reply + '00000001' + '00000000', // prettier-ignore
    );
  });
});

describe('NBD_OPT_SET_META_CONTEXT', () => {
  it('selects what is named in full, each once and with an id of its own', async () => {
    const wanted = ['keepgate:remote', 'base:allocation', 'base:allocation', 'x-other:thing'];
    const { names, ids, types } = await asked(OPT.SET_META_CONTEXT, wanted);
    assert.deepEqual(names, ['base:allocation', 'keepgate:remote']);
    assert.equal(new Set(ids).size, 2);
    assert.equal(types.at(-1), ACK);
  });

  it('a namespace alone, and no query at all, select nothing', async () => {
    assert.deepEqual((await asked(OPT.SET_META_CONTEXT, ['base:'])).types, [ACK]);
    assert.deepEqual((await asked(OPT.SET_META_CONTEXT, [])).types, [ACK]);
  });

  it('is invalid before structured replies or extended headers, and goes on', async () => {
    for (const option of [OPT.SET_META_CONTEXT, OPT.LIST_META_CONTEXT])
      assert.deepEqual((await asked(option, ['base:allocation'], [])).types, [ERR_INVALID]);
    assert.deepEqual((await asked(OPT.SET_META_CONTEXT, ['base:allocation'], [extended])).names, ['base:allocation']);
  });

  it('malformed lengths and queries without a namespace are invalid', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(structured);
    stream.output();
    const good = contextData('demo', ['base:allocation']);
    const tooMany = Buffer.from(good);
    tooMany.writeUInt32BE(0xffffffff, 8);
    const tooLong = Buffer.from(good);
    tooLong.writeUInt32BE(0xfffffff0, 12);
    const noName = Buffer.from(good);
    noName.writeUInt32BE(4097, 0);
    for (const data of [
      Buffer.alloc(0),
      good.subarray(0, 6),
      good.subarray(0, good.length - 1),
      Buffer.concat([good, Buffer.alloc(1)]),
      tooMany,
      tooLong,
      noName,
      contextData('demo', ['allocation']),
    ]) {
      stream.feed(optionBytes(OPT.SET_META_CONTEXT, data));
      assert.deepEqual(
        optionReplies(stream).map(({ type }) => type),
        [ERR_INVALID],
        data.toString('hex'),
      );
    }
    stream.feed(optionBytes(OPT.SET_META_CONTEXT, contextData('n'.repeat(4096), [`x-a:${'q'.repeat(4092)}`])));
    assert.deepEqual(
      optionReplies(stream).map(({ type }) => type),
      [ERR_UNKNOWN],
      'the longest strings are read',
    );
  });

  it('each replaces the one before, also where it fails; it counts for its export alone', async () => {
    const status = requestBytes({ type: CMD.BLOCK_STATUS, length: BLOCK });
    const bad = optionBytes(OPT.SET_META_CONTEXT, contextData('nothing', ['base:allocation']));
    const none = contexts();
    for (const last of [bad, none]) {
      const bench = await Bench.start();
      const stream = bench.connectForOptions();
      for (const option of [structured, contexts('base:allocation'), last]) stream.feed(option);
      stream.feed(optionBytes(OPT.GO, infoData('demo')));
      await settled();
      stream.output();
      stream.feed(status);
      await settled();
      assert.equal(chunkError(parseChunks(stream.output())), E.INVAL);
    }
    const two = await Bench.start([volume(), volume({ name: 'other' })]);
    const stream = await two.attachWith([structured, contexts('base:allocation')], undefined, 'other');
    stream.feed(status);
    await settled();
    assert.equal(chunkError(parseChunks(stream.output())), E.INVAL);
  });
});

describe('NBD_CMD_BLOCK_STATUS', () => {
  const forms = [
    { name: 'structured', option: structured, request: requestBytes },
    { name: 'extended', option: extended, request: extendedRequest },
  ] as const;

  async function painted(option: Uint8Array, ...queries: string[]): Promise<{ bench: Bench; stream: MemoryStream }> {
    const bench = await Bench.start();
    bench.device.image.fill(1, BLOCK, 3 * BLOCK);
    bench.device.marked.dirty.add(2);
    bench.device.marked.remote.add(0).add(5);
    return { bench, stream: await bench.attachWith([option, contexts(...queries)]) };
  }

  it('golden bytes, structured', async () => {
    const { stream } = await painted(structured, 'base:allocation');
    stream.feed(
      Buffer.from('25609513' + '0000' + '0007' + '0102030405060708' + '0000000000000000' + '00004000', 'hex'),
    );
    await settled();
    assert.equal(
      Buffer.from(stream.output()).toString('hex'),
      '668e33ef' + '0001' + '0005' + '0102030405060708' + '0000001c' + '00000001' +
        '00001000' + '00000003' + '00002000' + '00000000' + '00001000' + '00000003',
    ); // prettier-ignore
  });

  it('golden bytes, extended: NBD_REPLY_TYPE_BLOCK_STATUS_EXT', async () => {
    const { stream } = await painted(extended, 'base:allocation');
    stream.feed(
      Buffer.from('21e41c71' + '0000' + '0007' + '0102030405060708' + '0000000000001000' + '0000000000003000', 'hex'),
    );
    await settled();
    assert.equal(
      Buffer.from(stream.output()).toString('hex'),
      '6e8a278c' + '0001' + '0006' + '0102030405060708' + '0000000000001000' + '0000000000000028' +
        '00000001' + '00000002' + '0000000000002000' + '0000000000000000' + '0000000000001000' + '0000000000000003',
    ); // prettier-ignore
  });

  for (const { name, option, request } of forms) {
    it(`${name}: one chunk for each context, DONE in the last, lengths of any alignment`, async () => {
      const { stream } = await painted(option, 'base:allocation', 'keepgate:dirty', 'keepgate:remote');
      stream.feed(request({ type: CMD.BLOCK_STATUS, cookie: 7n, offset: 100, length: 6 * BLOCK }));
      await settled();
      const chunks = parseChunks(stream.output());
      assert.equal(chunkError(chunks), 0);
      assert.deepEqual(chunks.map(statusOf), [
        { context: 1, extents: [[BLOCK - 100, 3], [2 * BLOCK, 0], [3 * BLOCK + 100, 3]] },
        { context: 2, extents: [[2 * BLOCK - 100, 0], [BLOCK, 1], [3 * BLOCK + 100, 0]] },
        { context: 3, extents: [[BLOCK - 100, 1], [4 * BLOCK, 0], [BLOCK, 1], [100, 0]] },
      ]); // prettier-ignore
    });

    it(`${name}: REQ_ONE gives one extent of each, within the request`, async () => {
      const { stream } = await painted(option, 'base:allocation', 'keepgate:dirty');
      stream.feed(request({ type: CMD.BLOCK_STATUS, flags: FLAG.REQ_ONE | FLAG.FUA, offset: BLOCK, length: 100 }));
      await settled();
      assert.deepEqual(parseChunks(stream.output()).map(statusOf), [
        { context: 1, extents: [[100, 0]] },
        { context: 2, extents: [[100, 0]] },
      ]);
    });

    it(`${name}: never more extents than fit the answer, and at least one`, async () => {
      const { bench, stream } = await painted(option, 'base:allocation', 'keepgate:dirty');
      for (let block = 0; block < bench.device.sizeBytes / BLOCK; block += 2) bench.device.image[block * BLOCK] = 1;
      let covered = 0;
      let answers = 0;
      for (; covered < 64 * MIB; answers++) {
        stream.feed(request({ type: CMD.BLOCK_STATUS, offset: covered, length: 64 * MIB - covered }));
        await settled();
        const [allocation] = parseChunks(stream.output()).map(statusOf);
        assert(allocation !== undefined && allocation.extents.length <= limits.nbdStatusExtentsMax);
        covered += allocation.extents.reduce((sum, [length]) => sum + length, 0);
      }
      assert.equal(covered, 64 * MIB);
      assert(answers > 1);
    });

    it(`${name}: nothing, and past the end, are EINVAL; what the device refuses is its error; the connection goes on`, async () => {
      const { bench, stream } = await painted(option, 'base:allocation');
      const errorOf = async (offset: number, length: number, flags = 0): Promise<number> => {
        stream.feed(request({ type: CMD.BLOCK_STATUS, offset, length, flags }));
        await settled();
        return chunkError(parseChunks(stream.output()));
      };
      assert.equal(await errorOf(0, 0), E.INVAL);
      assert.equal(await errorOf(64 * MIB - 1, 2), E.INVAL);
      assert.equal(await errorOf(0, 512, FLAG.DF), E.INVAL);
      bench.device.failStatus = new GatewayError('disk-failed', 'as the test wants');
      assert.equal(await errorOf(0, 512), E.IO);
      bench.device.failStatus = undefined;
      assert.equal(await errorOf(64 * MIB - 1, 1), 0);
    });

    it(`${name}: without a context that was selected it is EINVAL`, async () => {
      const bench = await Bench.start();
      const stream = await bench.attachWith([option]);
      stream.feed(request({ type: CMD.BLOCK_STATUS, length: 512 }));
      await settled();
      assert.equal(chunkError(parseChunks(stream.output())), E.INVAL);
    });
  }

  it('more of them than may run at a time wait, and other requests behind them', async () => {
    const { stream } = await painted(structured, 'base:allocation');
    const many = Array.from({ length: 50 }, (_, at) =>
      requestBytes({ type: CMD.BLOCK_STATUS, cookie: BigInt(at), length: BLOCK }),
    );
    stream.feed(joined([...many, requestBytes({ type: CMD.READ, cookie: 50n, length: 4 })]));
    await settled(60);
    const answered = parseChunks(stream.output());
    assert.deepEqual(new Set(answered.map(({ cookie }) => cookie)).size, 51);
  });

  describe('NBD_FLAG_BLOCK_STATUS_PAYLOAD', () => {
    const filtered = (lengthBytes: number, ids: readonly number[], flags = 0): Buffer =>
      extendedRequest({
        type: CMD.BLOCK_STATUS,
        flags: flags | FLAG.PAYLOAD_LEN,
        cookie: 9n,
        offset: BLOCK,
        payload: filterPayload(lengthBytes, ids),
      });

    it('is advertised with extended headers and contexts of that export, and only then', async () => {
      for (const [options, expected] of [
        [[structured, contexts('base:allocation')], 0],
        [[extended], 0],
        [[extended, contexts()], 0],
        [[extended, contexts('base:allocation')], 1 << 12],
      ] as const) {
        const stream = (await Bench.start()).connectForOptions();
        for (const option of options) stream.feed(option);
        stream.output();
        stream.feed(optionBytes(OPT.INFO, infoData('demo')));
        assert.equal((optionReplies(stream)[0]?.data.readUInt16BE(10) ?? 0) & (1 << 12), expected);
      }
    });

    it('limits the answer to the contexts that it names, and the range to its own length', async () => {
      const { stream } = await painted(extended, 'base:allocation', 'keepgate:dirty', 'keepgate:remote');
      const bytes = filtered(2 * BLOCK, [3, 1]);
      for (const at of [0, 10, 32, 36, bytes.length - 1]) {
        stream.feed(bytes.subarray(0, at));
        stream.feed(bytes.subarray(at));
        await settled();
        const chunks = parseChunks(stream.output());
        assert.equal(chunkError(chunks), 0);
        assert.deepEqual(chunks.map(statusOf), [
          { context: 3, extents: [[2 * BLOCK, 0]] },
          { context: 1, extents: [[2 * BLOCK, 0]] },
        ]);
      }
    });

    it('unknown ids, ids twice, and no filter at all are EINVAL behind the payload', async () => {
      const { stream } = await painted(extended, 'base:allocation', 'keepgate:dirty');
      const flush = extendedRequest({ type: CMD.FLUSH, cookie: 10n });
      for (const ids of [[3], [1, 3], [1, 1], [1, 2, 2], [1, 2, 3, 4]]) {
        stream.feed(joined([filtered(BLOCK, ids), flush]));
        await settled();
        const chunks = parseChunks(stream.output());
        assert.deepEqual(chunks.map((chunk) => [chunk.cookie, chunkError([chunk])]), [[9n, E.INVAL], [10n, 0]]); // prettier-ignore
      }
      for (const payload of [Buffer.alloc(1), Buffer.alloc(7), Buffer.alloc(13), Buffer.alloc(5000)]) {
        stream.feed(joined([extendedRequest({ type: CMD.BLOCK_STATUS, flags: FLAG.PAYLOAD_LEN, payload }), flush]));
        await settled();
        assert.deepEqual(parseChunks(stream.output()).map((chunk) => chunkError([chunk])), [E.INVAL, 0]); // prettier-ignore
      }
    });

    it('its own length is checked like any other', async () => {
      const { stream } = await painted(extended, 'base:allocation');
      stream.feed(joined([filtered(0, [1]), filtered(64 * MIB, [1])]));
      await settled();
      assert.deepEqual(parseChunks(stream.output()).map((chunk) => chunkError([chunk])), [E.INVAL, E.INVAL]); // prettier-ignore
    });

    it('of no context at all, the answer is an empty one', async () => {
      const { stream } = await painted(extended, 'base:allocation');
      stream.feed(filtered(BLOCK, []));
      await settled();
      const chunks = parseChunks(stream.output());
      assert.deepEqual(chunks.map(({ type, done }) => [type, done]), [[0, true]]); // prettier-ignore
    });
  });
});
