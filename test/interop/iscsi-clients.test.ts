/** The user-space iSCSI clients: libiscsi's tools, and QEMU through libiscsi. The kernel's is in test/guest. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type Socket } from 'node:net';
import { after, before, it } from 'node:test';
import { packagedFile, requiredTool } from '../tool/clients.js';
import { TestGateway, targetPrefix } from '../tool/gateway.js';
import { attempt, eventually, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mebibyte = 1024 * 1024;
const sizeMiB = 64;
const driver = '/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so';

suite(
  'iSCSI clients',
  ['iscsi-ls', 'iscsi-inq', 'qemu-img', 'qemu-io', 'nbdcopy'],
  () => {
    let gateway: TestGateway;
    let url: string;
    before(async () => {
      gateway = await TestGateway.start({
        volumes: [{ name: 'disk', size: `${sizeMiB}MiB`, buffer: { size: '256MiB' } }],
      });
      url = gateway.iscsiUrl('disk');
    });
    after(async () => {
      await gateway.dispose();
    });

    it('iscsi-ls discovers the target and its LUN', async () => {
      const text = await run(requiredTool('iscsi-ls'), ['-s', `iscsi://127.0.0.1:${gateway.iscsiPort}`]);
      assert.match(text, new RegExp(`Target:${targetPrefix}:disk Portal:127.0.0.1:${gateway.iscsiPort}`));
      assert.match(text, /^Lun:0 .*Size:6[34]M/m); // It multiplies by the last address, not by the count.
    });

    it('iscsi-inq shows the standard data and every page', async () => {
      const inquiry = (args: readonly string[]): Promise<string> => run(requiredTool('iscsi-inq'), [...args, url]);
      assert.match(await inquiry([]), /Peripheral Device Type:.*DIRECT/);
      for (const page of ['0x00', '0x80', '0x83', '0xb0', '0xb1', '0xb2']) await inquiry(['-e', '1', '-c', page]);
    });

    it('qemu-img convert to and from the iSCSI URL, and the same over NBD', async () => {
      const from = join(gateway.folder, 'in');
      const to = join(gateway.folder, 'out');
      await writeFile(from, randomBytes(sizeMiB * mebibyte));
      const qemu = (args: readonly string[]): Promise<string> => run(requiredTool('qemu-img'), args);
      await qemu(['convert', '-n', '-f', 'raw', '-O', 'raw', from, url]);
      await qemu(['convert', '-f', 'raw', '-O', 'raw', url, to]);
      await qemu(['compare', '-f', 'raw', '-F', 'raw', from, to]);
      await qemu(['compare', '-f', 'raw', '-F', 'raw', from, gateway.nbdUri('disk')]);
    });

    it('qemu-io finds its patterns, after writes, zeros and discards', async () => {
      const commands = [
        ...['write -P 0x11 0 1M', 'write -P 0x22 4608 3072', 'write -f -P 0x33 2M 64k', 'write -z 512k 256k'],
        ...['discard 2M 32k', 'flush', 'read -P 0x11 0 4608', 'read -P 0x22 4608 3072', 'read -P 0x11 7680 64k'],
        ...['read -P 0 512k 256k', 'read -P 0 2M 32k', 'read -P 0x33 2080k 32k'],
      ];
      const args = ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), url];
      assert.doesNotMatch(await run(requiredTool('qemu-io'), args), /failed|error/i);
    });
  },
  () => (packagedFile(driver) === undefined ? `${driver} of Debian's package qemu-block-extra is missing` : undefined),
);

suite('iSCSI initiators that have to prove who they are', ['iscsi-inq'], () => {
  const initiator = 'iqn.2026-11.test:prover';
  const secrets = ['correct-horse-battery', 'another-staple-entirely'] as const;
  let gateway: TestGateway;
  let secretFile: string;
  const volume = (initiators: readonly string[]) => ({
    name: 'disk',
    size: '16MiB',
    buffer: { size: '64MiB' },
    iscsi: { initiators, chap: { user: 'alice', secretFile } },
  });
  const inquire = async (secret: string): Promise<string> => {
    const url = gateway.iscsiUrl('disk').replace('//', `//alice%${encodeURIComponent(secret)}@`);
    return (await attempt(requiredTool('iscsi-inq'), ['-i', initiator, url])).status === 0 ? 'served' : 'refused';
  };
  before(async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-test-'));
    secretFile = join(folder, 'chap');
    await writeFile(secretFile, secrets[0], { mode: 0o600 });
    gateway = await TestGateway.start({ folder, volumes: [volume([])] });
  });
  after(async () => {
    await gateway.dispose();
  });

  it('are refused with a wrong secret, and log and metric say why', async () => {
    assert.equal(await inquire(secrets[0]), 'served');
    assert.equal(await inquire(secrets[1]), 'refused');
    assert.match(gateway.log(), /the CHAP name or response is wrong.*a login was refused/);
    assert.equal(await gateway.metric('keepgate_session_rejections_total', 'reason="access-denied"'), 1);
    for (const secret of secrets) assert(!gateway.log().includes(secret));
  });

  it('need the new secret after SIGHUP, unless it cannot be used', async () => {
    await writeFile(secretFile, 'short', { mode: 0o600 });
    await gateway.reconfigure({});
    await eventually('the refusal', () => gateway.log().includes('a CHAP secret has 12 to 255 bytes'));
    assert.equal(await inquire(secrets[0]), 'served');
    await writeFile(secretFile, secrets[1], { mode: 0o600 });
    await gateway.reconfigure({});
    await eventually('the new secret', async () => (await inquire(secrets[1])) === 'served');
    assert.equal(await inquire(secrets[0]), 'refused');
  });

  it('have to be on the list, as SIGHUP says it', async () => {
    await gateway.reconfigure({ volumes: [volume(['iqn.2026-11.test:other'])] });
    await eventually('the list', async () => (await inquire(secrets[1])) === 'refused');
    assert.match(gateway.log(), /the initiator is not on the volume/);
    assert.doesNotMatch(gateway.log(), /volumes changed in the configuration/);
    await gateway.reconfigure({ volumes: [volume([initiator])] });
    await eventually('the list again', async () => (await inquire(secrets[1])) === 'served');
  });
});

suite('iSCSI connections that never log in', ['iscsi-inq'], () => {
  for (const count of [1000, 1100]) {
    it(`do not keep an initiator out, ${count} of them`, async (t) => {
      const gateway = await TestGateway.start({
        volumes: [{ name: 'disk', size: '16MiB', buffer: { size: '64MiB' } }],
      });
      const sockets: Socket[] = [];
      try {
        for (let index = 0; index < count; index++) {
          const socket = connect(gateway.iscsiPort, '127.0.0.1');
          socket.on('error', () => undefined); // Cut off: that is what a gateway may do with it.
          sockets.push(socket);
          await once(socket, 'connect');
          // Every other one begins a login request, and never ends it.
          if (index % 2 === 0) socket.write(Buffer.from([0x43, 0x87, 0, 0, 0, 0, 1]));
        }
        const startedMs = performance.now();
        await run(requiredTool('iscsi-inq'), [gateway.iscsiUrl('disk')]);
        t.diagnostic(`served after ${Math.round(performance.now() - startedMs)} ms, its own start included`);
      } finally {
        for (const socket of sockets) socket.destroy();
        await gateway.dispose();
      }
    });
  }
});
