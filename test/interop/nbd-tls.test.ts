/** NBD over TLS as people use it: libnbd's and QEMU's clients, with certificates and with pre-shared keys. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, it } from 'node:test';
import { TestAuthority, writePreSharedKeys } from '../tool/certificates.js';
import { requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { attempt, eventually, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const mebibyte = 1024 * 1024;

suite('NBD over TLS', ['openssl', 'nbdinfo', 'nbdcopy', 'qemu-io', 'qemu-img'], () => {
  let folder: string;
  let authority: TestAuthority;
  let gateway: TestGateway;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-nbd-tls-'));
    authority = await TestAuthority.create(join(folder, 'pki'));
    await authority.issueClient('alice');
    // QEMU wants keys.psk in a directory, libnbd a file.
    await mkdir(join(folder, 'psk'));
    await writePreSharedKeys(join(folder, 'psk/keys.psk'), ['alice', 'bob']);
    const buffer = { size: '64MiB' };
    const replicate = { enabled: false };
    gateway = await TestGateway.start({
      nbd: {
        ...{ tls: 'required', tlsCertificates: join(folder, 'pki'), tlsVerifyPeer: true },
        tlsPsk: join(folder, 'psk/keys.psk'),
      },
      volumes: [
        { name: 'disk', size: '64MiB', buffer, replicate },
        { name: 'hers', size: '64MiB', buffer, replicate, nbd: { users: ['alice'] } },
      ],
    });
  });
  after(async () => {
    await gateway.dispose();
    await rm(folder, { recursive: true });
  });

  const byKey = (volume: string, user: string, file = 'psk/keys.psk'): string =>
    `nbds://${user}@127.0.0.1:${gateway.nbdPort}/${volume}?tls-psk-file=${join(folder, file)}`;
  const byCertificate = (volume: string, directory = 'pki'): string =>
    `nbds://127.0.0.1:${gateway.nbdPort}/${volume}?tls-certificates=${join(folder, directory)}`;
  const served = async (uri: string): Promise<boolean> =>
    (await attempt(requiredTool('nbdinfo'), ['--size', uri])).status === 0;
  const rejections = (reason: string): Promise<number> =>
    gateway.metric('keepgate_session_rejections_total', `frontend="nbd",reason="${reason}"`);

  it('libnbd copies in and out, by key and by certificate', async () => {
    const [from, to] = [join(folder, 'in'), join(folder, 'out')];
    await writeFile(from, randomBytes(64 * mebibyte));
    await run(requiredTool('nbdcopy'), ['--flush', '--connections=4', from, byKey('disk', 'bob')]);
    await run(requiredTool('nbdcopy'), ['--connections=4', byCertificate('disk'), to]);
    assert((await readFile(from)).equals(await readFile(to)));
    assert.match(await run(requiredTool('nbdinfo'), [byCertificate('disk')]), /newstyle-fixed with TLS/);
  });

  it('QEMU reads and writes, by key and by certificate', async () => {
    for (const object of [
      `tls-creds-psk,id=tls0,endpoint=client,username=alice,dir=${join(folder, 'psk')}`,
      `tls-creds-x509,id=tls0,endpoint=client,dir=${join(folder, 'pki')}`,
    ]) {
      const image = `driver=nbd,host=127.0.0.1,port=${gateway.nbdPort},export=hers,tls-creds=tls0`;
      const commands = ['write -P 0x11 0 1M', 'write -f -P 0x22 5000 3000', 'flush', 'read -P 0x11 0 5000'];
      const each = [...commands, 'read -P 0x22 5000 3000'].flatMap((command) => ['-c', command]);
      const text = await run(requiredTool('qemu-io'), ['--object', object, '--image-opts', image, ...each]);
      assert.doesNotMatch(text, /failed|error/i);
    }
  });

  it('a client in clear, a wrong key and a stranger’s certificate are refused, and the reason is said and counted', async () => {
    const stranger = await TestAuthority.create(join(folder, 'stranger'));
    await stranger.issueClient('alice');
    // It trusts the gateway; the gateway does not know who signed for it.
    await copyFile(join(authority.directory, 'ca-cert.pem'), join(stranger.directory, 'ca-cert.pem'));
    await writePreSharedKeys(join(folder, 'wrong.psk'), ['alice', 'mallory']);
    assert.equal(await served(gateway.nbdUri('disk')), false);
    assert.equal(await served(byKey('disk', 'alice', 'wrong.psk')), false);
    assert.equal(await served(byKey('disk', 'mallory', 'wrong.psk')), false);
    assert.equal(await served(byCertificate('disk', 'stranger')), false);
    await eventually('the metric', async () => (await rejections('tls-failed')) === 3);
    assert.equal(await rejections('tls-required'), 1);
    assert.match(gateway.log(), /there is no user \\"mallory\\" in nbd.tlsPsk/);
    assert.match(gateway.log(), /the client’s certificate was refused/);
  });

  it('a volume is for its users, whichever way they prove it', async () => {
    assert.equal(await served(byKey('hers', 'alice')), true);
    assert.equal(await served(byCertificate('hers')), true);
    assert.equal(await served(byKey('hers', 'bob')), false);
    assert.match(gateway.log(), /user \\"bob\\" may not use volume hers/);
    const list = await run(requiredTool('nbdinfo'), ['--list', '--json', byKey('', 'bob')]);
    const { exports } = JSON.parse(list) as { exports: Record<string, unknown>[] };
    assert.deepEqual(exports.map((each) => each['export-name']), ['disk']); // prettier-ignore
  });

  it('certificates, keys and users are read again on SIGHUP, unless they cannot be used', async () => {
    const keys = join(folder, 'psk/keys.psk');
    const before = await readFile(keys, 'utf8');
    await writeFile(keys, 'alice\n');
    await gateway.reconfigure({});
    await eventually('the refusal', () => gateway.log().includes('keys.psk:1: this is not USER:KEY'));
    await writePreSharedKeys(join(folder, 'new.psk'), ['carol']);
    await writeFile(keys, `${before}${await readFile(join(folder, 'new.psk'), 'utf8')}`);
    assert.equal(await served(byKey('disk', 'carol')), false, 'nothing was read again');
    assert.equal(await served(byCertificate('disk')), true);
    // Another authority signs from now on.
    authority = await TestAuthority.create(join(folder, 'pki'));
    await authority.issueClient('carol');
    await gateway.reconfigure({});
    await eventually('the new key', () => served(byKey('disk', 'carol')));
    assert.equal(await served(byKey('disk', 'alice')), true);
    assert.equal(await served(byCertificate('disk')), true);
    assert.match(gateway.log(), /"client":"nbd \\"carol\\" at 127.0.0.1"/);
    for (const line of (await readFile(keys, 'utf8')).trim().split('\n')) {
      assert(!gateway.log().includes(line.slice(line.indexOf(':') + 1)), 'no key is logged');
    }
    assert(!gateway.log().includes('PRIVATE KEY'));
  });
});
