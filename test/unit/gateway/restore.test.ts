/** The way back: write, drain, lose the data directory, restore with the bucket and the key, compare. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { CMD, withNbdDisk } from '../../fake/nbd-client.js';
import { TestGateway, keepgatePath } from '../../tool/gateway.js';
import type { GatewayOptions } from '../../tool/gateway.js';
import { attempt, eventually } from '../../tool/process.js';

const mib = 1024 * 1024;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };

const write = (gateway: TestGateway, offset: number, payload: Buffer): Promise<void> =>
  withNbdDisk(gateway.nbdPort, 'disk0', async (client) => {
    const { error } = await client.request({ type: CMD.WRITE, offset, payload });
    assert.equal(error, 0);
  });

const readAll = (gateway: TestGateway, volume: string): Promise<Buffer> =>
  withNbdDisk(gateway.nbdPort, volume, async (client) => {
    const { error, data } = await client.request({ type: CMD.READ, offset: 0, length: client.sizeBytes });
    assert.equal(error, 0);
    return data;
  });

describe('restore', () => {
  let first: TestGateway;
  let folder: string;
  const expected = Buffer.alloc(16 * mib);
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-restore-'));
    first = await TestGateway.start({ volumes: [disk] });
    for (const [offset, length] of [
      [0, mib],
      [5 * mib, 3 * mib],
      [5 * mib + 4096, 8192],
    ] as const) {
      const payload = randomBytes(length);
      payload.copy(expected, offset);
      await write(first, offset, payload);
    }
    await first.drain('disk0');
  });
  after(async () => {
    await first.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  const restore = (dataDir: string, ...args: string[]) =>
    attempt(process.execPath, [
      ...[keepgatePath, 'restore', 'disk0', '--from', `file://${first.storeDirectory}`, '--full'],
      ...['--key-file', first.keyFile, '--data-dir', dataDir, ...args],
    ]);
  /** A gateway on what was restored into FOLDER/name/data. */
  const serve = async (name: string, options: GatewayOptions): Promise<TestGateway> =>
    TestGateway.start({ ...options, folder: join(folder, name), store: { url: `file://${first.storeDirectory}` } });

  it('makes a detached copy that equals the volume, while the owner goes on', async () => {
    const ended = await restore(join(folder, 'copy', 'data'), '--as', 'copy0');
    assert.equal(ended.stderr.includes('restoring disk0: '), true);
    assert.match(ended.stdout, /^restored copy0 \([0-9a-f-]{36}\), 16 MiB, recovery point 1-\d+ of /);
    assert.match(ended.stdout, /It is a detached copy\./);
    assert.equal(ended.status, 0);
    assert.deepEqual(await readdir(join(folder, 'copy', 'data')), ['lock', 'volumes']);
    const copy = await serve('copy', { volumes: [{ ...disk, name: 'copy0', replicate: { enabled: false } }] });
    try {
      assert.ok((await readAll(copy, 'copy0')).equals(expected));
      assert.ok((await readAll(first, 'disk0')).equals(expected));
      const [original] = (await first.api('/v1/volumes')) as VolumeReport[];
      const [detached] = (await copy.api('/v1/volumes')) as VolumeReport[];
      assert.notEqual(detached?.uuid, original?.uuid);
    } finally {
      await copy.dispose();
    }
  });

  it('gives a snapshot back as it was at the call, whatever was written since', async () => {
    const snapshot = (...args: string[]) => first.command(['snapshot', ...args]);
    const taken = await snapshot('create', 'disk0', 'before');
    assert.match(taken.stdout, /^disk0: snapshot before of \d{4}-/);
    const refused = await snapshot('create', 'disk0', 'before');
    assert.match(refused.stderr, /^keepgate: volume disk0 has a snapshot "before" already/);
    assert.equal(refused.status, 2);
    assert.equal((await snapshot('create', 'disk0', '-x')).status, 2);
    await write(first, 0, randomBytes(4096));
    await first.drain('disk0');
    await eventually('the snapshot is complete', async () =>
      /before +\S+ +complete +16 MiB +4 MiB/.test((await snapshot('list', 'disk0')).stdout),
    );
    const ended = await restore(join(folder, 'snap', 'data'), '--as', 'copy2', '--snapshot', 'before', '--json');
    assert.equal(ended.status, 0, ended.stderr);
    assert.doesNotMatch(ended.stderr, /restoring/);
    const { name, sizeBytes, detached, loss } = JSON.parse(ended.stdout) as Record<string, unknown>;
    assert.deepEqual([name, sizeBytes, detached, loss], ['copy2', 2 ** 24, true, null]);
    const copy = await serve('snap', { volumes: [{ ...disk, name: 'copy2', replicate: { enabled: false } }] });
    try {
      assert.ok((await readAll(copy, 'copy2')).equals(expected));
    } finally {
      await copy.dispose();
    }
    const reverted = await snapshot('revert', 'disk0', 'before');
    assert.match(reverted.stdout, /disk0 is what snapshot before is; what it was is snapshot before-revert-\S+\n$/);
    assert.ok((await readAll(first, 'disk0')).equals(expected));
    const [kept = ''] = /before-revert-\S+/.exec(reverted.stdout) ?? [];
    assert.equal((await snapshot('delete', 'disk0', kept)).status, 0);
    assert.match((await snapshot('revert', 'disk0', 'nothing')).stderr, /has no snapshot "nothing"/);
    assert.equal((await snapshot('delete', 'disk0', 'before')).stdout, 'disk0: snapshot before is deleted\n');
    assert.equal((await snapshot('list', 'disk0')).stdout, 'disk0 has no snapshots\n');
    await first.drain('disk0');
    const gone = await restore(join(folder, 'gone', 'data'), '--as', 'copy3', '--snapshot', 'before');
    assert.match(gone.stderr, /volume disk0 has no snapshot "before": it has none/);
  });

  it('refuses a directory that has the volume, another key, and a name that is not there', async () => {
    const dataDir = join(folder, 'copy', 'data');
    const again = await restore(dataDir, '--as', 'copy0');
    assert.match(
      again.stderr,
      /^keepgate: .*copy0 exists; nothing was overwritten\. It holds a whole volume: serve it as \{ name: copy0, /,
    );
    assert.equal(again.status, 2);
    const half = join(folder, 'half', 'volumes', 'copy0');
    await mkdir(half, { recursive: true });
    await writeFile(join(half, 'image'), '');
    const killed = await restore(join(folder, 'half'), '--as', 'copy0');
    assert.match(killed.stderr, /It holds no whole volume\. Move it away, or use --as NAME/);
    assert.deepEqual(await readdir(half), ['image']);
    const key = join(folder, 'other.key');
    await attempt(process.execPath, [keepgatePath, 'key', 'generate', key]);
    const foreign = await restore(join(folder, 'foreign'), '--key-file', key);
    assert.match(foreign.stderr, /^keepgate: .* the given key opens /);
    assert.equal(foreign.status, 2);
    const absent = await restore(join(folder, 'foreign'), '--key-file', join(folder, 'absent.key'));
    assert.match(
      absent.stderr,
      /absent\.key: there is no key here; what is needed is a copy of the key that the volume was made with/,
    );
    assert.equal(absent.status, 2);
    const args = ['restore', 'none', '--from', `file://${first.storeDirectory}`, '--full', '--key-file', first.keyFile];
    const none = await attempt(process.execPath, [keepgatePath, ...args, '--data-dir', join(folder, 'none')]);
    assert.match(none.stderr, /holds no volume named none/);
    assert.equal(none.status, 2);
  });

  it('leaves alone what else lies in the directory, whatever its name', async () => {
    const mine = join(folder, 'mine', 'restoring', 'thesis.txt');
    await mkdir(dirname(mine), { recursive: true });
    await writeFile(mine, 'mine');
    assert.equal((await restore(join(folder, 'mine'), '--as', 'copy9')).status, 0);
    assert.deepEqual(await readdir(join(folder, 'mine')), ['lock', 'restoring', 'volumes']);
    assert.equal(await readFile(mine, 'utf8'), 'mine');
  });

  it('takes the volume over; the old owner is fenced, keeps serving reads, and refuses writes', async () => {
    const ended = await restore(join(folder, 'new', 'data'), '--take-over');
    assert.match(ended.stdout, /This gateway continues the volume\./);
    assert.equal(ended.status, 0);
    await attempt('cp', [first.keyFile, join(folder, 'new', 'key')]);
    const heir = await serve('new', { volumes: [disk] });
    try {
      assert.ok((await readAll(heir, 'disk0')).equals(expected));
      const payload = randomBytes(4096);
      payload.copy(expected, 9 * mib);
      await write(heir, 9 * mib, payload);
      await heir.drain('disk0');
      await write(first, 0, randomBytes(4096));
      const old = async () => (await first.api('/v1/volumes/disk0')) as VolumeReport;
      await first.command(['drain', 'disk0']);
      await eventually('the old owner is fenced', async () => (await old()).state === 'fenced');
      assert.equal((await fetch(`${first.apiUrl}/healthz`)).status, 503);
      assert.equal((await old()).readOnly, true);
      const { error } = await withNbdDisk(first.nbdPort, 'disk0', (client) =>
        client.request({ type: CMD.WRITE, offset: 0, payload: Buffer.alloc(4096) }),
      );
      assert.equal(error, 1, 'EPERM');
      await readAll(first, 'disk0');
      await heir.stop();
      await heir.startAgain();
      assert.ok((await readAll(heir, 'disk0')).equals(expected));
    } finally {
      await heir.dispose();
    }
  });
});
