/** Connections that are negotiated through Node and then taken away from it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { SystemNbdDialer } from '../../../src/platform/nbd-dialer.js';
import type { ListenAddress } from '../../../src/ports/stream.js';

const never = new AbortController().signal;

function unreachable(error: unknown): boolean {
  return error instanceof GatewayError && error.code === 'gateway-unreachable';
}

describe('a dialed NBD connection', { timeout: 20_000 }, () => {
  let folder: string;
  let server: Server;
  const addresses: ListenAddress[] = [];
  const accepted: Socket[] = [];
  const unix = createServer((socket) => accepted.push(socket));

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-dialer-'));
    server = createServer((socket) => accepted.push(socket));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const path = join(folder, 's');
    unix.listen(path);
    await once(unix, 'listening');
    addresses.push({ kind: 'tcp', host: '127.0.0.1', port }, { kind: 'unix', path });
  });
  after(async () => {
    for (const socket of accepted) socket.destroy();
    server.close();
    unix.close();
    await rm(folder, { recursive: true });
  });

  const dial = async (address: ListenAddress | undefined) => {
    assert(address !== undefined);
    const arrived = once(address.kind === 'unix' ? unix : server, 'connection');
    const connection = await new SystemNbdDialer(address).dial(never);
    const [socket] = (await arrived) as [Socket];
    return { connection, socket };
  };

  it('reads as much as is asked for, then is a descriptor that nobody else reads', async () => {
    for (const address of addresses) {
      const { connection, socket } = await dial(address);
      socket.write('gree');
      const reading = connection.read(8);
      socket.write('ting');
      assert.equal(Buffer.from(await reading).toString(), 'greeting');
      connection.write(Buffer.from('answer'));
      assert.equal(String((await once(socket, 'data'))[0]), 'answer');
      const taken = await connection.detach();
      connection.close();
      // Were Node still reading, or had it shut the connection down, this would not come through.
      const data = once(socket, 'data');
      assert.equal(writeSync(taken.fd, 'from the descriptor'), 19);
      assert.equal(String((await data)[0]), 'from the descriptor');
      const sent = new Promise((resolve) => socket.write('to the descriptor', resolve));
      await sent;
      const bytes = Buffer.alloc(64);
      assert.equal(bytes.toString('utf8', 0, readSync(taken.fd, bytes)), 'to the descriptor');
      const ended = once(socket, 'end');
      taken.close();
      taken.close();
      await ended;
    }
  });

  it('is not handed out when the server spoke before it was asked', async () => {
    const { connection, socket } = await dial(addresses[0]);
    socket.write('12345');
    await connection.read(4);
    await assert.rejects(connection.detach(), unreachable);
    connection.close();
  });

  it('says that the other side ended it, in a read that waits and in every later one', async () => {
    const { connection, socket } = await dial(addresses[0]);
    const reading = connection.read(4);
    socket.end('12');
    await assert.rejects(reading, unreachable);
    await assert.rejects(connection.read(4), unreachable);
    await assert.rejects(connection.detach(), unreachable);
    connection.close();
  });

  it('ends a read that waits when it is closed', async () => {
    const { connection } = await dial(addresses[0]);
    const reading = connection.read(4);
    connection.close();
    await assert.rejects(reading, unreachable);
  });

  it('is not made where nobody listens, or when it was given up', async () => {
    const nobody = new SystemNbdDialer({ kind: 'unix', path: join(folder, 'none') });
    await assert.rejects(nobody.dial(never), /nobody answers at .*none: .*ENOENT/);
    const [address] = addresses;
    assert(address !== undefined);
    await assert.rejects(new SystemNbdDialer(address).dial(AbortSignal.abort()), unreachable);
  });
});
