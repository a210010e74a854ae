/** The gateway's units and what belongs to them, by systemd's own tools. A boot under systemd is not tried anywhere. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { requiredTool } from '../../tool/clients.js';
import { attempt } from '../../tool/process.js';
import { suite } from '../../tool/suite.js';
import { projectDirectory } from '../../unit/docs/page.js';
import { parseUnit, settings } from './unit-file.js';

const deploy = (name: string): string => join(projectDirectory, 'deploy', name);
const unit = (name: string) => parseUnit(name, readFileSync(deploy(name), 'utf8'));
const units = ['keepgate.service', 'keepgate-nbd.socket', 'keepgate-nbd@.service'] as const;

suite('systemd', ['systemd-analyze'], () => {
  const scratch = mkdtempSync(join(tmpdir(), 'keepgate-systemd-'));
  after(() => rmSync(scratch, { recursive: true, force: true }));
  const analyze = async (args: readonly string[]) => {
    const { path, env } = requiredTool('systemd-analyze');
    return attempt(path, args, { env });
  };

  it('has nothing to say against the units', async () => {
    const { stdout, stderr } = await analyze(['verify', ...units.map(deploy)]);
    const lines = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('keepgate'));
    assert.deepEqual(lines, []);
  });

  it('finds a setting that it does not know', async () => {
    const path = join(scratch, 'keepgate-wrong.service');
    await writeFile(path, readFileSync(deploy('keepgate.service'), 'utf8').replace('ProtectClock=', 'ProtectClocks='));
    const { stderr } = await analyze(['verify', path]);
    assert.match(stderr, /ProtectClocks/);
  });

  // What the rest is, and why it stays: the comments of the units. More than this is a step back.
  for (const [name, exposureMax] of [
    ['keepgate.service', 16],
    ['keepgate-nbd@.service', 28],
  ] as const) {
    it(`counts an exposure of ${exposureMax / 10} at most for ${name}`, async () => {
      const judged = await analyze(['security', '--offline=true', `--threshold=${exposureMax}`, deploy(name)]);
      assert.equal(judged.status, 0, judged.stdout.split('\n').at(-2));
      const stricter = await analyze(['security', '--offline=true', '--threshold=10', deploy(name)]);
      assert.notEqual(stricter.status, 0);
    });
  }

  it('is told when the gateway serves, and never gives it up', () => {
    const service = unit('keepgate.service');
    assert.deepEqual(settings(service, 'Service', 'Type'), ['notify']);
    assert.deepEqual(settings(service, 'Service', 'Restart'), ['on-failure']);
    assert.deepEqual(settings(service, 'Unit', 'StartLimitIntervalSec'), ['0']);
    assert.deepEqual(settings(service, 'Service', 'LimitMEMLOCK'), ['infinity']);
    assert.deepEqual(settings(service, 'Service', 'ExecReload'), ['/bin/kill -HUP $MAINPID']);
  });

  it('gives the sockets to that service, under the name that the configuration asks for', () => {
    const socket = unit('keepgate-nbd.socket');
    assert.deepEqual(settings(socket, 'Socket', 'Service'), ['keepgate.service']);
    const [name = ''] = settings(socket, 'Socket', 'FileDescriptorName');
    const text = readFileSync(deploy('keepgate-nbd.socket'), 'utf8');
    assert.ok(text.includes(`nbd: { listen: ["systemd:${name}"] }`));
    assert.ok(settings(unit('keepgate.service'), 'Unit', 'After').join(' ').includes('keepgate-nbd.socket'));
  });
});

suite('systemd-sysusers and systemd-tmpfiles', ['systemd-sysusers', 'systemd-tmpfiles'], () => {
  it(
    'make the user, and put right what others could read',
    { skip: process.getuid?.() !== 0 && 'needs root' },
    async () => {
      const root = mkdtempSync(join(tmpdir(), 'keepgate-root-'));
      try {
        await mkdir(join(root, 'etc/keepgate'), { recursive: true });
        await mkdir(join(root, 'var/lib'), { recursive: true });
        for (const file of ['key', 'environment'])
          await writeFile(join(root, 'etc/keepgate', file), '', { mode: 0o644 });
        const run = async (name: 'systemd-sysusers' | 'systemd-tmpfiles', args: readonly string[]): Promise<void> => {
          const { path, env } = requiredTool(name);
          const done = await attempt(path, [`--root=${root}`, ...args], { env });
          assert.equal(done.status, 0, done.stderr);
        };
        await run('systemd-sysusers', [deploy('keepgate.sysusers')]);
        const [, uid] = /^keepgate:x:(\d+):/m.exec(readFileSync(join(root, 'etc/passwd'), 'utf8')) ?? [];
        assert.ok(uid);
        await run('systemd-tmpfiles', ['--create', deploy('keepgate.tmpfiles')]);
        const is = async (path: string): Promise<string> => {
          const { mode, uid: owner } = await stat(join(root, path));
          return `${(mode & 0o777).toString(8)} ${owner}`;
        };
        assert.equal(await is('etc/keepgate'), '750 0');
        assert.equal(await is('etc/keepgate/key'), `400 ${uid}`);
        assert.equal(await is('etc/keepgate/environment'), '600 0');
        assert.equal(await is('var/lib/keepgate'), `700 ${uid}`);
      } finally {
        rmSync(root, { recursive: true, force: true });
      }
    },
  );
});
