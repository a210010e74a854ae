/** What deploy/client gives a client's machine: the order in which disks come and go, and time-outs that outlast a restart. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { attachLines } from '../../../src/cli/attach.js';
import { loadConfiguration } from '../../../src/config/load-configuration.js';
import { VENDOR } from '../../../src/scsi/unit-identity.js';
import { packagedFile } from '../../tool/clients.js';
import { attempt } from '../../tool/process.js';
import { suite } from '../../tool/suite.js';
import { projectDirectory } from '../../unit/docs/page.js';
import { parseUnit, settings, startOrder, startsBefore } from './unit-file.js';
import type { UnitFile } from './unit-file.js';

const deploy = (name: string): string => join(projectDirectory, 'deploy', name);
const lines = (name: string): string[] =>
  readFileSync(deploy(name), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));

const generators = '/lib/systemd/system-generators';
const generator = (name: string): string => join(generators, `systemd-${name}-generator`);

/** The units that systemd makes of a table, as it would at boot. */
async function generated(name: 'cryptsetup' | 'fstab', variable: string, table: string): Promise<UnitFile[]> {
  const scratch = mkdtempSync(join(tmpdir(), 'keepgate-generated-'));
  try {
    const path = join(scratch, 'table');
    writeFileSync(path, `${lines(table).join('\n')}\n`);
    const folders = ['normal', 'early', 'late'].map((folder) => join(scratch, folder));
    for (const folder of folders) mkdirSync(folder);
    const made = await attempt(generator(name), folders, { env: { [variable]: path } });
    assert.equal(made.status, 0, made.stderr);
    return readdirSync(folders[0] ?? '')
      .filter((file) => /\.(service|mount)$/.test(file))
      .map((file) => parseUnit(file, readFileSync(join(folders[0] ?? '', file), 'utf8').replaceAll('%i', 'disk0')));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

suite(
  'a disk of a gateway at boot and shutdown',
  ['systemd-analyze'],
  () => {
    const chain = [
      'keepgate.service',
      'keepgate-nbd@nbd0.service',
      'systemd-cryptsetup@disk0.service',
      'mnt-disk0.mount',
    ] as const;
    const all = async (): Promise<UnitFile[]> => {
      const own = ['keepgate.service', 'keepgate-nbd@.service'].map((file) =>
        parseUnit(file.replace('@.', '@nbd0.'), readFileSync(deploy(file), 'utf8')),
      );
      const made = [
        ...(await generated('cryptsetup', 'SYSTEMD_CRYPTTAB', 'client/crypttab')),
        ...(await generated('fstab', 'SYSTEMD_FSTAB', 'client/fstab')),
      ];
      return [...own, ...made];
    };

    it('is served, attached, opened and mounted in this order, and the other way round at shutdown', async () => {
      const units = await all();
      for (const name of chain)
        assert.ok(
          units.some((unit) => unit.name === name),
          name,
        );
      const order = startOrder(units);
      chain.forEach((first, at) => {
        for (const second of chain.slice(at + 1)) {
          assert.ok(startsBefore(order, first, second), `${first} before ${second}`);
          assert.ok(!startsBefore(order, second, first), `${second} not before ${first}`);
        }
      });
      // And an initiator of the same machine logs out before the gateway stops.
      assert.ok(startsBefore(order, 'keepgate.service', 'open-iscsi.service'));
    });

    it('needs each of the links for that', async () => {
      const units = await all();
      for (const name of ['keepgate-nbd@nbd0.service', 'systemd-cryptsetup@disk0.service']) {
        const without = startOrder(units.filter((unit) => unit.name !== name));
        assert.ok(!startsBefore(without, 'keepgate-nbd@nbd0.service', 'mnt-disk0.mount'), name);
      }
    });

    it('does not keep a machine from starting, and waits for a gateway that is late', () => {
      const options = [...lines('client/crypttab'), ...lines('client/fstab')].map((line) => line.split(/\s+/)[3] ?? '');
      for (const found of options) assert.match(found, /_netdev,nofail/);
      const watch = parseUnit('keepgate-nbd@nbd0.service', readFileSync(deploy('keepgate-nbd@.service'), 'utf8'));
      assert.deepEqual(settings(watch, 'Service', 'TimeoutStartSec'), ['infinity']);
      assert.match(settings(watch, 'Service', 'ExecStart').join(), /nbd-watch \/dev\/nbd0 \$\{URI\} --detach/);
    });
  },
  () => {
    const missing = ['cryptsetup', 'fstab'].map(generator).find((path) => !existsSync(path));
    return missing === undefined ? undefined : `${missing} is missing`;
  },
);

const wanted = { 'node.session.timeo.replacement_timeout': 600, 'node.conn[0].timeo.noop_out_timeout': 600 } as const;

suite('the settings of iscsid', ['iscsid'], () => {
  const given = new Map(lines('client/iscsid-keepgate.conf').map((line) => line.split(' = ') as [string, string]));

  it('are ones that it knows', () => {
    const path = packagedFile('/etc/iscsi/iscsid.conf');
    assert.ok(path, 'open-iscsi brings its configuration');
    const known = readFileSync(path, 'utf8');
    for (const name of given.keys())
      assert.ok(new RegExp(`^#? ?${name.replaceAll(/[.[\]]/g, '\\$&')} =`, 'm').test(known), name);
  });

  it('are those that `attach` prints for one volume', () => {
    const content = 'volumes: [{ name: disk0, size: 1GiB, replicate: { enabled: false } }]';
    const file = { name: 'keepgate.yaml', directory: '/', content };
    const configuration = loadConfiguration({ file, environment: {}, workingDirectory: '/' });
    const listen = [{ kind: 'tcp', host: '127.0.0.1', port: 3260 }] as const;
    const printed = attachLines({
      configuration,
      volume: 'disk0',
      protocol: 'iscsi',
      listen,
      restored: false,
      machine: undefined,
    }).join('\n');
    for (const [name, seconds] of Object.entries(wanted)) {
      assert.equal(given.get(name), String(seconds));
      assert.ok(printed.includes(`-n ${name} -v ${seconds}`), name);
    }
    const [, timeout] = /ATTR\{device\/timeout\}="(\d+)"/.exec(printed) ?? [];
    assert.ok(readFileSync(deploy('client/60-keepgate.rules'), 'utf8').includes(`ATTR{device/timeout}="${timeout}"`));
  });
});

/** Keys that udev(7) has, of those that stand here, with what it lets one do with them. */
const udevKeys: Readonly<Record<string, RegExp>> = {
  ACTION: /^(==|!=)$/,
  SUBSYSTEM: /^(==|!=)$/,
  KERNEL: /^(==|!=)$/,
  ENV: /^(==|!=|=|\+=)$/,
  ATTRS: /^(==|!=)$/,
  ATTR: /^(==|!=|=)$/,
  GOTO: /^=$/,
  LABEL: /^=$/,
};

function udevFaults(rules: readonly string[]): string[] {
  const faults: string[] = [];
  const labels = new Set<string>();
  const jumps: string[] = [];
  for (const rule of rules) {
    for (const part of rule.split(/,\s*/)) {
      const [, key = '', , operator = '', value = ''] =
        /^([A-Z]+)(\{[^}]+\})?(==|!=|\+=|:=|=)"([^"]*)"$/.exec(part) ?? [];
      if (udevKeys[key]?.test(operator) !== true) faults.push(part);
      if (key === 'LABEL') labels.add(value);
      if (key === 'GOTO') jumps.push(value);
    }
  }
  return [...faults, ...jumps.filter((label) => !labels.has(label))];
}

describe('the udev rules', () => {
  it('are made of keys that udev has, and jump to what is there', () => {
    const rules = lines('client/60-keepgate.rules');
    assert.deepEqual(udevFaults(rules), []);
    assert.deepEqual(udevFaults(['KERNEL="sd*"', 'ACTION!="add", GOTO="nowhere"']), ['KERNEL="sd*"', 'nowhere']);
  });

  it('name the vendor that the gateway’s units have', () => {
    const [, vendor] = /ATTRS\{vendor\}=="(\w+)"/.exec(lines('client/60-keepgate.rules').join('\n')) ?? [];
    assert.equal(vendor, VENDOR);
  });
});
