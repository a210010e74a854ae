/** A restored volume is served before its content is there: by real processes, through kills, while its owner goes on. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { CMD, withNbdDisk } from '../../fake/nbd-client.js';
import { TestGateway, keepgatePath } from '../../tool/gateway.js';
import { attempt, eventually } from '../../tool/process.js';

const mib = 1024 * 1024;
const sizeBytes = 16 * mib;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };

async function write(gateway: TestGateway, volume: string, offset: number, payload: Buffer): Promise<void> {
  const { error } = await withNbdDisk(gateway.nbdPort, volume, (client) =>
    client.request({ type: CMD.WRITE, offset, payload }),
  );
  assert.equal(error, 0);
}

async function read(gateway: TestGateway, volume: string, offset: number, length: number): Promise<Buffer> {
  const { error, data } = await withNbdDisk(gateway.nbdPort, volume, (client) =>
    client.request({ type: CMD.READ, offset, length }),
  );
  assert.equal(error, 0, gateway.log());
  return data;
}

describe('instant restore', () => {
  let owner: TestGateway;
  let folder: string;
  const expected = Buffer.alloc(sizeBytes);
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'keepgate-hydration-'));
    owner = await TestGateway.start({ volumes: [{ ...disk, replicate: { interval: '200ms', segmentSize: '1MiB' } }] });
    const payload = randomBytes(12 * mib);
    payload.copy(expected);
    await write(owner, 'disk0', 0, payload);
    await owner.drain('disk0');
  });
  after(async () => {
    await owner.dispose();
    await rm(folder, { recursive: true, force: true });
  });

  const restore = (name: string, ...args: string[]) =>
    attempt(process.execPath, [
      ...[keepgatePath, 'restore', 'disk0', '--from', `file://${owner.storeDirectory}`, '--key-file', owner.keyFile],
      ...['--data-dir', join(folder, name, 'data'), '--as', 'copy0', ...args],
    ]);
  /** A gateway of its own, which does not replicate, on what was restored; slow enough to be met while it fills. */
  const serve = (name: string, download: string): Promise<TestGateway> =>
    TestGateway.start({
      folder: join(folder, name),
      volumes: [{ ...disk, name: 'copy0', replicate: { enabled: false } }],
      bandwidth: { download },
    });
  const stateOf = async (gateway: TestGateway): Promise<VolumeReport> =>
    (await gateway.api('/v1/volumes/copy0')) as VolumeReport;

  it('serves at once, goes on filling after SIGKILL, and needs the bucket no more at the end', async () => {
    const ended = await restore('copy');
    assert.equal(ended.status, 0, ended.stderr);
    assert.match(ended.stdout, /^restored copy0 \([0-9a-f-]{36}\), 16 MiB, recovery point 1-\d+ of /);
    assert.match(ended.stdout, /Its content comes from the bucket while it is in use/);
    const content = Buffer.from(expected);
    const copy = await serve('copy', '1MB/s');
    try {
      assert.equal((await stateOf(copy)).state, 'hydrating');
      assert.ok((await read(copy, 'copy0', 11 * mib, 64 * 1024)).equals(content.subarray(11 * mib, 11 * mib + 65536)));
      assert.ok((await read(copy, 'copy0', 15 * mib, 4096)).equals(Buffer.alloc(4096)));
      for (const offset of [0, 5 * mib + 512, 14 * mib]) {
        const payload = randomBytes(offset === 0 ? mib : 1024);
        payload.copy(content, offset);
        await write(copy, 'copy0', offset, payload);
      }
      // The owner overwrites everything and compacts: what the copy still needs is pinned.
      for (let round = 0; round < 3; round++) await write(owner, 'disk0', 0, randomBytes(12 * mib));
      await owner.drain('disk0');
      await copy.kill();
      await copy.startAgain();
      const again = await stateOf(copy);
      assert.equal(again.state, 'hydrating', again.reason ?? '');
      const status = await copy.command(['status']);
      assert.match(status.stdout, /copy0 +hydrating/);
      assert.match(status.stdout, /copy0: .* still to come from the bucket that it was restored from/);
      assert.equal(status.status, 0);
      assert.equal((await fetch(`${copy.apiUrl}/healthz`)).status, 200);
      const scrubbed = await copy.command(['scrub', 'copy0']);
      assert.equal(scrubbed.status, 0, scrubbed.stdout + scrubbed.stderr);
      assert.ok((await read(copy, 'copy0', 0, 6 * mib)).equals(content.subarray(0, 6 * mib)));
      assert.ok((await copy.metric('keepgate_downloaded_bytes_total')) > mib);
      await copy.stop();
      await copy.startAgain({ bandwidth: { download: 'unlimited' } });
      await eventually('everything is here', async () => (await stateOf(copy)).state === 'online', {
        explain: () => copy.log(),
      });
      assert.equal(await copy.metric('keepgate_hydration_remaining_blocks'), 0);
      await rename(owner.storeDirectory, `${owner.storeDirectory}.away`);
      assert.ok((await read(copy, 'copy0', 0, sizeBytes)).equals(content));
      await copy.kill();
      await copy.startAgain();
      assert.equal((await stateOf(copy)).state, 'online');
      assert.ok((await read(copy, 'copy0', 0, sizeBytes)).equals(content));
    } finally {
      await rename(`${owner.storeDirectory}.away`, owner.storeDirectory).catch(() => undefined);
      await copy.dispose();
    }
  });

  it('adds a copy to a gateway that runs, which still has it after its next start', async () => {
    const content = await read(owner, 'disk0', 0, sizeBytes);
    await owner.drain('disk0');
    const args = ['restore', 'disk0', '--from', `file://${owner.storeDirectory}`];
    const ended = await owner.command([...args, '--as', 'copy1']);
    assert.equal(ended.status, 0, ended.stderr);
    assert.match(ended.stdout, /^restored copy1 \([0-9a-f-]{36}\), 16 MiB, recovery point .*; it is served\n/);
    assert.ok((await read(owner, 'copy1', 0, sizeBytes)).equals(content));
    const full = await owner.command([...args, '--as', 'copy2', '--full']);
    assert.equal(full.status, 0, full.stderr);
    const copies = async () => ((await owner.api('/v1/volumes')) as VolumeReport[]).map(({ name }) => name);
    assert.deepEqual(await copies(), ['disk0', 'copy1', 'copy2']);
    const states = (await owner.api('/v1/volumes')) as VolumeReport[];
    assert.equal(states.find(({ name }) => name === 'copy2')?.state, 'online');
    for (const [more, line] of [
      [['--as', 'copy1'], /this gateway has a volume copy1: use --as NAME/],
      [['--take-over'], /is that volume .*keepgate takeover disk0/],
      [['--as', 'copy3', '--snapshot', 'none'], /has no snapshot "none"/],
    ] as const) {
      const refused = await owner.command([...args, ...more]);
      assert.match(refused.stderr, line);
      assert.notEqual(refused.status, 0);
    }
    await owner.kill();
    await owner.startAgain();
    assert.deepEqual(await copies(), ['disk0', 'copy1', 'copy2']);
    for (const name of ['copy1', 'copy2']) assert.ok((await read(owner, name, 0, sizeBytes)).equals(content));
  });

  it('continues the volume at once: writes and replicates while its content still comes; the old owner is fenced', async () => {
    // Since its last start the owner has had nothing to send, and so owns nothing yet.
    await write(owner, 'disk0', 0, randomBytes(4096));
    const content = await read(owner, 'disk0', 0, sizeBytes);
    await owner.drain('disk0');
    const dataDir = join(folder, 'heir', 'data');
    const args = ['restore', 'disk0', '--from', `file://${owner.storeDirectory}`, '--key-file', owner.keyFile];
    const ended = await attempt(process.execPath, [keepgatePath, ...args, '--data-dir', dataDir, '--take-over']);
    assert.match(ended.stdout, /This gateway continues the volume\./, ended.stderr);
    await attempt('cp', [owner.keyFile, join(folder, 'heir', 'key')]);
    const heir = await TestGateway.start({
      folder: join(folder, 'heir'),
      store: { url: `file://${owner.storeDirectory}` },
      volumes: [{ ...disk, replicate: { interval: '200ms', segmentSize: '1MiB' } }],
      bandwidth: { download: '1MB/s' },
    });
    const stateOfHeir = async () => (await heir.api('/v1/volumes/disk0')) as VolumeReport;
    try {
      assert.equal((await stateOfHeir()).state, 'hydrating');
      for (const offset of [0, 3 * mib + 512]) {
        const payload = randomBytes(offset === 0 ? mib : 1024);
        payload.copy(content, offset);
        await write(heir, 'disk0', offset, payload);
      }
      await heir.drain('disk0');
      assert.equal((await stateOfHeir()).state, 'hydrating');
      await write(owner, 'disk0', 0, randomBytes(4096));
      await owner.command(['drain', 'disk0']);
      await eventually(
        'the old owner is fenced',
        async () => ((await owner.api('/v1/volumes')) as VolumeReport[]).some(({ state }) => state === 'fenced'),
        { explain: () => owner.log() + heir.log() },
      );
      await heir.kill();
      await heir.startAgain({ bandwidth: { download: 'unlimited' } });
      await eventually('everything is here', async () => (await stateOfHeir()).state === 'online', {
        explain: () => heir.log(),
      });
      assert.ok((await read(heir, 'disk0', 0, sizeBytes)).equals(content));
      // What is in the bucket now is the same, though the heir sent but a part of it.
      await heir.drain('disk0');
      const restored = await restore('again', '--full');
      assert.equal(restored.status, 0, restored.stderr);
      const copy = await serve('again', 'unlimited');
      try {
        assert.ok((await read(copy, 'copy0', 0, sizeBytes)).equals(content));
      } finally {
        await copy.dispose();
      }
    } finally {
      await heir.dispose();
    }
  });

  it('is refused where the key is another one, and leaves nothing behind', async () => {
    const key = join(folder, 'other.key');
    await attempt(process.execPath, [keepgatePath, 'key', 'generate', key]);
    const ended = await restore('foreign', '--key-file', key);
    assert.match(ended.stderr, /^keepgate: .* the given key opens /);
    assert.equal(ended.status, 2);
    assert.deepEqual(await readdir(join(folder, 'foreign', 'data')), ['lock']);
  });
});
