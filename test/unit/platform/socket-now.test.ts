import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { describe, it } from 'node:test';
import { loadAddon } from '../../../src/platform/addon.js';
import { descriptorOf } from '../../../src/platform/socket-descriptor.js';

describe('sending past Node', () => {
  const addon = loadAddon();
  const bytes = Buffer.alloc(8);
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };

  it('sends nothing that lies outside of the bytes', () => {
    for (const bad of [-1, 0.5, 9, NaN, 2 ** 53]) {
      assert.throws(() => addon.sendNow(0, bytes, 0, bad), range);
      assert.throws(() => addon.sendNow(0, bytes, bad, 8), range);
    }
    assert.throws(() => addon.sendNow(0, bytes, 5, 4), range);
    assert.throws(() => addon.sendNow(-1, bytes, 0, 8), range);
    assert.throws(() => addon.sendNow(0, 'text' as never, 0, 1), { name: 'TypeError' });
  });

  it('says what is wrong with the descriptor', () => {
    const nobody = 0x7fff_ffff;
    assert.equal(addon.errorText(-addon.sendNow(nobody, bytes, 0, 8)), 'Bad file descriptor');
  });
});

describe('receiving past Node', () => {
  const addon = loadAddon();
  const soonUs = 1000;

  /** Two ends of a connection; nothing reads from the second but the test. */
  async function withPair(work: (client: Socket, fd: number) => void): Promise<void> {
    const server = createServer({ pauseOnConnect: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [accepted] = (await once(server, 'connection')) as [Socket];
    try {
      const fd = descriptorOf(accepted);
      assert(fd !== undefined);
      if (client.connecting) await once(client, 'connect');
      work(client, fd);
    } finally {
      accepted.destroy();
      client.destroy();
      server.close();
    }
  }

  it('takes what is there, and as much as finds room', () =>
    withPair((client, fd) => {
      const bytes = Buffer.alloc(4);
      client.write('abcdef');
      assert.equal(addon.receiveSoon(fd, bytes, 0, 0), 4);
      assert.equal(bytes.toString(), 'abcd');
      assert.equal(addon.receiveSoon(fd, bytes, 0, soonUs), 2);
      assert.equal(bytes.toString('latin1', 0, 2), 'ef');
    }));

  it('says 0 where nothing comes, and where nothing will come any more', () =>
    withPair((client, fd) => {
      assert.equal(addon.receiveSoon(fd, Buffer.alloc(4), 0, soonUs), 0);
      client.end();
      for (const _ of [1, 2]) assert.equal(addon.receiveSoon(fd, Buffer.alloc(4), 0, soonUs), 0);
    }));

  it('says what is wrong', () => {
    const nobody = 0x7fff_ffff;
    assert.equal(addon.errorText(-addon.receiveSoon(nobody, Buffer.alloc(4), 0, soonUs)), 'Bad file descriptor');
    assert.throws(() => addon.receiveSoon(0, 'text' as never, 0, 0), { name: 'TypeError' });
    assert.throws(() => addon.receiveSoon(0, Buffer.alloc(4), 0, -1), { name: 'RangeError' });
  });
});
