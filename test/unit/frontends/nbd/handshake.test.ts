import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import type { StreamPeer } from '../../../../src/ports/stream.js';
import { clientFlags, infoData, OPT, optionBytes } from '../../../fake/nbd-client.js';
import { Bench, joined, MIB, optionReplies, settled, volume } from './session.js';

const ACK = 1;
const ERR_UNSUP = 0x80000001;
const ERR_POLICY = 0x80000002;
const ERR_INVALID = 0x80000003;
const ERR_UNKNOWN = 0x80000006;
const ERR_TOO_BIG = 0x80000009;

const otherPeer: StreamPeer = {
  kind: 'tcp',
  address: '192.0.2.7',
  port: 1,
  localAddress: '192.0.2.1',
  localPort: 10_809,
};

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

describe('NBD handshake: golden bytes', () => {
  it('greets with both magics, fixed newstyle and no-zeroes', async () => {
    const stream = (await Bench.start()).connect();
    assert.equal(hex(stream.output()), '4e42444d41474943' + '49484156454f5054' + '0003');
  });

  it('answers EXPORT_NAME with size, flags and, unless NO_ZEROES was set, 124 zeroes', async () => {
    for (const flags of [1, 3]) {
      const stream = (await Bench.start()).connect();
      stream.output();
      stream.feed(joined([clientFlags(flags), optionBytes(OPT.EXPORT_NAME, Buffer.from('demo'))]));
      await settled();
      assert.equal(hex(stream.output()), '0000000004000000' + '0d6d' + (flags === 1 ? '00'.repeat(124) : ''));
    }
  });

  it('answers GO with the export and what was asked for, then ACK', async () => {
    const bench = await Bench.start([volume({ sizeBytes: MIB, description: 'my disk' })]);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.GO, infoData('demo', [1, 2, 3, 77])));
    await settled();
    const reply = '0003e889045565a9' + '00000007';
    const replyInfo = reply + '00000003';
    assert.equal(
      hex(stream.output()),
      replyInfo + '0000000c' + '0000' + '0000000000100000' + '0d6d' +
        replyInfo + '00000006' + '0001' + hex(Buffer.from('demo')) +
        replyInfo + '00000009' + '0002' + hex(Buffer.from('my disk')) +
        replyInfo + '0000000e' + '0003' + '00000001' + '00001000' + '02000000' +
        reply + '00000001' + '00000000',
    ); // prettier-ignore
  });

  it('answers LIST with every exported volume and its description, then ACK', async () => {
    const bench = await Bench.start([
      volume({ name: 'a', description: 'first', sizeBytes: MIB }),
      volume({ name: 'b', sizeBytes: MIB, nbdEnabled: false }),
    ]);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.LIST));
    const reply = '0003e889045565a9' + '00000003';
    const server = '00000002' + '0000000a' + '00000001' + hex(Buffer.from('afirst'));
    assert.equal(hex(stream.output()), reply + server + reply + '00000001' + '00000000');
    assert.equal(bench.volume.attachCalls, 0);
  });

  it('marks a read-only volume, and offers it neither TRIM nor WRITE_ZEROES', async () => {
    const bench = await Bench.start([volume({ readOnly: true })]);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.INFO, infoData('demo')));
    assert.equal(optionReplies(stream)[0]?.data.readUInt16BE(10), 0x050f);
  });
});

describe('NBD handshake: options', () => {
  it('INFO answers without attaching, and the handshake goes on', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.INFO, infoData('demo')));
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [3, ACK],
    );
    assert.equal(bench.volume.attachCalls, 0);
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [3, ACK],
    );
    assert.equal(bench.volume.holders.length, 1);
  });

  it('unknown options, and those of later versions, are refused and the handshake goes on', async () => {
    const stream = (await Bench.start()).connectForOptions();
    for (const option of [4, 12, 0, 0xffffffff]) {
      stream.feed(optionBytes(option, Buffer.from('data')));
      const [reply] = optionReplies(stream);
      assert.equal(reply?.type, ERR_UNSUP);
      assert.equal(reply.option, option);
      assert.match(reply.data.toString(), /not supported/);
    }
    stream.feed(optionBytes(OPT.LIST));
    assert.equal(optionReplies(stream).at(-1)?.type, ACK);
  });

  it('ABORT is acknowledged, then the connection ends', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(optionBytes(OPT.ABORT));
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [ACK],
    );
    assert(stream.finished);
  });

  it('LIST with data is invalid', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(optionBytes(OPT.LIST, Buffer.from('x')));
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [ERR_INVALID],
    );
  });

  it('malformed INFO and GO are invalid, whatever is wrong with their lengths', async () => {
    const stream = (await Bench.start()).connectForOptions();
    const good = infoData('demo', [1]);
    const malformed = [
      Buffer.alloc(0),
      good.subarray(0, 5),
      good.subarray(0, good.length - 1),
      Buffer.concat([good, Buffer.from('x')]),
      Buffer.from('ffffffff00000000', 'hex'),
      Buffer.from('000000010000', 'hex'),
    ];
    for (const data of malformed) {
      stream.feed(optionBytes(OPT.GO, data));
      assert.deepEqual(
        optionReplies(stream).map((reply) => reply.type),
        [ERR_INVALID],
        hex(data),
      );
    }
  });

  it('a name that is not there, is no UTF-8, or is not exported over NBD is unknown', async () => {
    const bench = await Bench.start([volume({ name: 'a' }), volume({ name: 'b', nbdEnabled: false })]);
    const stream = bench.connectForOptions();
    const badUtf8 = infoData('xx');
    badUtf8.set([0xff, 0xfe], 4);
    for (const data of [infoData('c'), infoData('b'), badUtf8, infoData('n'.repeat(4096))]) {
      stream.feed(optionBytes(OPT.GO, data));
      const [reply] = optionReplies(stream);
      assert.equal(reply?.type, ERR_UNKNOWN);
      assert.match(reply.data.toString(), /there is: a$/);
    }
    assert.equal(bench.server.rejections.get('not-found'), 4);
  });

  it('a name of more than 4096 bytes is invalid', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(optionBytes(OPT.GO, infoData('n'.repeat(4097))));
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [ERR_INVALID],
    );
  });

  it('the empty name is the only volume, where there is exactly one', async () => {
    const one = (await Bench.start()).connectForOptions();
    one.feed(optionBytes(OPT.INFO, infoData('', [1])));
    const [, name] = optionReplies(one);
    assert.equal(name?.data.toString('utf8', 2), 'demo');

    const two = (await Bench.start([volume({ name: 'a' }), volume({ name: 'b' })])).connectForOptions();
    two.feed(optionBytes(OPT.GO, infoData('')));
    const [refusal] = optionReplies(two);
    assert.equal(refusal?.type, ERR_UNKNOWN);
    assert.match(refusal.data.toString(), /no default export.*a, b/);
  });

  it('EXPORT_NAME of what is not there disconnects', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('nothing')));
    assert(stream.finished);
    assert.equal(stream.output().length, 0);
  });
});

describe('NBD handshake: a volume in use', () => {
  it('GO answers ERR_POLICY with the reason and goes on; nothing was attached', async () => {
    const bench = await Bench.start();
    await bench.attach(otherPeer);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    const [reply] = optionReplies(stream);
    assert.equal(reply?.type, ERR_POLICY);
    assert.match(reply.data.toString(), /in use by nbd 192\.0\.2\.7/);
    stream.feed(optionBytes(OPT.LIST));
    assert.equal(optionReplies(stream).at(-1)?.type, ACK);
    assert.equal(bench.server.rejections.get('volume-in-use'), 1);
    assert.equal(bench.volume.holders.length, 1);
  });

  it('EXPORT_NAME disconnects', async () => {
    const bench = await Bench.start();
    await bench.attach(otherPeer);
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('demo')));
    await settled();
    assert(stream.finished);
    assert.equal(stream.output().length, 0);
  });

  it('bytes that follow GO wait for the attach, and the handshake time-out does too', async () => {
    const bench = await Bench.start();
    let open = (): void => undefined;
    bench.volume.attachGate = new Promise((resolve) => (open = resolve));
    const stream = bench.connectForOptions();
    stream.feed(joined([optionBytes(OPT.GO, infoData('demo')), optionBytes(OPT.LIST).subarray(0, 3)]));
    await settled();
    assert.equal(stream.reading, false);
    bench.clock.advance(limits.handshakeMsMax + 1);
    assert.equal(stream.destroyed, false);
    open();
    await settled();
    assert.equal(optionReplies(stream).at(-1)?.type, ACK);
  });

  it('a client that leaves while it attaches gives the volume back', async () => {
    const bench = await Bench.start();
    let open = (): void => undefined;
    bench.volume.attachGate = new Promise((resolve) => (open = resolve));
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    stream.feedEnd();
    await settled();
    assert(stream.destroyed);
    open();
    await settled();
    assert.equal(bench.volume.attachCalls, 1);
    assert.equal(bench.volume.holders.length, 0);
    assert.equal(bench.server.connections.length, 0);
  });
});

describe('NBD handshake: peers that are cut off', () => {
  it('unknown client flags, wrong magics', async () => {
    const bench = await Bench.start();
    for (const bytes of [clientFlags(4), clientFlags(0x80000001), joined([clientFlags(3), Buffer.alloc(16, 0x47)])]) {
      const stream = bench.connect();
      stream.feed(bytes);
      assert(stream.destroyed);
    }
    await settled();
    assert.equal(bench.server.connections.length, 0);
  });

  it('an option too long to keep is skipped and answered; one beyond all measure is cut off', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    const lengthBytes = limits.nbdOptionBytesMax + 1;
    stream.feed(optionBytes(OPT.GO, Buffer.alloc(0), lengthBytes));
    for (let sent = 0; sent < lengthBytes; sent += 1000) stream.feed(Buffer.alloc(Math.min(1000, lengthBytes - sent)));
    assert.deepEqual(
      optionReplies(stream).map((reply) => reply.type),
      [ERR_TOO_BIG],
    );
    stream.feed(optionBytes(OPT.LIST));
    assert.equal(optionReplies(stream).at(-1)?.type, ACK);

    stream.feed(optionBytes(OPT.GO, Buffer.alloc(0), 0xffffffff));
    assert(stream.destroyed);

    const legacy = bench.connectForOptions();
    legacy.feed(optionBytes(OPT.EXPORT_NAME, Buffer.alloc(0), lengthBytes));
    assert(legacy.destroyed);
  });

  it('a handshake that is not over in time', async () => {
    const bench = await Bench.start();
    const silent = bench.connect();
    const slow = bench.connectForOptions();
    const attached = await bench.attach();
    bench.clock.advance(limits.handshakeMsMax - 1);
    slow.feed(optionBytes(OPT.LIST));
    assert.equal(silent.destroyed, false);
    bench.clock.advance(2);
    assert(silent.destroyed);
    assert(slow.destroyed);
    assert.equal(attached.destroyed, false);
  });
});
