import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { inheritedSockets } from '../../../src/platform/inherited-sockets.js';
import { NetStreamFactory } from '../../../src/platform/socket-listener.js';
import type { ListenAddress, Listener, StreamPeer } from '../../../src/ports/stream.js';
import { RecordedLog } from '../../fake/log.js';

const factory = new NetStreamFactory({ log: new RecordedLog() });

function listen(address: ListenAddress, peers: StreamPeer[] = []): Promise<Listener> {
  return factory.listen({
    address,
    setting: 'test.listen',
    accept(stream) {
      peers.push(stream.peer);
      return undefined;
    },
  });
}

function refused(pattern: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof GatewayError && error.code === 'listen-refused' && pattern.test(error.message);
}

async function connectAndClose(target: { host: string; port: number } | { path: string }): Promise<void> {
  const client = connect(target);
  client.on('error', () => undefined);
  await once(client, 'close');
}

describe('listening on TCP', { timeout: 20_000 }, () => {
  it('says which port the system chose, and closes the connections that are not accepted', async () => {
    const peers: StreamPeer[] = [];
    const listener = await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 }, peers);
    assert(listener.address.kind === 'tcp' && listener.address.port > 0);
    await connectAndClose(listener.address);
    assert.equal(peers.length, 1);
    await listener.close();
  });

  it('listens on IPv6, and shows an IPv4 peer of a dual-stack socket by its IPv4 address', async (test) => {
    const peers: StreamPeer[] = [];
    const listener = await listen({ kind: 'tcp', host: '::', port: 0 }, peers).catch(
      (error: unknown) => error as Error,
    );
    if (listener instanceof Error) return test.skip(`this machine has no IPv6: ${listener.message}`);
    assert(listener.address.kind === 'tcp');
    const { port } = listener.address;
    await connectAndClose({ host: '::1', port });
    await connectAndClose({ host: '127.0.0.1', port });
    assert.deepEqual(peers.map((peer) => peer.kind === 'tcp' && peer.address), ['::1', '127.0.0.1']); // prettier-ignore
    await listener.close();
  });

  it('a port in use, a foreign address and an unknown name are refused in one line', async () => {
    const listener = await listen({ kind: 'tcp', host: '127.0.0.1', port: 0 });
    assert(listener.address.kind === 'tcp');
    const { port } = listener.address;
    await assert.rejects(
      listen(listener.address),
      refused(new RegExp(`^port ${port} on 127\\.0\\.0\\.1 is in use \\(test\\.listen\\)$`)),
    );
    await listener.close();
    await (await listen(listener.address)).close();
    await assert.rejects(
      listen({ kind: 'tcp', host: '192.0.2.1', port: 0 }),
      refused(/^192\.0\.2\.1 is not an address of this machine \(test\.listen\)$/),
    );
    await assert.rejects(
      listen({ kind: 'tcp', host: 'nowhere.invalid', port: 0 }),
      refused(/nowhere\.invalid .*\(test\.listen\)$/),
    );
  });
});

describe('listening on a Unix socket', { timeout: 20_000 }, () => {
  let folder = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-socket-'));
  });
  after(() => rm(folder, { recursive: true }));

  it('makes it for its owner alone, tells it as the peer, and removes it', async () => {
    const path = join(folder, 'a.sock');
    const peers: StreamPeer[] = [];
    await writeFile(join(folder, 'before'), '');
    const listener = await listen({ kind: 'unix', path }, peers);
    await writeFile(join(folder, 'after'), '');
    assert.equal((await stat(join(folder, 'after'))).mode, (await stat(join(folder, 'before'))).mode);
    await rm(join(folder, 'before'));
    await rm(join(folder, 'after'));
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await connectAndClose({ path });
    assert.deepEqual(peers, [{ kind: 'unix', path, userId: process.getuid?.() }]);
    await listener.close();
    assert.equal(existsSync(path), false);
  });

  it('gives it mode and owner, and says which user connected', async () => {
    const path = join(folder, 'given.sock');
    const [userId, groupId] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
    const peers: StreamPeer[] = [];
    const listener = await listen({ kind: 'unix', path, mode: 0o660, owner: `${userId}:${groupId}` }, peers);
    const { mode, uid, gid } = await stat(path);
    assert.deepEqual([mode & 0o777, uid, gid], [0o660, userId, groupId]);
    await connectAndClose({ path });
    assert.deepEqual(peers, [{ kind: 'unix', path, userId }]);
    await listener.close();
  });

  it('refuses an owner that is not there, and leaves no socket behind', async () => {
    const path = join(folder, 'nobodys.sock');
    await assert.rejects(
      listen({ kind: 'unix', path, owner: 'no-such-user' }),
      refused(/^there is no user no-such-user in \/etc\/passwd \(test.listen\); write its number$/),
    );
    await assert.rejects(
      listen({ kind: 'unix', path, owner: ':no-such-group' }),
      refused(/^there is no group no-such-group in \/etc\/group/),
    );
    assert.equal(existsSync(path), false);
  });

  it('replaces what a killed process left behind', async () => {
    const path = join(folder, 'stale.sock');
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    await assert.rejects(
      listen({ kind: 'unix', path }),
      refused(/^another process listens on .*stale\.sock \(test\.listen\)$/),
    );
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert(existsSync(path));
    const listener = await listen({ kind: 'unix', path });
    await listener.close();
  });

  it('leaves alone what is no socket, and says what is wrong with a path', async () => {
    const path = join(folder, 'file');
    await writeFile(path, 'precious');
    await assert.rejects(listen({ kind: 'unix', path }), refused(/file exists and is not a socket \(test\.listen\)/));
    assert.deepEqual(await readdir(folder), ['file']);
    await assert.rejects(
      listen({ kind: 'unix', path: join(folder, 'none', 'a.sock') }),
      refused(/^the directory of .* does not exist \(test\.listen\)$/),
    );
  });
});

describe('sockets that systemd hands over', () => {
  const environment = { LISTEN_PID: String(process.pid), LISTEN_FDS: '3', LISTEN_FDNAMES: 'nbd:web:nbd' };

  it('are found by their name, all of them', () => {
    assert.deepEqual(inheritedSockets('nbd', 'nbd.listen', environment), [
      { kind: 'inherited', name: 'nbd', fd: 3 },
      { kind: 'inherited', name: 'nbd', fd: 5 },
    ]);
  });

  it('are refused where there is none of that name, or for this process', () => {
    const table = [
      [environment, /^systemd handed over no socket named x \(s\): there is nbd, web, nbd \(FileDescriptorName=\)$/],
      [{}, /there is no LISTEN_FDS; start it by its socket unit/],
      [{ ...environment, LISTEN_PID: '1' }, /LISTEN_PID is 1, this process \d+; let the unit start node itself/],
      [{ ...environment, LISTEN_FDNAMES: undefined }, /there is no name/],
    ] as const;
    for (const [given, message] of table) {
      assert.throws(() => inheritedSockets('x', 's', given), refused(message));
    }
  });

  it('that are none to listen on are refused in one line', async () => {
    const file = await open(import.meta.filename);
    try {
      const listening = factory.listen({
        address: { kind: 'inherited', name: 'nbd', fd: file.fd },
        setting: 'nbd.listen',
        accept: () => undefined,
      });
      await assert.rejects(
        listening,
        refused(/^what systemd handed over as nbd is no socket to listen on \(nbd.listen\)/),
      );
    } finally {
      await file.close();
    }
  });
});
