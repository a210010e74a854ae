/** Who has a volume that only one may have, against real kernels: a machine that is gone loses it, one that only rests does not. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, it } from 'node:test';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { eventually, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mib = 1024 * 1024;
const volumes = [{ name: 'disk', size: '64MiB', buffer: { size: '64MiB' }, replicate: { enabled: false } }];

suite('a volume for one client at a time', ['cc'], () => {
  let folder: string;
  let gateway: TestGateway;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-holder-'));
    const source = resolve(import.meta.dirname, '../../../test/tool/deaf-peer.c');
    await run(requiredTool('cc'), ['-O1', '-Wall', '-o', join(folder, 'deaf-peer'), source]);
    gateway = await TestGateway.start({ volumes });
  });
  after(async () => {
    await gateway.dispose();
    await rm(folder, { recursive: true });
  });

  const attach = (localAddress: string): Promise<NbdClient> =>
    NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort, localAddress }, 'disk');

  /** From now on the gateway hears nothing of this client any more, nor does the client of the gateway. */
  async function vanish(client: NbdClient): Promise<void> {
    const stdio = ['ignore', 'inherit', 'inherit', client.descriptor] as const;
    const child = spawn(join(folder, 'deaf-peer'), [], { stdio: [...stdio] });
    const [status] = (await once(child, 'close')) as [number | null];
    assert.equal(status, 0);
  }

  async function takesOver(from: string): Promise<void> {
    let next: NbdClient | undefined;
    await eventually('the next client gets the volume', async () => {
      try {
        next = await attach(from);
        return true;
      } catch (error) {
        assert.match((error as Error).message, /in use by nbd 127\.0\.0\.2/);
        return false;
      }
    });
    assert.equal((await next?.request({ type: CMD.READ, length: 4096 }))?.error, 0);
    await next?.disconnect();
  }

  it('goes to the next one when the holder’s machine is gone while a reply is on its way to it', async () => {
    const holder = await attach('127.0.0.2');
    const { pid } = gateway;
    process.kill(pid, 'SIGSTOP');
    try {
      // The kernel of the gateway's machine takes the request: the client has nothing to send again.
      void holder.request({ type: CMD.READ, length: 65_536 }).catch(() => undefined);
      await vanish(holder);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await takesOver('127.0.0.3');
    assert.match(gateway.log(), /evicted a connection that does not answer/);
    holder.destroy();
  });

  it('stays with a holder that takes no reply any more, as long as its machine is there', async () => {
    const holder = await attach('127.0.0.2');
    holder.pause();
    const replies = Array.from({ length: 16 }, (_, n) =>
      holder.request({ type: CMD.READ, offset: n * mib, length: mib }),
    );
    await eventually(
      'replies are on their way to it',
      async () => (await gateway.metric('keepgate_io_operations_total', 'op="read"')) >= 4,
    );
    for (let time = 0; time < 3; time++)
      await assert.rejects(attach('127.0.0.3'), /in use by nbd 127\.0\.0\.2/, 'a client that rests has the volume');
    holder.resume();
    for (const { error } of await Promise.all(replies)) assert.equal(error, 0);
    await holder.disconnect();
    await takesOver('127.0.0.3');
  });
});
