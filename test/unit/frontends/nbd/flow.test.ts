/** When things happen: out-of-order replies, waiting, peers that do not read, connections that end. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { ioOps } from '../../../../src/base/io-stats.js';
import { limits } from '../../../../src/base/limits.js';
import { CMD, E, FLAG, requestBytes } from '../../../fake/nbd-client.js';
import { Bench, joined, MIB, pattern, replies, settled, volume } from './session.js';

const KIB = 1024;

describe('NBD flow: reads that are not done at once', () => {
  it('are answered in the order in which they end, small ones and large ones', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(4 * MIB));
    const stream = await bench.attach();
    bench.device.holdReads = true;
    const lengths = [4096, 64 * KIB, 512, MIB];
    stream.feed(
      joined(
        lengths.map((length, at) => requestBytes({ type: CMD.READ, cookie: BigInt(at), offset: at * 4096, length })),
      ),
    );
    assert.equal(replies(stream).length, 0);
    for (const held of bench.device.heldReads.splice(0).reverse()) held.release();
    await settled();
    const answered = replies(stream, (cookie) => lengths[Number(cookie)] ?? 0);
    assert.deepEqual(answered.map((reply) => reply.cookie), [3n, 1n, 2n, 0n]); // prettier-ignore
    for (const { cookie, data } of answered) {
      const start = Number(cookie) * 4096;
      assert.equal(Buffer.compare(data, bench.device.image.subarray(start, start + data.length)), 0);
    }
    assert.equal(bench.server.pool.lent, 0);
  });

  it('do not hold up later reads, nor are they touched by them', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(MIB));
    const stream = await bench.attach();
    for (let round = 0; round < 200; round++) {
      bench.device.holdReads = round % 2 === 0;
      const cookie = BigInt(round);
      stream.feed(requestBytes({ type: CMD.READ, cookie, offset: round * 4096, length: 4096 }));
    }
    const atOnce = replies(stream, () => 4096);
    assert.equal(atOnce.length, 100);
    for (const held of bench.device.heldReads.splice(0)) held.release();
    await settled();
    const later = replies(stream, () => 4096);
    for (const { cookie, data } of [...atOnce, ...later]) {
      const start = Number(cookie) * 4096;
      assert.equal(Buffer.compare(data, bench.device.image.subarray(start, start + 4096)), 0, `read ${cookie}`);
    }
    assert.equal(later.length, 100);
    assert.equal(bench.server.pool.lent, 0);
  });

  it('an error is an error reply without data, also within a read of many pieces', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 4 * MIB }));
    const held = bench.device.heldReads.splice(0);
    assert(held.length > 8);
    held.forEach((piece, at) => piece.release(at === 5 ? new GatewayError('checksum-mismatch', 'rot') : undefined));
    await settled();
    assert.deepEqual(replies(stream).map(({ cookie, error }) => [cookie, error]), [[1n, E.IO]]); // prettier-ignore
    assert.equal(bench.server.pool.lent, 0);
    assert.equal(stream.destroyed, false);
  });

  it('a read that is streamed: an error in its first piece is answered, a later one ends the connection', async () => {
    for (const failing of [0, 3]) {
      const bench = await Bench.start();
      const stream = await bench.attach();
      bench.device.holdReads = true;
      stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 32 * MIB }));
      for (let piece = 0; piece < failing; piece++) bench.device.heldReads.shift()?.release();
      assert.equal(bench.device.heldReads.length, 1);
      bench.device.heldReads.shift()?.release(new GatewayError('checksum-mismatch', 'rot'));
      await settled();
      if (failing === 0) assert.deepEqual(replies(stream).map((reply) => reply.error), [E.IO]); // prettier-ignore
      assert.equal(stream.destroyed, failing > 0);
      assert.equal(bench.server.pool.lent, 0);
      assert.equal(bench.volume.nbd.stats.inflight, 0);
      assert.equal(bench.volume.nbd.stats.errors[ioOps.indexOf('read')], 1);
    }
  });

  it('a streamed read runs alone: requests before and after it get their replies before and after', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(
      joined([
        requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }),
        requestBytes({ type: CMD.READ, cookie: 2n, length: 32 * MIB }),
        requestBytes({ type: CMD.FLUSH, cookie: 3n }),
      ]),
    );
    assert.equal(bench.device.heldReads.length, 1);
    bench.device.holdReads = false;
    bench.device.heldReads.shift()?.release();
    await settled();
    const lengthOf = (cookie: bigint): number => (cookie === 1n ? 512 : cookie === 2n ? 32 * MIB : 0);
    assert.deepEqual(replies(stream, lengthOf).map((reply) => reply.cookie), [1n, 2n, 3n]); // prettier-ignore
  });
});

describe('NBD flow: waiting for the device', () => {
  it('a write waits while the device is not writable, with the bytes after it; other connections read on', async () => {
    const bench = await Bench.start();
    const writer = await bench.attach();
    const reader = await bench.attach();
    bench.device.writable = false;
    const data = pattern(1000);
    writer.feed(
      joined([
        requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }),
        requestBytes({ type: CMD.WRITE, cookie: 2n, offset: 5, payload: data }),
        requestBytes({ type: CMD.READ, cookie: 3n, offset: 5, length: 1000 }),
      ]),
    );
    writer.feed(requestBytes({ type: CMD.FLUSH, cookie: 4n }));
    await settled();
    const lengthOf = (cookie: bigint): number => (cookie === 1n ? 512 : cookie === 3n ? 1000 : 0);
    assert.deepEqual(replies(writer, lengthOf).map((reply) => reply.cookie), [1n]); // prettier-ignore
    assert.equal(writer.reading, false);
    reader.feed(requestBytes({ type: CMD.READ, cookie: 7n, length: 512 }));
    assert.equal(replies(reader, () => 512).length, 1);
    bench.device.writable = true;
    await settled();
    const rest = replies(writer, lengthOf);
    assert.deepEqual(new Set(rest.map((reply) => reply.cookie)), new Set([2n, 3n, 4n]));
    assert.equal(Buffer.compare(rest.find((reply) => reply.cookie === 3n)?.data ?? Buffer.alloc(0), data), 0);
    assert(writer.reading);
  });

  it('so do trims and zeroes, and a write whose header arrives in two pieces', async () => {
    for (const type of [CMD.TRIM, CMD.WRITE_ZEROES, CMD.WRITE]) {
      const bench = await Bench.start();
      const stream = await bench.attach();
      bench.device.writable = false;
      const payload = Buffer.alloc(type === CMD.WRITE ? 512 : 0);
      const bytes = requestBytes({ type, cookie: 1n, length: 512, payload });
      stream.feed(bytes.subarray(0, 27));
      stream.feed(bytes.subarray(27));
      await settled();
      assert.deepEqual(bench.device.history, []);
      bench.device.writable = true;
      await settled();
      assert.deepEqual(replies(stream).map(({ cookie, error }) => [cookie, error]), [[1n, 0]]); // prettier-ignore
    }
  });

  it('a payload that has begun to arrive is taken to its end', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const bytes = requestBytes({ type: CMD.WRITE, cookie: 1n, payload: pattern(1000) });
    stream.feed(bytes.subarray(0, 500));
    bench.device.writable = false;
    stream.feed(bytes.subarray(500));
    assert.deepEqual(replies(stream).map((reply) => reply.cookie), [1n]); // prettier-ignore
  });

  it('a FUA write and a flush are answered when the device says so, and not before', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdFlushes = true;
    stream.feed(
      joined([
        requestBytes({ type: CMD.WRITE, cookie: 1n, payload: Buffer.alloc(512), flags: FLAG.FUA }),
        requestBytes({ type: CMD.FLUSH, cookie: 2n }),
        requestBytes({ type: CMD.WRITE, cookie: 3n, payload: Buffer.alloc(512) }),
      ]),
    );
    await settled();
    assert.deepEqual(replies(stream).map((reply) => reply.cookie), [3n]); // prettier-ignore
    for (const held of bench.device.heldFlushes.splice(0)) held.release();
    await settled();
    assert.deepEqual(replies(stream).map((reply) => reply.cookie), [1n, 2n]); // prettier-ignore
  });

  it('no more than nbdInflightMax requests of a connection are in flight', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    const count = 500 + limits.nbdInflightMax;
    stream.feed(
      joined(Array.from({ length: count }, (_, at) => requestBytes({ type: CMD.READ, cookie: BigInt(at), length: 1 }))),
    );
    assert.equal(bench.device.heldReads.length, limits.nbdInflightMax);
    assert.equal(stream.reading, false);
    for (let turn = 0; turn < count && bench.volume.nbd.stats.inflight > 0; turn++) {
      for (const held of bench.device.heldReads.splice(0, 100)) held.release();
      await settled();
      assert(bench.volume.nbd.stats.inflight <= limits.nbdInflightMax);
    }
    assert.equal(replies(stream, () => 1).length, count);
  });
});

describe('NBD flow: a peer that does not read', () => {
  it('is not read from either once its replies fill the budget, and then goes on where it stood', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.stalled = true;
    const count = 100;
    stream.feed(
      joined(
        Array.from({ length: count }, (_, at) => requestBytes({ type: CMD.READ, cookie: BigInt(at), length: MIB })),
      ),
    );
    await settled();
    assert(stream.pendingBytes <= limits.nbdReplyBytesPerConnectionMax + MIB, `${stream.pendingBytes} bytes pending`);
    assert.equal(stream.reading, false);
    const seen = new Set<bigint>();
    for (let round = 0; round < count && seen.size < count; round++) {
      stream.take();
      stream.stalled = true;
      await settled();
      stream.take();
      for (const { cookie } of replies(stream, () => MIB)) seen.add(cookie);
      stream.stalled = true;
      await settled();
    }
    stream.take();
    assert.equal(seen.size + replies(stream, () => MIB).length, count);
    assert.equal(bench.server.pool.lent, 0);
  });

  it('a read of 32 MiB waits with two buffers', async () => {
    const bench = await Bench.start();
    bench.device.image.set(pattern(32 * MIB));
    const stream = await bench.attach();
    stream.stalled = true;
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 32 * MIB }));
    await settled();
    assert.equal(bench.server.pool.lent, 2);
    const parts: Uint8Array[] = [];
    while (bench.volume.nbd.stats.inflight > 0) {
      stream.take();
      stream.stalled = true;
      await settled();
      parts.push(stream.output());
    }
    stream.take();
    parts.push(stream.output());
    const bytes = joined(parts);
    assert.equal(bytes.length, 16 + 32 * MIB);
    assert.equal(Buffer.compare(bytes.subarray(16), bench.device.image.subarray(0, 32 * MIB)), 0);
    assert.equal(bench.server.pool.lent, 0);
  });
});

describe('NBD flow: the end of a connection', () => {
  it('DISC: what is in flight is answered, what follows is not looked at', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(
      joined([
        requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }),
        requestBytes({ type: CMD.WRITE, cookie: 2n, payload: Buffer.alloc(512) }),
        requestBytes({ type: CMD.DISC }),
        requestBytes({ type: CMD.TRIM, cookie: 3n, length: 512 }),
      ]),
    );
    await settled();
    assert.equal(stream.finished, false);
    bench.device.heldReads[0]?.release();
    await settled();
    assert(stream.finished);
    assert.deepEqual(replies(stream, (cookie) => (cookie === 1n ? 512 : 0)).map((reply) => reply.cookie), [2n, 1n]); // prettier-ignore
    assert.deepEqual(bench.device.history.map((entry) => entry.op), ['read', 'write']); // prettier-ignore
    assert.equal(bench.volume.holders.length, 0);
    assert.equal(bench.server.connections.length, 0);
  });

  it('a client that closes its side without DISC gets its replies too', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdFlushes = true;
    stream.feed(requestBytes({ type: CMD.FLUSH, cookie: 1n }));
    stream.feedEnd();
    await settled();
    assert.equal(stream.finished, false);
    bench.device.heldFlushes[0]?.release();
    await settled();
    assert(stream.finished);
    assert.deepEqual(replies(stream).map((reply) => reply.cookie), [1n]); // prettier-ignore
  });

  it('a connection that dies takes its unfinished payload with it, and gives the volume back at once', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 64 * KIB }));
    stream.feed(requestBytes({ type: CMD.READ, cookie: 2n, length: MIB }));
    stream.feed(requestBytes({ type: CMD.WRITE, cookie: 3n, payload: pattern(1000) }).subarray(0, 600));
    assert.equal(bench.device.partialWritesOpen, 1);
    stream.destroy();
    await settled();
    assert.equal(bench.device.partialWritesOpen, 0);
    assert.equal(bench.device.partialWritesAbandoned, 1);
    assert.equal(bench.volume.holders.length, 0);
    for (const held of bench.device.heldReads.splice(0)) held.release();
    await settled();
    assert.equal(bench.server.pool.lent, 0);
    assert.equal(bench.volume.nbd.stats.inflight, 0);
    assert.deepEqual(bench.device.image.subarray(0, 1000), new Uint8Array(1000));
  });

  it('evict: nothing reaches the volume after it returned, and the holder is gone', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const write = requestBytes({ type: CMD.WRITE, cookie: 1n, payload: pattern(1000) });
    stream.feed(write.subarray(0, 600));
    const control = bench.volume.holders[0]?.control;
    assert(control !== undefined);
    assert.equal(await control.probe(), true);
    control.evict('another client wants it');
    assert.equal(bench.volume.holders.length, 0);
    assert.equal(bench.device.partialWritesOpen, 0);
    stream.feed(write.subarray(600));
    await settled();
    assert.deepEqual(bench.device.history, []);
    assert.equal(await control.probe(), false);
  });

  it('probe: a peer that owes an answer is looked at, and gone when it gives none', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const control = bench.volume.holders[0]?.control;
    assert(control !== undefined);
    const probe = async (looks: readonly { unanswered: number; silentMs: number }[]): Promise<boolean | 'waiting'> => {
      let answer: boolean | 'waiting' = 'waiting';
      stream.owes = looks[0];
      void control.probe().then((alive) => (answer = alive));
      await settled();
      for (const look of looks.slice(1)) {
        stream.owes = look;
        bench.clock.advance(250);
        await settled();
      }
      return answer;
    };
    const gone = (silentMs: number, unanswered = 3) =>
      Array.from({ length: 17 }, (_, n) => ({ unanswered, silentMs: silentMs + 250 * n }));
    assert.equal(await probe([{ unanswered: 0, silentMs: 3_600_000 }]), true, 'it owes nothing');
    assert.equal(await probe(gone(10_000).slice(0, -1)), 'waiting');
    bench.clock.advance(250);
    await settled();
    assert.equal(await probe([...gone(10_000).slice(0, 8), { unanswered: 0, silentMs: 10 }]), true, 'it took it');
    assert.equal(await probe([...gone(10_000).slice(0, 8), { unanswered: 4, silentMs: 90 }]), true, 'it answers');
    assert.equal(await probe(gone(10_000, 2)), true, 'a packet or two were lost');
    assert.equal(await probe(gone(0)), false);
    assert.equal(await probe(gone(900_000, 9)), false);
    stream.owes = undefined;
    assert.equal(await control.probe(), true);
  });

  it('one that its client gave up says so while its writes wait, and ended then it writes no more', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    const control = bench.volume.holders[0]?.control;
    assert(control !== undefined);
    bench.device.writable = false;
    stream.feed(requestBytes({ type: CMD.WRITE, cookie: 1n, payload: pattern(1000) }));
    assert.equal(control.peerHasLeft(), false);
    stream.feedEnd();
    assert.equal(control.peerHasLeft(), true);
    control.evict('its client comes again');
    bench.device.writable = true;
    await settled();
    assert.deepEqual(bench.device.history, []);
  });

  it('a dead connection that was waiting for the device does not write when that is writable again', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.writable = false;
    stream.feed(requestBytes({ type: CMD.WRITE, payload: Buffer.alloc(512) }));
    stream.destroy();
    await settled();
    bench.device.writable = true;
    await settled();
    assert.deepEqual(bench.device.history, []);
  });
});

describe('NBD flow: the server', () => {
  it('close: answers what is in flight, drops unfinished payloads and handshakes, accepts nothing new', async () => {
    const bench = await Bench.start();
    const busy = await bench.attach();
    const sending = await bench.attach();
    const idle = await bench.attach();
    const handshake = bench.connect();
    bench.device.holdReads = true;
    busy.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }));
    sending.feed(requestBytes({ type: CMD.WRITE, cookie: 1n, payload: pattern(1000) }).subarray(0, 600));
    let closed = false;
    const closing = bench.server.close().then(() => (closed = true));
    await settled();
    assert.equal(bench.streams.connect(), undefined);
    assert(idle.finished && sending.finished && handshake.destroyed);
    assert.equal(closed, false);
    bench.device.heldReads[0]?.release();
    await closing;
    assert(busy.finished);
    assert.equal(replies(busy, () => 512).length, 1);
    assert.equal(bench.device.partialWritesAbandoned, 1);
    assert.equal(bench.volume.holders.length, 0);
  });

  it('close does not wait for ever', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }));
    const closing = bench.server.close();
    await settled();
    bench.clock.advance(limits.shutdownMsMax / 2);
    await closing;
    assert(stream.destroyed);
  });

  it('too many connections: an unfinished handshake gives way, an attached client does not', async () => {
    const bench = await Bench.start([volume({ shared: true, keepHistory: false })]);
    const oldest = bench.connect();
    for (let count = 1; count < limits.connectionsMax; count++) bench.connect();
    const client = await bench.attach();
    assert(oldest.destroyed);
    client.feed(requestBytes({ type: CMD.FLUSH, cookie: 5n }));
    assert.equal(replies(client).length, 1);
    assert.equal(bench.server.connections.length, limits.connectionsMax);
    assert.equal(bench.server.rejections.get('session-limit'), 1);
  });

  it('too many connections of one volume are refused with the reason', async () => {
    const bench = await Bench.start([volume({ shared: true })]);
    for (let count = 0; count < limits.connectionsPerVolumeMax; count++) await bench.attach();
    await assert.rejects(bench.attach(), /GO was acknowledged/);
    assert.equal(bench.server.rejections.get('session-limit'), 1);
  });

  it('tells of its connections, and ends one that it is asked to', async () => {
    const bench = await Bench.start();
    bench.connect();
    const stream = await bench.attach();
    bench.device.holdReads = true;
    stream.feed(requestBytes({ type: CMD.READ, cookie: 1n, length: 512 }));
    stream.feed(requestBytes({ type: CMD.FLUSH, cookie: 2n }));
    const [handshake, attached] = bench.server.connections;
    assert.equal(handshake?.volume, undefined);
    assert(attached !== undefined);
    assert.equal(attached.volume, 'demo');
    assert.deepEqual(attached.client, { frontend: 'nbd', key: 'nbd:127.0.0.1', description: 'nbd 127.0.0.1' });
    assert.equal(attached.requests, 2);
    assert.equal(attached.inflight, 1);
    assert.equal(attached.receivedBytes, stream.receivedBytes);
    assert(attached.writtenBytes > 0);
    assert.equal(bench.server.logins, 1);
    assert.equal(bench.server.disconnect(attached.id, 'asked for'), true);
    assert.equal(bench.server.disconnect(99, 'asked for'), false);
    assert(stream.destroyed);
  });

  it('counts operations, bytes and errors per volume', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(requestBytes({ type: CMD.WRITE, payload: Buffer.alloc(8192) }));
    stream.feed(requestBytes({ type: CMD.READ, length: 4096 }));
    stream.feed(requestBytes({ type: CMD.READ, offset: 64 * MIB, length: 4096 }));
    const { stats } = bench.volume.nbd;
    const counted = (counts: Float64Array, op: (typeof ioOps)[number]): number | undefined => counts[ioOps.indexOf(op)];
    assert.equal(counted(stats.operations, 'write'), 1);
    assert.equal(counted(stats.bytes, 'write'), 8192);
    assert.equal(counted(stats.operations, 'read'), 2);
    assert.equal(counted(stats.bytes, 'read'), 4096);
    assert.equal(counted(stats.errors, 'read'), 1);
    assert.equal(stats.inflight, 0);
  });
});
