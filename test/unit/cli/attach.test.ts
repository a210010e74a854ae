/** What `keepgate attach` finds out about a machine, and that it prints what fits that one. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { attachLines } from '../../../src/cli/attach.js';
import { lookAtMachine } from '../../../src/cli/client-machine.js';
import type { ClientMachine } from '../../../src/cli/client-machine.js';
import { loadConfiguration } from '../../../src/config/load-configuration.js';

const kernel = '6.1.0-test';
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'keepgate-machine-'));
});
after(() => rm(folder, { recursive: true, force: true }));

/** A machine that has these files, and nothing else. */
async function machine(files: Readonly<Record<string, string>>): Promise<ClientMachine> {
  const root = await mkdtemp(join(folder, 'root-'));
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
  return lookAtMachine({ root, kernel, path: '/opt/bin' });
}

const debian = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nID=debian\n';
const modules = `lib/modules/${kernel}`;
const whole = {
  'etc/os-release': debian,
  [`${modules}/modules.dep`]:
    'kernel/drivers/block/nbd.ko.xz:\nkernel/drivers/md/dm-crypt.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n',
  [`${modules}/modules.builtin`]: 'kernel/net/tls/tls.ko\nkernel/drivers/scsi/iscsi_tcp.ko\n',
  'usr/sbin/nbd-client': '',
  'sbin/iscsiadm': '',
  'opt/bin/cryptsetup': '',
  'sbin/mkfs.ext4': '',
  'run/systemd/system/any': '',
  'run/udev/any': '',
  'lib/systemd/system/keepgate-nbd@.service': '',
};

function lines(
  found: ClientMachine,
  protocol: 'nbd' | 'iscsi',
  nbd = '',
  replicate = false,
  restored = false,
): readonly string[] {
  const store = replicate ? 'store: { url: file:///store }\n' : '';
  const content = `volumes: [{ name: disk0, size: 1GiB, replicate: { enabled: ${replicate} } }]\n${nbd}${store}`;
  const file = { name: 'keepgate.yaml', directory: '/', content };
  const configuration = loadConfiguration({ file, environment: {}, workingDirectory: '/' });
  const listen = [{ kind: 'tcp', host: '192.0.2.1', port: protocol === 'nbd' ? 10809 : 3260 }] as const;
  return attachLines({ configuration, volume: 'disk0', protocol, listen, restored, machine: found });
}

describe('a machine', () => {
  it('that has everything is known with everything', async () => {
    assert.deepEqual(await machine(whole), {
      distribution: 'Debian GNU/Linux 13 (trixie)',
      ids: ['debian'],
      kernel,
      packages: 'apt',
      modules: { nbd: 'loadable', iscsi_tcp: 'ready', dm_crypt: 'loadable', tls: 'ready' },
      tools: { 'nbd-client': true, iscsiadm: true, cryptsetup: true, 'mkfs.ext4': true },
      systemd: true,
      udev: true,
      nbdUnit: true,
      nbdDevice: '/dev/nbd0',
    });
  });

  it('that has nothing is known with nothing', async () => {
    const { distribution, packages, modules: found, tools, systemd } = await machine({});
    assert.equal(distribution, 'Linux');
    assert.equal(packages, undefined);
    assert.deepEqual(new Set(Object.values(found)), new Set(['absent']));
    assert.deepEqual(new Set(Object.values(tools)), new Set([false]));
    assert.equal(systemd, false);
  });

  it('has a module that is loaded, and the first NBD device that nothing is attached to', async () => {
    const found = await machine({
      'sys/module/nbd/refcnt': '1',
      'sys/block/nbd0/pid': '17',
      'sys/block/nbd1/pid': '18',
      'sys/block/nbd2/size': '0',
      'sys/block/nbd10/size': '0',
      'sys/block/sda/size': '1',
    });
    assert.equal(found.modules.nbd, 'ready');
    assert.equal(found.nbdDevice, '/dev/nbd2');
  });

  for (const [system, packages] of [
    ['ID=ubuntu\nID_LIKE=debian\n', 'apt'],
    ['ID=linuxmint\nID_LIKE="ubuntu debian"\n', 'apt'],
    ["ID='fedora'\n", 'dnf'],
    ['ID="rocky"\nID_LIKE="rhel centos fedora"\n', 'dnf'],
    ['ID=alpine\n', 'apk'],
    ['ID=arch\n', 'pacman'],
    ['ID=manjaro\nID_LIKE=arch\n', 'pacman'],
    ['ID=nixos\n', undefined],
  ] as const) {
    it(`with ${system.replaceAll('\n', ' ')}gets packages by ${packages ?? 'what nobody knows'}`, async () => {
      assert.equal((await machine({ 'usr/lib/os-release': system })).packages, packages);
    });
  }
});

describe('attach on a machine', () => {
  it('that has everything says nothing of packages', async () => {
    const found = await machine({ ...whole, 'sys/block/nbd0/pid': '17', 'sys/block/nbd1/size': '0' });
    for (const protocol of ['nbd', 'iscsi'] as const) {
      const text = lines(found, protocol).join('\n');
      assert.doesNotMatch(text, /lacks|apt-get|has to be installed/);
      assert.match(text, /^# Run as root .*\(here: Debian GNU\/Linux 13 \(trixie\), kernel 6\.1\.0-test\)/);
    }
    const nbd = lines(found, 'nbd');
    assert.equal(
      nbd[1],
      '# Kernel modules: nbd (to be loaded), dm_crypt (to be loaded). Tools: nbd-client, cryptsetup, mkfs.ext4.',
    );
    assert.ok(nbd.includes('modprobe nbd'));
    assert.ok(nbd.includes('systemctl enable --now keepgate-nbd@nbd1'));
    assert.ok(nbd.includes('cryptsetup open --allow-discards /dev/nbd1 disk0'));
    assert.ok(!lines(found, 'iscsi').some((line) => line.startsWith('modprobe')));
  });

  it('is told to make LUKS and a file system, but not as lines to paste when the volume may be a restored copy', async () => {
    const making = (printed: readonly string[]): readonly string[] =>
      printed.filter((line) => /^(?:# not .*)?(?:cryptsetup luksFormat|mkfs)/.test(line));
    const found = await machine({ ...whole });
    const copy = making(lines(found, 'nbd'));
    assert.equal(copy.length, 2);
    for (const line of copy) assert.match(line, /^# not on a restored copy: /);
    const replicated = making(lines(found, 'nbd', '', true));
    assert.deepEqual(
      replicated,
      copy.map((line) => line.replace('# not on a restored copy: ', '')),
    );
    const restored = making(lines(found, 'nbd', '', true, true));
    assert.equal(restored.length, 0);
    const never = lines(found, 'nbd', '', true, true).filter((line) => line.startsWith('# never: it was restored'));
    assert.deepEqual(
      never.map((line) => line.replace(/^.*destroy it: /, '')),
      replicated,
    );
  });

  it('that has its module leaves modprobe out', async () => {
    const found = await machine({ ...whole, 'sys/module/nbd/refcnt': '0' });
    assert.ok(!lines(found, 'nbd').some((line) => line.startsWith('modprobe')));
    const tls = 'nbd: { tls: required, tlsCertificates: /etc/keepgate/tls }\n';
    assert.ok(!lines(found, 'nbd', tls).some((line) => line.startsWith('modprobe')));
  });

  for (const [id, install, advice] of [
    ['debian', 'apt-get install open-iscsi cryptsetup e2fsprogs', /^# the packages linux-image-/],
    ['ubuntu', 'apt-get install open-iscsi cryptsetup e2fsprogs', /^apt-get install linux-modules-extra-6\.1\.0-test$/],
    ['fedora', 'dnf install iscsi-initiator-utils cryptsetup e2fsprogs', /^dnf install kernel-modules-6\.1\.0-test /],
    ['alpine', 'apk add open-iscsi cryptsetup e2fsprogs', /^# apk add linux-lts /],
    ['arch', 'pacman -S open-iscsi cryptsetup e2fsprogs', /^# after an upgrade of the kernel/],
    [
      'nixos',
      '# Get by the package manager of this distribution: iscsiadm, cryptsetup, mkfs.ext4',
      /^# they come with the kernel/,
    ],
  ] as const) {
    it(`that lacks tools and modules says how ${id} gets them, first of all`, async () => {
      const printed = lines(await machine({ 'etc/os-release': `ID=${id}\n` }), 'iscsi');
      assert.deepEqual(printed.slice(1, 6), [
        '# Kernel modules: iscsi_tcp (missing), dm_crypt (missing). Tools: none of those below.',
        '',
        '# 1. What this machine lacks',
        install,
        '# Not among the modules of kernel 6.1.0-test: iscsi_tcp, dm_crypt.',
      ]);
      assert.match(printed[6] ?? '', advice);
      assert.equal(printed[8], '# 2. Attach');
    });
  }

  it('without systemd runs nbd-watch by hand, and promises nothing of crypttab', async () => {
    const { 'run/systemd/system/any': _, ...rest } = whole;
    const text = lines(await machine(rest), 'nbd').join('\n');
    assert.match(text, /^keepgate nbd-watch \/dev\/nbd0 'nbd:\/\/192\.0\.2\.1\/disk0'$/m);
    assert.doesNotMatch(text, /systemctl|>> \/etc\/crypttab/);
  });

  it('without udev sets no rule', async () => {
    const { 'run/udev/any': _, ...rest } = whole;
    const text = lines(await machine(rest), 'iscsi').join('\n');
    assert.doesNotMatch(text, /rules\.d/);
    assert.match(text, /iscsiadm -m session -P 3/);
  });
});
