/** What SCSI reservations leave to an NBD client, which is registered nowhere (docs/operations.md, "Reservations"). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CMD, E, requestBytes } from '../../../fake/nbd-client.js';
import { Bench, pattern, replies, settled } from './session.js';

const KIB = 1024;
const payload = pattern(4 * KIB);
const requests = {
  read: requestBytes({ type: CMD.READ, offset: 0, length: 4 * KIB }),
  write: requestBytes({ type: CMD.WRITE, offset: 0, payload }),
  trim: requestBytes({ type: CMD.TRIM, offset: 0, length: 4 * KIB }),
  zero: requestBytes({ type: CMD.WRITE_ZEROES, offset: 0, length: 4 * KIB }),
  cache: requestBytes({ type: CMD.CACHE, offset: 0, length: 4 * KIB }),
  flush: requestBytes({ type: CMD.FLUSH }),
};

async function errors(bench: Bench): Promise<Record<string, number>> {
  const stream = await bench.attach();
  const found: Record<string, number> = {};
  for (const [name, bytes] of Object.entries(requests)) {
    stream.feed(bytes);
    await settled();
    const [reply] = replies(stream, () => (name === 'read' ? 4 * KIB : 0));
    assert(reply !== undefined, name);
    found[name] = reply.error;
  }
  return found;
}

describe('NBD while the volume is reserved', () => {
  it('write exclusive: reads and flushes are served, what changes fails with EPERM', async () => {
    const bench = await Bench.start();
    bench.volume.reservations.unregistered.mayWrite = false;
    const { PERM } = E;
    assert.deepEqual(await errors(bench), { read: 0, write: PERM, trim: PERM, zero: PERM, cache: 0, flush: 0 });
    assert.equal(
      bench.device.history.some(({ op }) => op === 'write' || op === 'trim' || op === 'zero'),
      false,
    );
  });

  it('exclusive access: a flush alone is served', async () => {
    const bench = await Bench.start();
    Object.assign(bench.volume.reservations.unregistered, { mayWrite: false, mayRead: false });
    const stream = await bench.attach();
    for (const bytes of Object.values(requests)) stream.feed(bytes);
    await settled();
    const { PERM } = E;
    assert.deepEqual(
      replies(stream).map(({ error }) => error),
      [PERM, PERM, PERM, PERM, PERM, 0],
    );
  });

  it('goes on on the same connection once it is released', async () => {
    const bench = await Bench.start();
    const { unregistered } = bench.volume.reservations;
    unregistered.mayWrite = false;
    const stream = await bench.attach();
    stream.feed(requests.write);
    assert.equal(replies(stream)[0]?.error, E.PERM);
    unregistered.mayWrite = true;
    stream.feed(requests.write);
    await settled();
    assert.equal(replies(stream)[0]?.error, 0);
    assert.equal(Buffer.compare(bench.device.image.subarray(0, payload.length), payload), 0);
  });

  it('a write whose payload was on its way when it was reserved never lands', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    stream.feed(requests.write.subarray(0, 28 + 100));
    assert.equal(bench.device.partialWritesOpen, 1);
    bench.volume.reservations.unregistered.mayWrite = false;
    stream.feed(requests.write.subarray(128));
    await settled();
    assert.equal(replies(stream)[0]?.error, E.PERM);
    assert.deepEqual([bench.device.partialWritesOpen, bench.device.partialWritesAbandoned], [0, 1]);
    assert.equal(bench.device.image[0], 0);
    stream.feed(requests.flush);
    await settled();
    assert.equal(replies(stream)[0]?.error, 0, 'the connection goes on');
  });

  it('a write that waits for the device is asked again, and refused', async () => {
    const bench = await Bench.start();
    const stream = await bench.attach();
    bench.device.writable = false;
    stream.feed(requests.write);
    await settled();
    assert.equal(replies(stream).length, 0);
    bench.volume.reservations.unregistered.mayWrite = false;
    bench.device.writable = true;
    await settled();
    assert.equal(replies(stream)[0]?.error, E.PERM);
    assert.equal(bench.device.image[0], 0);
  });
});
