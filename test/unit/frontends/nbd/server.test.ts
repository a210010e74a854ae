/** The server over real sockets, with the tests' own client. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { GatewayError } from '../../../../src/base/errors.js';
import { NbdServer } from '../../../../src/frontends/nbd/server.js';
import { NetStreamFactory } from '../../../../src/platform/socket-listener.js';
import type { ListenAddress } from '../../../../src/ports/stream.js';
import { ManualClock } from '../../../fake/clock.js';
import { RecordedLog } from '../../../fake/log.js';
import { MemoryDirectory } from '../../../fake/memory-device.js';
import type { MemoryVolume } from '../../../fake/memory-device.js';
import { CMD, E, FLAG, NbdClient, requestBytes } from '../../../fake/nbd-client.js';
import type { Address } from '../../../fake/nbd-client.js';
import { MIB, pattern, volume } from './session.js';

describe('NBD server on real sockets', { timeout: 60_000 }, () => {
  let server: NbdServer;
  let demo: MemoryVolume;
  let folder: string;
  const clients: NbdClient[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-nbd-'));
    demo = volume({ keepHistory: false });
    const log = new RecordedLog();
    server = new NbdServer({
      directory: new MemoryDirectory(demo),
      streams: new NetStreamFactory({ log }),
      clock: new ManualClock(),
      log,
    });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.destroy();
    await server.close();
    await rm(folder, { recursive: true });
  });

  async function listen(address: ListenAddress = { kind: 'tcp', host: '127.0.0.1', port: 0 }): Promise<Address> {
    const bound = (await server.listen([address])).at(-1);
    assert(bound !== undefined);
    return bound;
  }

  async function attach(address: Address): Promise<NbdClient> {
    const client = await NbdClient.attach(address, 'demo');
    clients.push(client);
    return client;
  }

  for (const [name, address] of [
    ['TCP', { kind: 'tcp', host: '127.0.0.1', port: 0 }],
    ['IPv6', { kind: 'tcp', host: '::1', port: 0 }],
    ['a Unix socket', { kind: 'unix', path: 'nbd.sock' }],
  ] as const) {
    it(`serves over ${name}`, async () => {
      const client = await attach(
        await listen(address.kind === 'unix' ? { kind: 'unix', path: join(folder, address.path) } : address),
      );
      assert.equal(client.sizeBytes, 64 * MIB);
      const data = pattern(100_000);
      assert.equal((await client.request({ type: CMD.WRITE, offset: 777, payload: data, flags: FLAG.FUA })).error, 0);
      const read = await client.request({ type: CMD.READ, offset: 777, length: data.length });
      assert.equal(Buffer.compare(read.data, data), 0);
      assert.equal((await client.request({ type: CMD.READ, offset: 64 * MIB, length: 1 })).error, E.INVAL);
      await client.disconnect();
    });
  }

  it('32 MiB at a time, four at a time, and many small ones among them', async () => {
    const client = await attach(await listen());
    const data = pattern(32 * MIB);
    const answers = await Promise.all([
      client.request({ type: CMD.WRITE, offset: 0, payload: data }),
      client.request({ type: CMD.WRITE, offset: 32 * MIB, payload: data }),
      client.request({ type: CMD.FLUSH }),
    ]);
    assert.deepEqual(answers.map((reply) => reply.error), [0, 0, 0]); // prettier-ignore
    const small = Array.from({ length: 200 }, (_, at) =>
      client.request({ type: CMD.READ, offset: at * 5000, length: 5000 }),
    );
    const large = [0, 32 * MIB, 16 * MIB].map((offset) => client.request({ type: CMD.READ, offset, length: 32 * MIB }));
    for (const [at, reply] of (await Promise.all(large)).entries()) {
      const expected = at < 2 ? data : Buffer.concat([data.subarray(16 * MIB), data.subarray(0, 16 * MIB)]);
      assert.equal(Buffer.compare(reply.data, expected), 0);
    }
    for (const [at, reply] of (await Promise.all(small)).entries()) {
      assert.equal(Buffer.compare(reply.data, data.subarray(at * 5000, at * 5000 + 5000)), 0);
    }
    await client.disconnect();
  });

  it('a hundred idle, half-open handshakes do not disturb a client', async () => {
    const address = await listen();
    for (let count = 0; count < 100; count++) clients.push(await NbdClient.open(address));
    const client = await attach(address);
    for (let count = 0; count < 50; count++) {
      assert.equal((await client.request({ type: CMD.READ, offset: count * 4096, length: 4096 })).error, 0);
    }
    assert.equal(server.connections.length, 101);
  });

  it('a client that does not read its replies disturbs no other, and gets them all when it does', async () => {
    const address = await listen();
    demo.device.image.set(pattern(MIB));
    const slow = await attach(address);
    slow.pause();
    const pending = Array.from({ length: 64 }, () => slow.request({ type: CMD.READ, length: MIB }));
    const client = await attach(address);
    for (let count = 0; count < 20; count++) assert.equal((await client.request({ type: CMD.FLUSH })).error, 0);
    slow.resume();
    for (const reply of await Promise.all(pending)) {
      assert.equal(Buffer.compare(reply.data, demo.device.image.subarray(0, MIB)), 0);
    }
  });

  it('malformed bytes close that connection only', async () => {
    const address = await listen();
    const client = await attach(address);
    const bad = await attach(address);
    bad.send(Buffer.alloc(28, 0x55));
    await bad.closed;
    assert.equal((await client.request({ type: CMD.FLUSH })).error, 0);
  });

  it('a client that vanishes in the middle of a payload leaves nothing behind', async () => {
    const address = await listen();
    const client = await attach(address);
    client.send(requestBytes({ type: CMD.WRITE, payload: pattern(MIB) }).subarray(0, 500_000));
    while (demo.device.partialWritesOpen === 0) await new Promise((resolve) => setImmediate(resolve));
    client.destroy();
    while (server.connections.length > 0) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(demo.device.partialWritesOpen, 0);
    assert.equal(demo.holders.length, 0);
    assert.deepEqual(demo.device.image.subarray(0, MIB), new Uint8Array(MIB));
  });

  it('close answers what is in flight and then closes every connection', async () => {
    const client = await attach(await listen());
    demo.device.holdReads = true;
    const read = client.request({ type: CMD.READ, length: 4096 });
    while (demo.device.heldReads.length === 0) await new Promise((resolve) => setImmediate(resolve));
    const closing = server.close();
    demo.device.heldReads[0]?.release();
    assert.equal((await read).error, 0);
    await client.closed;
    await closing;
  });

  it('a port in use is one line that names the setting', async () => {
    await listen();
    const [taken] = server.addresses;
    assert(taken !== undefined);
    await assert.rejects(server.listen([taken]), (error) => {
      assert(error instanceof GatewayError);
      assert.equal(error.code, 'listen-refused');
      assert.match(error.message, /^port \d+ on 127\.0\.0\.1 is in use \(nbd\.listen\)$/);
      return true;
    });
  });
});
