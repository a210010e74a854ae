/** The sockets of a real gateway: those that the service manager hands over, and Unix sockets for others than its user. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { link, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import type { Address } from '../fake/nbd-client.js';
import { requiredTool } from '../tool/clients.js';
import { freePorts } from '../tool/free-port.js';
import { TestGateway } from '../tool/gateway.js';
import { eventually } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const volumes = [{ name: 'disk', size: '16MiB', buffer: { size: '64MiB' }, replicate: { enabled: false } }];
/** As systemd does it: LISTEN_PID is the program's own. */
const launcher = ['sh', '-c', 'LISTEN_PID=$$ exec "$0" "$@"'];

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keepgate-sockets-'));
});
after(async () => {
  await rm(folder, { recursive: true });
});

async function listening(where: { host: string; port: number } | { path: string }): Promise<Server> {
  const server = createServer();
  server.listen(where);
  await once(server, 'listening');
  return server;
}

function descriptorOf(server: Server): number {
  const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } })._handle;
  return fd;
}

/** The gateway has them by now: whoever connects from here on is its client. */
async function letGo(servers: readonly Server[]): Promise<void> {
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
}

async function reads(address: Address): Promise<boolean> {
  const client = await NbdClient.attach(address, 'disk');
  const { error } = await client.request({ type: CMD.READ, length: 4096 });
  await client.disconnect();
  return error === 0;
}

describe('systemd socket activation', { timeout: 120_000 }, () => {
  it('serves NBD on every socket of the name that it was given, and leaves the others alone', async () => {
    const path = join(folder, 'nbd.sock');
    const tcp = await listening({ host: '127.0.0.1', port: 0 });
    const other = await listening({ host: '127.0.0.1', port: 0 });
    const unix = await listening({ path });
    // Node removes the path with its own server; systemd does not.
    await link(path, `${path}.kept`);
    const address = tcp.address();
    assert(typeof address === 'object' && address !== null);
    const { port } = address;
    const gateway = await TestGateway.start({
      volumes,
      launcher,
      nbd: { listen: ['systemd:nbd'] },
      env: { LISTEN_FDS: '3', LISTEN_FDNAMES: 'nbd:other:nbd' },
      descriptors: [tcp, other, unix].map(descriptorOf),
    });
    try {
      await letGo([tcp, other, unix]);
      await rename(`${path}.kept`, path);
      assert.deepEqual(gateway.nbdAddresses, [`127.0.0.1:${port}`, `unix:${path}`]);
      assert.equal(await reads({ host: '127.0.0.1', port }), true);
      assert.equal(await reads({ path }), true);
    } finally {
      await gateway.stop();
      await gateway.dispose();
    }
    assert.equal((await stat(path)).isSocket(), true, 'the path is systemd’s to remove');
  });

  it('refuses a socket that the network reaches, without TLS', async () => {
    const open = await listening({ host: '0.0.0.0', port: 0 });
    const starting = TestGateway.start({
      volumes,
      launcher,
      nbd: { listen: ['systemd:nbd'] },
      env: { LISTEN_FDS: '1', LISTEN_FDNAMES: 'nbd' },
      descriptors: [descriptorOf(open)],
    });
    await assert.rejects(starting, /"0\.0\.0\.0:\d+" would offer NBD without TLS to the network/);
    await letGo([open]);
  });

  it('says what is missing where nothing was handed over', async () => {
    const starting = TestGateway.start({ volumes, nbd: { listen: ['systemd:nbd'] } });
    await assert.rejects(starting, /systemd handed over no socket named nbd \(nbd.listen\): there is no LISTEN_FDS/);
  });
});

suite('systemd-socket-activate', ['systemd-socket-activate'], () => {
  it('starts a gateway for the first client, which is served, and so are those that come by its other socket', async () => {
    const [port = 0] = await freePorts(1);
    const path = join(folder, 'activated.sock');
    const activator = requiredTool('systemd-socket-activate');
    const starting = TestGateway.start({
      volumes,
      env: activator.env,
      launcher: [activator.path, ...['-l', `127.0.0.1:${port}`, '-l', path, '--fdname=nbd:nbd']],
      nbd: { listen: ['systemd:nbd'] },
    });
    let first: NbdClient | undefined;
    const connected = eventually('somebody listens', async () => {
      first = await NbdClient.attach({ host: '127.0.0.1', port }, 'disk').catch(() => undefined);
      return first !== undefined;
    });
    // Whichever fails first is why the other one waits.
    const [gateway] = await Promise.all([starting, connected]);
    try {
      assert.deepEqual(gateway.nbdAddresses, [`127.0.0.1:${port}`, `unix:${path}`]);
      assert.equal((await first?.request({ type: CMD.READ, length: 4096 }))?.error, 0);
      await first?.disconnect();
      assert.equal(await reads({ path }), true);
    } finally {
      await gateway.stop();
      await gateway.dispose();
    }
    assert.equal((await stat(path)).isSocket(), true);
  });
});

describe('a Unix socket', { timeout: 120_000 }, () => {
  it('has the mode and owner of the configuration, and tells clients apart by their user', async () => {
    const path = join(folder, 'given.sock');
    const group = process.getgid?.() ?? 0;
    const listen = [`unix:${path}`];
    const gateway = await TestGateway.start({ volumes, nbd: { listen, socketMode: '0660', socketOwner: `:${group}` } });
    try {
      const { mode, gid } = await stat(path);
      assert.deepEqual([mode & 0o777, gid], [0o660, group]);
      assert.equal(await reads({ path }), true);
      assert.match(gateway.log(), new RegExp(`"client":"nbd uid ${process.getuid?.()} at unix:${path}"`));
    } finally {
      await gateway.dispose();
    }
  });
});
