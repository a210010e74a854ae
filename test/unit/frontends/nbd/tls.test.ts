/** STARTTLS, the modes of "TLS support" in proto.md, and users of volumes; the handshake of TLS itself is a stand-in. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../../src/base/limits.js';
import { contextData } from '../../../fake/nbd-chunk.js';
import { clientFlags, infoData, OPT, optionBytes } from '../../../fake/nbd-client.js';
import { Bench, joined, optionReplies, settled, volume } from './session.js';

const ACK = 1;
const SERVER = 2;
const ERR_UNSUP = 0x80000001;
const ERR_POLICY = 0x80000002;
const ERR_INVALID = 0x80000003;
const ERR_TLS_REQD = 0x80000005;
const ERR_UNKNOWN = 0x80000006;
const ERR_TOO_BIG = 0x80000009;

const starttls = optionBytes(OPT.STARTTLS);

function types(stream: Parameters<typeof optionReplies>[0]): number[] {
  return optionReplies(stream).map(({ type }) => type);
}

describe('NBD "NOTLS mode"', () => {
  it('STARTTLS is ERR_POLICY, and the handshake goes on in clear', async () => {
    const stream = (await Bench.start()).connectForOptions();
    stream.feed(joined([starttls, optionBytes(OPT.LIST)]));
    assert.deepEqual(types(stream), [ERR_POLICY, SERVER, ACK]);
  });

  it('is the mode of a client that did not negotiate fixed newstyle', async () => {
    const bench = await Bench.start(undefined, 'on');
    const stream = bench.connect();
    stream.feed(clientFlags(0));
    stream.output();
    stream.feed(starttls);
    assert.deepEqual(types(stream), [ERR_POLICY]);
  });
});

describe('NBD "SELECTIVETLS mode"', () => {
  it('serves in clear, and over TLS; STARTTLS over TLS, or with data, is ERR_INVALID', async () => {
    const bench = await Bench.start(undefined, 'on');
    await bench.attach();
    const stream = await bench.connectSecured(undefined);
    stream.feed(joined([starttls, optionBytes(OPT.STARTTLS, Buffer.from('x'))]));
    await settled();
    assert.deepEqual(types(stream), [ERR_INVALID, ERR_INVALID]);
    stream.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    assert.equal(types(stream).at(-1), ACK);
    const withData = bench.connectForOptions();
    withData.feed(optionBytes(OPT.STARTTLS, Buffer.from('x')));
    assert.deepEqual(types(withData), [ERR_INVALID]);
  });

  it('begins anew over TLS, without a greeting, with the client flags of before', async () => {
    const bench = await Bench.start(undefined, 'on');
    for (const [flags, zeroes] of [
      [1, 124],
      [3, 0],
    ] as const) {
      const stream = bench.connect();
      stream.feed(clientFlags(flags));
      stream.feed(starttls);
      stream.output();
      await settled();
      bench.security.finish(stream, undefined);
      stream.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('demo')));
      await settled();
      assert.equal(stream.output().length, 10 + zeroes);
    }
  });

  it('forgets half an option that came in clear, by cutting off whoever sends anything behind STARTTLS', async () => {
    const bench = await Bench.start(undefined, 'on');
    for (const injected of [optionBytes(OPT.LIST), Buffer.from('I'), optionBytes(OPT.GO, infoData('demo'))]) {
      const stream = bench.connectForOptions();
      stream.feed(joined([starttls, injected]));
      await settled();
      assert(stream.destroyed);
    }
    assert.equal(bench.server.logins, 0);
    assert.equal(bench.server.rejections.get('invalid-request'), 3);
  });

  it('contexts of a volume with users are for them alone', async () => {
    const bench = await Bench.start([volume({ nbdUsers: ['alice'] })], 'on');
    const contexts = optionBytes(OPT.LIST_META_CONTEXT, contextData('demo', []));
    for (const [user, answer] of [
      ['bob', ERR_POLICY],
      ['alice', ACK],
    ] as const) {
      const stream = await bench.connectSecured(user);
      stream.feed(joined([optionBytes(OPT.STRUCTURED_REPLY), contexts]));
      await settled();
      assert.equal(types(stream).at(-1), answer);
    }
  });

  it('a volume with users is a TLS-only export: ERR_TLS_REQD in clear, ERR_POLICY for others over TLS', async () => {
    const bench = await Bench.start([volume({ nbdUsers: ['alice', 'bob'] })], 'on');
    for (const option of [OPT.INFO, OPT.GO]) {
      const clear = bench.connectForOptions();
      clear.feed(optionBytes(option, infoData('demo')));
      assert.deepEqual(types(clear), [ERR_TLS_REQD]);
      for (const user of [undefined, 'mallory', 'Alice', 'alice ']) {
        const other = await bench.connectSecured(user);
        other.feed(optionBytes(option, infoData('demo')));
        await settled();
        assert.deepEqual(types(other), [ERR_POLICY]);
      }
    }
    assert.equal(bench.volume.attachCalls, 0);
    assert.equal(bench.server.rejections.get('tls-required'), 2);
    assert.equal(bench.server.rejections.get('access-denied'), 8);
    const alice = await bench.connectSecured('alice');
    alice.feed(optionBytes(OPT.GO, infoData('demo')));
    await settled();
    assert.equal(types(alice).at(-1), ACK);
    assert.equal(bench.volume.holders[0]?.client.key, 'nbd:tls:"alice"');
  });

  it('EXPORT_NAME of a volume that is for others disconnects', async () => {
    const bench = await Bench.start([volume({ nbdUsers: ['alice'] })], 'on');
    const clear = bench.connectForOptions();
    const other = await bench.connectSecured('bob');
    for (const stream of [clear, other]) {
      stream.feed(optionBytes(OPT.EXPORT_NAME, Buffer.from('demo')));
      await settled();
      assert.equal(stream.output().length, 0);
      assert(stream.finished);
    }
  });

  it('LIST, and what is said of unknown names, show what the client may use; the default export is no way round', async () => {
    const bench = await Bench.start([volume({ nbdUsers: ['alice'] }), volume({ name: 'open' })], 'on');
    const other = await bench.connectSecured('bob');
    other.feed(
      joined([optionBytes(OPT.LIST), optionBytes(OPT.INFO, infoData('x')), optionBytes(OPT.INFO, infoData(''))]),
    );
    await settled();
    const replies = optionReplies(other);
    assert.deepEqual(replies.map(({ type }) => type), [SERVER, ACK, ERR_UNKNOWN, ERR_UNKNOWN]); // prettier-ignore
    assert(replies.every(({ data }) => !data.toString().includes('demo')));
    const alice = await bench.connectSecured('alice');
    alice.feed(optionBytes(OPT.LIST));
    await settled();
    assert.deepEqual(types(alice), [SERVER, SERVER, ACK]);
  });

  it('one user from two addresses is one client; two users from one address are two', async () => {
    const bench = await Bench.start(undefined, 'on');
    const elsewhere = { kind: 'tcp', address: '192.0.2.7', port: 1, localAddress: '192.0.2.1', localPort: 2 } as const;
    const go = optionBytes(OPT.GO, infoData('demo'));
    for (const [user, peer, answer] of [
      ['alice', undefined, ACK],
      ['alice', elsewhere, ACK],
      ['bob', undefined, ERR_POLICY],
    ] as const) {
      const stream = await bench.connectSecured(user, peer);
      stream.feed(go);
      await settled();
      assert.equal(types(stream).at(-1), answer);
    }
  });
});

describe('NBD "FORCEDTLS mode"', () => {
  it('every option but STARTTLS and ABORT is ERR_TLS_REQD, known or not, fitting or not', async () => {
    const bench = await Bench.start(undefined, 'required');
    const stream = bench.connectForOptions();
    const others = [OPT.LIST, OPT.INFO, OPT.GO, OPT.STRUCTURED_REPLY, 9, 10, 11, 4711, 0xffffffff];
    for (const option of others) {
      stream.feed(optionBytes(option, infoData('demo')));
      assert.deepEqual(types(stream), [ERR_TLS_REQD]);
    }
    stream.feed(optionBytes(OPT.LIST, Buffer.alloc(limits.nbdOptionBytesMax + 1)));
    assert.deepEqual(types(stream), [ERR_TLS_REQD]);
    assert.equal(bench.server.rejections.get('tls-required'), 1, 'one client was refused');
    assert.equal(bench.log.lines.filter((line) => line.startsWith('warn')).length, 1);
    stream.feed(optionBytes(OPT.ABORT));
    assert.deepEqual(types(stream), [ACK]);
    assert(stream.finished);
  });

  it('EXPORT_NAME terminates the session, and so does any option without fixed newstyle', async () => {
    const bench = await Bench.start(undefined, 'required');
    for (const [flags, option] of [
      [3, OPT.EXPORT_NAME],
      [0, OPT.EXPORT_NAME],
      [0, OPT.LIST],
    ] as const) {
      const stream = bench.connect();
      stream.feed(clientFlags(flags));
      stream.output();
      stream.feed(optionBytes(option, Buffer.from('demo')));
      await settled();
      assert.equal(stream.output().length, 0);
      assert(stream.finished);
    }
    assert.equal(bench.server.logins, 0);
  });

  it('over TLS everything is as ever, and nothing is ERR_TLS_REQD', async () => {
    const bench = await Bench.start([volume(), volume({ name: 'other', nbdUsers: ['alice'] })], 'required');
    const stream = await bench.connectSecured(undefined);
    const big = optionBytes(OPT.LIST, Buffer.alloc(limits.nbdOptionBytesMax + 1));
    stream.feed(joined([optionBytes(4711), big, optionBytes(OPT.INFO, infoData('other'))]));
    await settled();
    assert.deepEqual(types(stream), [ERR_UNSUP, ERR_TOO_BIG, ERR_POLICY]);
  });
});

describe('NBD over TLS: how it ends', () => {
  it('a handshake that fails terminates the session, and is counted and said', async () => {
    const bench = await Bench.start(undefined, 'on');
    const stream = bench.connectForOptions();
    stream.feed(starttls);
    await settled();
    bench.security.fail(stream, 'no');
    assert(stream.destroyed);
    assert.equal(bench.server.rejections.get('tls-failed'), 1);
    await settled();
    assert.equal(bench.server.connections.length, 0);
  });

  it('a handshake that never comes is over after the time of the whole handshake', async () => {
    const bench = await Bench.start(undefined, 'on');
    const stream = bench.connectForOptions();
    bench.clock.advance(limits.handshakeMsMax - 1);
    stream.feed(starttls);
    assert.equal(stream.destroyed, false);
    bench.clock.advance(2);
    assert(stream.destroyed);
    assert.equal(bench.server.rejections.get('handshake-timeout'), 1);
    // What TLS says of it later changes nothing.
    bench.security.finish(stream, 'alice');
    assert.equal(bench.server.connections.length, 1);
    await settled();
    assert.equal(bench.server.connections.length, 0);
  });
});

describe('NBD handshake: limits', () => {
  it('options beyond all measure end it', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    for (let count = 0; count < limits.nbdOptionsMax; count++) stream.feed(optionBytes(4711));
    assert.equal(optionReplies(stream).length, limits.nbdOptionsMax);
    assert.equal(stream.destroyed, false);
    stream.feed(optionBytes(4711));
    assert(stream.destroyed);
  });

  it('a client that asks on and reads no replies is cut off before they take much memory', async () => {
    const bench = await Bench.start([volume({ description: 'd'.repeat(4000) })]);
    const stream = bench.connectForOptions();
    stream.stalled = true;
    let options = 0;
    while (!stream.destroyed && options < 1000) {
      stream.feed(optionBytes(OPT.LIST));
      options++;
    }
    assert(stream.destroyed);
    assert(options <= limits.nbdOptionReplyBytesMax / 4000 + 2, `${options} lists were answered`);
  });

  it('a refused GO gives no further time', async () => {
    const bench = await Bench.start();
    await bench.attach();
    const elsewhere = { kind: 'tcp', address: '192.0.2.7', port: 1, localAddress: '192.0.2.1', localPort: 2 } as const;
    const stream = bench.connectForOptions(elsewhere);
    for (let count = 0; count < 10; count++) {
      bench.clock.advance(limits.handshakeMsMax / 10 - 1);
      stream.feed(optionBytes(OPT.GO, infoData('demo')));
      await settled();
      assert.deepEqual(types(stream), [ERR_POLICY]);
    }
    bench.clock.advance(11);
    assert(stream.destroyed);
  });

  it('refusals say why in the log and in the metric', async () => {
    const bench = await Bench.start();
    const stream = bench.connectForOptions();
    stream.feed(optionBytes(OPT.GO, infoData('nothing')));
    assert.equal(bench.server.rejections.get('not-found'), 1);
    assert(bench.log.lines.includes('warn a client was refused'));
  });
});
