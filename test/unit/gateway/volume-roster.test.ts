/** Volumes that come and go while the gateway runs: by the API and its commands, and by SIGHUP. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { CMD, NbdClient, withNbdDisk } from '../../fake/nbd-client.js';
import { TestGateway } from '../../tool/gateway.js';
import { eventually } from '../../tool/process.js';

const mib = 1024 * 1024;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };
const local = { ...disk, name: 'local', replicate: { enabled: false } };

const write = (gateway: TestGateway, volume: string, offset: number, payload: Buffer): Promise<void> =>
  withNbdDisk(gateway.nbdPort, volume, async (client) => {
    assert.equal((await client.request({ type: CMD.WRITE, offset, payload })).error, 0);
  });

const read = (gateway: TestGateway, volume: string, offset: number, length = mib): Promise<Buffer> =>
  withNbdDisk(gateway.nbdPort, volume, async (client) => {
    const { error, data } = await client.request({ type: CMD.READ, offset, length });
    assert.equal(error, 0);
    return data;
  });

const attach = (gateway: TestGateway, volume: string): Promise<NbdClient> =>
  NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, volume);

const names = async (gateway: TestGateway): Promise<string[]> =>
  ((await gateway.api('/v1/volumes')) as VolumeReport[]).map(({ name }) => name);

const stateOf = async (gateway: TestGateway, volume: string): Promise<string | undefined> =>
  ((await gateway.api('/v1/volumes')) as VolumeReport[]).find(({ name }) => name === volume)?.state;

/** But for what is on its way out. */
const directories = async (gateway: TestGateway): Promise<string[]> =>
  (await readdir(join(gateway.dataDir, 'volumes'))).filter((name) => !name.startsWith('.removed-')).sort();

/** The process that waits before it opens its volumes. */
async function eventuallyHeld(gateway: TestGateway): Promise<number> {
  let pid = 0;
  await eventually('it waits', () => {
    pid = Number(/HELD BY (\d+)/.exec(gateway.log())?.[1] ?? 0);
    return pid > 0;
  });
  return pid;
}

const entries = async (gateway: TestGateway): Promise<string[]> => {
  const directory = join(gateway.dataDir, 'volumes.d');
  return existsSync(directory) ? readdir(directory) : [];
};

describe('a volume that is added to a running gateway', () => {
  let gateway: TestGateway;
  before(async () => {
    gateway = await TestGateway.start({ volumes: [disk, local] });
  });
  after(() => gateway.dispose());
  const add = (name: string, settings: string) =>
    gateway.command(['volume', 'add', name, '16MiB', '--settings', settings]);

  it('is served at once, replicates, and is there after a restart', async () => {
    const added = await add('more', '{ buffer: { size: 64MiB }, access: shared }');
    assert.equal(added.stdout, 'more was added: 16 MiB, online\nkeepgate attach more\n', added.stderr);
    const content = randomBytes(mib);
    await write(gateway, 'more', 4 * mib, content);
    await gateway.drain('more');
    assert.deepEqual(await names(gateway), ['disk0', 'local', 'more']);
    assert.equal(await gateway.metric('keepgate_volume_size_bytes', '"more"'), 16 * mib);
    await gateway.stop();
    await gateway.startAgain();
    assert.deepEqual(await names(gateway), ['disk0', 'local', 'more']);
    assert.ok((await read(gateway, 'more', 4 * mib)).equals(content));
  });

  it('is refused, with nothing left of it, where its entry, its name or what is there speaks against it', async () => {
    const refused = async (name: string, settings: string, line: RegExp): Promise<void> => {
      const before = [await names(gateway), await directories(gateway), await entries(gateway)];
      const answer = await add(name, settings);
      assert.match(answer.stderr, line);
      assert.equal(answer.stdout, '');
      assert.notEqual(answer.status, 0);
      assert.deepEqual([await names(gateway), await directories(gateway), await entries(gateway)], before);
    };
    await refused('disk0', '{}', /^keepgate: there is a volume disk0 already\n/);
    await refused('Disk1', '{}', /^keepgate: name: "Disk1"/);
    await refused('disk1', '{ bufer: { size: 64MiB } }', /^keepgate: bufer: unknown key; did you mean buffer\?/);
    await refused('disk1', '{ nbd: { users: [alice] } }', /^keepgate: nbd\.users: needs TLS/);
    await refused(
      'disk1',
      '{ iscsi: { chap: { user: alice, secretFile: secret } } }',
      /^keepgate: "secret" is a relative path/,
    );
    await mkdir(join(gateway.dataDir, 'volumes', 'disk1'));
    await refused('disk1', '{ replicate: { enabled: false } }', /volumes\/disk1 exists; nothing was overwritten/);
    await rm(join(gateway.dataDir, 'volumes', 'disk1'), { recursive: true });
    // The bucket has one of that name from a life before.
    await write(gateway, 'more', 0, randomBytes(4096));
    await gateway.drain('more');
    assert.equal((await gateway.command(['volume', 'remove', 'more', '--confirm', 'more'])).status, 0);
    await refused(
      'more',
      '{ buffer: { size: 64MiB } }',
      /^keepgate: volume more: file:.* already holds a volume more /,
    );
    assert.ok(!existsSync(join(gateway.dataDir, 'volumes', 'more')));
  });

  it('waits for its store, and can be removed before that has answered', async () => {
    await rename(gateway.storeDirectory, `${gateway.storeDirectory}-away`);
    const added = await add('early', '{ buffer: { size: 64MiB } }');
    await rename(`${gateway.storeDirectory}-away`, gateway.storeDirectory);
    assert.match(added.stdout, /^early was added: 16 MiB, (opening|online)\n/, added.stderr);
    const removed = await gateway.command(['volume', 'remove', 'early', '--confirm', 'early']);
    assert.equal(removed.status, 0, removed.stderr);
    assert.deepEqual(await directories(gateway).then((all) => all.filter((name) => name === 'early')), []);
    assert.deepEqual(await entries(gateway), []);
  });
});

describe('a volume that is removed from a running gateway', () => {
  let gateway: TestGateway;
  before(async () => {
    gateway = await TestGateway.start({ volumes: [disk, local] });
    const added = await gateway.command([
      'volume',
      'add',
      'more',
      '16MiB',
      '--settings',
      '{ buffer: { size: 64MiB } }',
    ]);
    assert.equal(added.status, 0, added.stderr);
  });
  after(() => gateway.dispose());
  const remove = (...args: string[]) => gateway.command(['volume', 'remove', ...args]);

  it('needs its name again, nobody who has it, and a bucket that has all of it', async () => {
    const refused = async (args: string[], line: RegExp): Promise<void> => {
      const answer = await remove(...args);
      assert.match(answer.stderr, line);
      assert.notEqual(answer.status, 0);
      assert.deepEqual(await names(gateway), ['disk0', 'local', 'more']);
    };
    await refused(['more'], /16 MiB in the data directory are deleted.*\nkeepgate: write --confirm more where nobody/);
    await refused(['more', '--confirm', 'disk0'], /^keepgate: that is not its name; nothing was removed\n/);
    await refused(['none', '--confirm', 'none'], /^keepgate: there is no volume "none"\. /);
    await refused(['disk0', '--confirm', 'disk0'], /^keepgate: volume disk0 stands in the configuration: take it out/);
    const client = await attach(gateway, 'more');
    await refused(
      ['more', '--confirm', 'more'],
      /^keepgate: volume more is in use by nbd 127\.0\.0\.1: detach it first/,
    );
    await client.disconnect();
    const hidden = `${gateway.storeDirectory}-away`;
    await rename(gateway.storeDirectory, hidden);
    try {
      await write(gateway, 'more', 0, randomBytes(4096));
      await refused(
        ['more', '--confirm', 'more'],
        /^keepgate: the bucket of volume more lacks what was written last\. /,
      );
    } finally {
      await rename(hidden, gateway.storeDirectory);
    }
    // And it is served as before.
    await read(gateway, 'more', 0);
  });

  it('is gone with its directory, and its bucket stays; another one may have its name', async () => {
    await gateway.drain('more');
    const removed = await remove('more', '--confirm', 'more');
    assert.match(removed.stdout, /^more was removed from this gateway; /, removed.stderr);
    assert.deepEqual(await names(gateway), ['disk0', 'local']);
    assert.deepEqual(await entries(gateway), []);
    const all = join(gateway.dataDir, 'volumes');
    await eventually('its directory is gone', async () => (await readdir(all)).sort().join() === 'disk0,local');
    await assert.rejects(attach(gateway, 'more'));
    assert.equal(await gateway.metric('keepgate_volume_size_bytes', '"more"'), 0);
    const listed = await gateway.command(['remote', 'ls', `file://${gateway.storeDirectory}`]);
    assert.match(listed.stdout, / more /);
    const rm = ['remote', 'rm', `file://${gateway.storeDirectory}`, 'more', '--force', '--confirm', 'more', '--json'];
    const { name, objects } = JSON.parse((await gateway.command(rm)).stdout) as { name: string; objects: number };
    assert.equal(name, 'more');
    assert.ok(objects > 0);
    const again = await gateway.command([
      ...['volume', 'add', 'more', '8MiB'],
      ...['--settings', '{ buffer: { size: 64MiB }, replicate: { enabled: false } }'],
    ]);
    assert.equal(again.status, 0, again.stderr);
    assert.ok((await read(gateway, 'more', 0)).equals(Buffer.alloc(mib)));
    const content = randomBytes(mib);
    await write(gateway, 'more', 0, content);
    await gateway.kill();
    await gateway.startAgain();
    assert.ok((await read(gateway, 'more', 0)).equals(content));
  });

  it('leaves nothing where the process ends before all of it is deleted', async () => {
    const left = join(gateway.dataDir, 'volumes', '.removed-00000000-0000-4000-8000-000000000000');
    await gateway.stop();
    await mkdir(join(left, 'log'), { recursive: true });
    await writeFile(join(left, 'log', '00000001'), 'left');
    await gateway.startAgain();
    assert.ok(!existsSync(left));
  });
});

describe('a gateway that is still starting', () => {
  it('changes nothing about its volumes', async () => {
    const gateway = await TestGateway.start({ volumes: [disk, local] });
    try {
      const added = { name: 'added', size: '8MiB', buffer: { size: '64MiB' }, replicate: { enabled: false } };
      const token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const add = async (): Promise<number | undefined> => {
        const asked = fetch(`${gateway.apiUrl}/v1/volumes`, { method: 'POST', headers, body: JSON.stringify(added) });
        return (await asked.catch(() => undefined))?.status;
      };
      await gateway.stop();
      const held = {
        file: 'src/gateway/gateway.js',
        find: 'await this.#openVolumes();',
        replace: `console.error('HELD BY', process.pid);
          await new Promise((resolve) => process.once('SIGUSR2', resolve));
          await this.#openVolumes();`,
      };
      const started = gateway.startAgain({ patches: [held] });
      const pid = await eventuallyHeld(gateway);
      await eventually('its API refuses', async () => (await add()) === 503);
      process.kill(pid, 'SIGUSR2');
      await started;
      assert.deepEqual(await entries(gateway), []);
      assert.equal(await add(), 201);
      assert.deepEqual(await names(gateway), ['disk0', 'local', 'added']);
    } finally {
      await gateway.dispose();
    }
  });
});

describe('a configuration that is read again', () => {
  it('adds what it names, takes out what it no longer names when nobody has it, and deletes nothing', async () => {
    const gateway = await TestGateway.start({ volumes: [disk, local] });
    try {
      const reread = async (volumes: readonly object[], line: string): Promise<void> => {
        const content = JSON.parse(await readFile(gateway.configFile, 'utf8')) as Record<string, unknown>;
        await writeFile(gateway.configFile, JSON.stringify({ ...content, volumes }));
        process.kill(gateway.pid, 'SIGHUP');
        await eventually(line, () => gateway.log().includes(line), { explain: () => gateway.log() });
      };
      const byApi = await gateway.command([
        ...['volume', 'add', 'added', '8MiB'],
        ...['--settings', '{ buffer: { size: 64MiB }, replicate: { enabled: false } }'],
      ]);
      assert.equal(byApi.status, 0, byApi.stderr);
      await reread([disk, local, { ...disk, name: 'second' }], '"volume":"second","msg":"volume added"');
      const content = randomBytes(mib);
      await write(gateway, 'second', 0, content);
      await gateway.drain('second');
      const client = await attach(gateway, 'second');
      await reread([disk, local], 'volume second is not in the configuration any more, and is served on');
      assert.equal((await client.request({ type: CMD.WRITE, offset: mib, payload: content })).error, 0);
      await client.disconnect();
      await eventually('nobody has it', async () => ((await gateway.api('/v1/sessions')) as object[]).length === 0);
      await reread([disk, local], 'volume second is not served any more');
      assert.deepEqual(await names(gateway), ['disk0', 'local', 'added']);
      await assert.rejects(attach(gateway, 'second'));
      assert.deepEqual(await directories(gateway), ['added', 'disk0', 'local', 'second']);
      // It is served again with all that it had, what was not sent included.
      await reread([disk, local, { ...disk, name: 'second' }], 'reading the configuration again');
      await eventually('it is there', async () => (await stateOf(gateway, 'second')) === 'online');
      assert.ok((await read(gateway, 'second', 0)).equals(content));
      assert.ok((await read(gateway, 'second', mib)).equals(content));
      await gateway.drain('second');
    } finally {
      await gateway.dispose();
    }
  });

  it('grows what has a larger size in it, also while it is attached, and says that nothing shrinks', async () => {
    const gateway = await TestGateway.start({ volumes: [disk, local] });
    try {
      const size = (volume: string): Promise<number> =>
        gateway.metric('keepgate_volume_size_bytes', `"${volume}"`).then((bytes) => bytes / mib);
      let rereads = 0;
      const reread = async (sizes: readonly [string, string]): Promise<string> => {
        const at = gateway.log().length;
        const [first, second] = sizes;
        await gateway.reconfigure({
          volumes: [
            { ...disk, size: first },
            { ...local, size: second },
          ],
          bandwidth: { upload: `${++rereads}MB/s` },
        });
        // It changes every time, and before the volumes do.
        const said = (): string => gateway.log().slice(at);
        await eventually('it is through', () => said().includes('bandwidth changed'));
        return said();
      };
      const client = await attach(gateway, 'disk0');
      const grown = await reread(['32MiB', '16MiB']);
      await eventually('it is larger', async () => (await size('disk0')) === 32);
      assert.doesNotMatch(grown, /volumes: disk0 changed/);
      // One that is larger already is left, with a line only when the configuration says something new.
      assert.equal((await gateway.command(['resize', 'local', '24MiB'])).status, 0);
      const line =
        /volume local has 24 MiB and keeps them: a volume never shrinks, and size: 20 MiB is the least it has/g;
      await reread(['32MiB', '20MiB']);
      await eventually('it says so', () => [...gateway.log().matchAll(line)].length === 1);
      await reread(['40MiB', '20MiB']);
      await eventually('the other one grows', async () => (await size('disk0')) === 40);
      assert.equal(await size('local'), 24);
      assert.equal(
        (await client.request({ type: CMD.WRITE, offset: 39 * mib, payload: Buffer.alloc(mib, 1) })).error,
        0,
      );
      await client.disconnect();
      await gateway.stop();
      assert.equal([...gateway.log().matchAll(line)].length, 1);
      await gateway.startAgain();
      assert.deepEqual([await size('disk0'), await size('local')], [40, 24]);
    } finally {
      await gateway.dispose();
    }
  });
});
