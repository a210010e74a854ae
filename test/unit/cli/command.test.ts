/** The command line as a child process: what it prints, where, and its exit code. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { release, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { attempt } from '../../tool/process.js';
import type { Finished } from '../../tool/process.js';

const main = resolve(import.meta.dirname, '../../../src/cli/main.js');
const key = `${Buffer.alloc(32, 7).toString('base64')}\n`;

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keepgate-cli-'));
});
after(() => rm(folder, { recursive: true, force: true }));

function keepgate(...args: string[]): Promise<Finished> {
  return attempt(process.execPath, [main, ...args], { cwd: folder });
}

/** A command that must fail with exactly this on stderr. */
async function refused(args: readonly string[], status: number, line: string): Promise<void> {
  const ended = await keepgate(...args);
  assert.equal(ended.stderr, `${line}\n`);
  assert.equal(ended.status, status);
  assert.equal(ended.stdout, '');
}

async function file(name: string, content: string, mode = 0o600): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, content, { mode });
  await chmod(path, mode);
  return path;
}

describe('the command', () => {
  it('prints its version', async () => {
    const ended = await keepgate('--version');
    assert.match(ended.stdout, /^\d+\.\d+\.\d+\n$/);
    assert.equal(ended.status, 0);
  });

  it('prints its commands, and exits with 2 when none was given', async () => {
    const ended = await keepgate();
    assert.match(ended.stdout, /serve .*\n/);
    assert.equal(ended.status, 2);
    assert.equal((await keepgate('--help')).status, 0);
  });

  for (const args of [
    ['frobnicate'],
    ['serve', '--frobnicate'],
    ['restore', 'demo'],
    ['drain'],
    ['completion', 'csh'],
  ]) {
    it(`exits with 2 for the usage error ${args.join(' ')}`, async () => {
      const ended = await keepgate(...args);
      assert.equal(ended.status, 2);
      assert.match(ended.stderr, /^error: /);
      assert.doesNotMatch(ended.stderr, /\n {4}at /);
    });
  }

  for (const [args, problem] of [
    [['/dev/sda', 'nbd://gate/demo'], '"/dev/sda" is no NBD device: it looks like /dev/nbd0'],
    [
      ['/dev/nbd0', 'gate:demo'],
      '"gate:demo" is no NBD URI: gate:// is another protocol; it looks like nbd://HOST[:PORT]/VOLUME or nbd+unix:///VOLUME?socket=/PATH',
    ],
    [
      ['/dev/nbd0', 'nbd://gate/demo', '--connections', '17'],
      '--connections is "17"; it is a whole number from 1 to 16',
    ],
    [
      ['/dev/nbd0', 'nbd://gate/demo', '--dead-timeout', '10m'],
      '--dead-timeout is "10m"; it is a whole number from 1 to 604800',
    ],
  ] as const) {
    it(`says what is wrong with nbd-watch ${args.join(' ')}`, async () => {
      await refused(['nbd-watch', ...args], 2, `keepgate: ${problem}`);
    });
  }

  it('exits with 3 when no gateway answers', async () => {
    await refused(
      ['status', '--api', 'http://127.0.0.1:1'],
      3,
      'keepgate: no gateway answers at 127.0.0.1:1 (ECONNREFUSED). Start the gateway, or name its API with --api.',
    );
  });

  it('says what an API looks like', async () => {
    await refused(
      ['status', '--api', 'nonsense'],
      2,
      'keepgate: --api: "nonsense" is no API; write http://HOST:PORT or unix:/PATH',
    );
  });
});

describe('keys', () => {
  it('are generated for the owner only, and never replaced', async () => {
    const path = join(folder, 'new.key');
    const made = await keepgate('key', 'generate', path);
    assert.equal(made.status, 0);
    assert.match(made.stdout, /Back .* up now/);
    const content = await readFile(path, 'utf8');
    assert.equal(Buffer.from(content.trim(), 'base64').length, 32);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    await refused(['key', 'generate', path], 2, `keepgate: ${path} exists; nothing was overwritten`);
    assert.equal(await readFile(path, 'utf8'), content);
  });
});

describe('init', () => {
  it('writes a configuration that serve accepts but for its example store, and a key', async () => {
    const directory = join(folder, 'made');
    assert.equal((await keepgate('init', directory)).status, 0);
    const again = await keepgate('init', directory);
    assert.equal(again.status, 2);
    assert.match(again.stderr, /exists; nothing was overwritten\n$/);
    const attached = await keepgate('attach', 'disk0', '--any-machine', '--config', join(directory, 'keepgate.yaml'));
    assert.equal(attached.stderr, '');
    assert.match(attached.stdout, /URI=nbd:\/\/127\.0\.0\.1\/disk0/);
  });
});

describe('attach', () => {
  it('prints the way there and the way back for NBD', async () => {
    const { stdout, status } = await keepgate('attach', 'demo', '--any-machine');
    assert.equal(status, 0);
    for (const line of [
      "echo 'URI=nbd://127.0.0.1/demo' > /etc/keepgate/nbd/nbd0",
      'systemctl enable --now keepgate-nbd@nbd0',
      '#   nbd-client 127.0.0.1 10809 /dev/nbd0 -N demo -b 512',
      'cryptsetup luksFormat --type luks2 --sector-size 4096 /dev/nbd0',
      'cryptsetup open --allow-discards /dev/nbd0 demo',
      'umount /mnt/demo',
      'systemctl disable --now keepgate-nbd@nbd0     # or: nbd-client -d /dev/nbd0',
    ]) {
      assert.ok(stdout.split('\n').includes(line), line);
    }
    assert.match(stdout, /_netdev,nofail/);
  });

  it('prints what it knows as JSON, of this machine too', async () => {
    const { stdout, status } = await keepgate('attach', 'demo', '--json');
    assert.equal(status, 0);
    const known = JSON.parse(stdout) as { steps: { title: string; lines: string[] }[]; machine: { kernel: string } };
    assert.equal(known.machine.kernel, release());
    assert.ok(
      known.steps.some(({ title, lines }) => title === 'Attach' && lines.some((line) => /nbd-watch/.test(line))),
    );
  });

  it('prints it for NBD over TLS, by what the gateway knows its clients', async () => {
    const settings = (nbd: object) => ({
      nbd: { tls: 'required', ...nbd },
      volumes: [{ name: 'disk0', size: '1GiB', replicate: { enabled: false } }],
    });
    const listen = ['unix:/run/keepgate/nbd.sock', '192.0.2.1:10809'];
    const certified = await file(
      'tls.yaml',
      JSON.stringify(settings({ listen, tlsCertificates: '/etc/keepgate/tls', tlsVerifyPeer: true })),
    );
    const byCertificate = await keepgate('attach', 'disk0', '--any-machine', '--config', certified);
    assert.equal(byCertificate.stderr, '');
    const uri = 'nbds://192.0.2.1/disk0?tls-certificates=/etc/keepgate/tls';
    assert.ok(byCertificate.stdout.includes(`echo 'URI=${uri}' > /etc/keepgate/nbd/nbd0\n`), byCertificate.stdout);
    assert.match(byCertificate.stdout, /client-key\.pem \(mode 0600\)/);
    const keyed = await file('psk.yaml', JSON.stringify(settings({ listen, tlsPsk: '/etc/keepgate/keys.psk' })));
    const byKey = await keepgate('attach', 'disk0', '--any-machine', '--config', keyed);
    assert.ok(byKey.stdout.includes('nbds://USER@192.0.2.1/disk0?tls-psk-file=/etc/keepgate/keys.psk'), byKey.stdout);
    const local = settings({ listen: listen.slice(0, 1), tlsPsk: '/etc/keepgate/keys.psk' });
    const nowhere = await keepgate('attach', 'disk0', '--config', await file('unix.yaml', JSON.stringify(local)));
    assert.match(nowhere.stderr, /listens on a Unix socket, where the kernel has none/);
    assert.equal(nowhere.status, 2);
  });

  it('prints it for iSCSI, with time-outs that survive a restart', async () => {
    const { stdout } = await keepgate('attach', 'demo', '--protocol', 'iscsi', '--any-machine');
    const node = 'iscsiadm -m node -T iqn.2026-11.io.keepgate:demo -p 127.0.0.1:3260';
    for (const line of [
      'iscsiadm -m discovery -t sendtargets -p 127.0.0.1:3260',
      `${node} -o update -n node.session.timeo.replacement_timeout -v 600`,
      `${node} --login`,
      `${node} --logout`,
    ]) {
      assert.ok(stdout.split('\n').includes(line), line);
    }
  });

  it('names the volumes that there are', async () => {
    await refused(
      ['attach', 'disk9'],
      2,
      'keepgate: there is no volume "disk9" (there are: demo). Check the name; `keepgate status` lists the volumes.',
    );
  });
});

describe('serve refuses, with one line and exit code 2', () => {
  const settings = (changes: Record<string, unknown>) =>
    JSON.stringify({
      dataDir: join(folder, 'data'),
      keyFile: join(folder, 'key'),
      nbd: { listen: ['127.0.0.1:0'] },
      iscsi: { listen: ['127.0.0.1:0'] },
      api: { listen: '127.0.0.1:0' },
      store: { url: `file://${join(folder, 'store')}` },
      volumes: [{ name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } }],
      ...changes,
    });
  /** stderr without the JSON log lines. */
  async function served(content: string): Promise<{ lines: string[]; status: number }> {
    const path = await file('keepgate.yaml', content);
    const ended = await keepgate('serve', '--config', path);
    return {
      lines: ended.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('{')),
      status: ended.status,
    };
  }

  it('a configuration file that is not there', async () => {
    await refused(['serve', '--config', 'none.yaml'], 2, 'keepgate: none.yaml: there is no such configuration file');
  });

  it('an unknown key', async () => {
    const { lines, status } = await served('dataDri: /x\n');
    assert.match(lines[0] ?? '', /keepgate\.yaml:1:1: dataDri: unknown key; did you mean dataDir\?$/);
    assert.equal(status, 2);
  });

  it('a missing key, a key that others can read, a key of the wrong length', async () => {
    await rm(join(folder, 'key'), { force: true });
    const missing = await served(settings({}));
    assert.deepEqual(missing.lines, [
      `keepgate: ${join(folder, 'key')}: there is no key here. Name the right file. A volume that exists opens with its own key only; for new ones \`keepgate key generate FILE\` makes a key.`,
    ]);
    assert.equal(missing.status, 2);
    await file('key', key, 0o644);
    const open = await served(settings({}));
    assert.equal(open.lines.length, 1);
    assert.match(open.lines[0] ?? '', /key: group or world can use this key \(mode 0644\).*chmod 600/);
    assert.equal(open.status, 2);
    await file('key', 'c2hvcnQ=\n');
    const short = await served(settings({}));
    assert.equal(short.lines.length, 1);
    assert.match(short.lines[0] ?? '', /key: a key is 32 bytes in base64/);
    assert.equal(short.status, 2);
  });

  it('a port in use', async () => {
    await file('key', key);
    const holder = createServer();
    await new Promise<void>((done) => holder.listen(0, '127.0.0.1', done));
    const { port } = holder.address() as AddressInfo;
    for (const [name, changes] of [
      ['nbd.listen', { nbd: { listen: [`127.0.0.1:${port}`] } }],
      ['api.listen', { api: { listen: `127.0.0.1:${port}` } }],
    ] as const) {
      const { lines, status } = await served(settings(changes));
      assert.deepEqual(lines, [
        `keepgate: port ${port} on 127.0.0.1 is in use (${name}). Choose a free port, or one that this user may open.`,
      ]);
      assert.equal(status, 2);
    }
    holder.close();
  });

  it('a data directory that is none', async () => {
    const path = await file('plain', '');
    const { lines, status } = await served(settings({ dataDir: join(path, 'data') }));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /is not a writable directory: it, or a parent, is a file \(dataDir\)/);
    assert.equal(status, 2);
  });

  it('an insecure listener', async () => {
    const { lines, status } = await served(settings({ nbd: { listen: ['0.0.0.0:0'] } }));
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? '', /would offer NBD without TLS to the network/);
    assert.equal(status, 2);
  });
});
