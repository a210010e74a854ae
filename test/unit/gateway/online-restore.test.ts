/** A restore into a running gateway. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { CMD, withNbdDisk } from '../../fake/nbd-client.js';
import { TestGateway } from '../../tool/gateway.js';
import { eventually } from '../../tool/process.js';
import type { SourcePatch } from '../../tool/source-patch.js';

const mib = 1024 * 1024;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };

const write = (gateway: TestGateway, volume: string, offset: number, payload: Buffer): Promise<void> =>
  withNbdDisk(gateway.nbdPort, volume, async (client) => {
    const { error } = await client.request({ type: CMD.WRITE, offset, payload });
    assert.equal(error, 0);
  });

const read = (gateway: TestGateway, volume: string, offset: number): Promise<Buffer> =>
  withNbdDisk(gateway.nbdPort, volume, async (client) => {
    const { error, data } = await client.request({ type: CMD.READ, offset, length: mib });
    assert.equal(error, 0);
    return data;
  });

const stateOf = async (gateway: TestGateway, volume: string): Promise<string> =>
  ((await gateway.api(`/v1/volumes/${volume}`)) as VolumeReport).state;

/** Once the pin stands, waits until it is interrupted, and takes its time to clean up. */
const heldUntilInterrupted: readonly SourcePatch[] = [
  {
    file: 'src/remote/restore-instant.js',
    find: 'const { receipt, acceptLoss, snapshot, checksums } = options;',
    replace: `console.error('THE RESTORE IS HELD');
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      const { receipt, acceptLoss, snapshot, checksums } = options;`,
  },
  {
    file: 'src/gateway/restore-volume.js',
    find: 'await sink?.close().catch(() => undefined);',
    replace: `await new Promise((resolve) => setTimeout(resolve, 1000));
      await sink?.close().catch(() => undefined);`,
  },
];

describe('a restore into a running gateway', () => {
  it('is ended by SIGTERM, which waits for that, and leaves nothing here or in the bucket', async () => {
    const gateway = await TestGateway.start({ volumes: [disk], patches: heldUntilInterrupted });
    try {
      await write(gateway, 'disk0', 0, randomBytes(4096));
      await gateway.drain('disk0');
      const from = `file://${gateway.storeDirectory}`;
      const command = gateway.command(['restore', 'disk0', '--from', from, '--as', 'copy0']);
      await eventually('the restore is under way', () => gateway.log().includes('THE RESTORE IS HELD'), {
        explain: () => gateway.log(),
      });
      const [uuid = ''] = (await readdir(gateway.storeDirectory)).filter((name) => /^[0-9a-f-]{36}$/.test(name));
      const pins = join(gateway.storeDirectory, uuid, 'pins');
      assert.equal((await readdir(pins)).length, 1);
      await gateway.stop();
      assert.notEqual((await command).status, 0);
      assert.deepEqual(await readdir(join(gateway.dataDir, 'volumes')), ['disk0']);
      assert.ok(!(await readdir(gateway.dataDir)).includes('.keepgate-restoring'));
      assert.deepEqual(existsSync(pins) ? await readdir(pins) : [], []);
    } finally {
      await gateway.dispose();
    }
  });

  it('takes a volume over that lies in the gateway’s own store, and keeps it; its former owner is fenced', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-online-'));
    const owner = await TestGateway.start({ volumes: [disk] });
    const url = `file://${owner.storeDirectory}`;
    let heir: TestGateway | undefined;
    try {
      const content = randomBytes(mib);
      await write(owner, 'disk0', 4 * mib, content);
      await owner.drain('disk0');
      await copyFile(owner.keyFile, join(folder, 'key'));
      heir = await TestGateway.start({ folder, volumes: [{ ...disk, name: 'disk1' }], store: { url } });
      const take = (...args: string[]) => heir!.command(['restore', 'disk0', '--from', url, '--take-over', ...args]);
      const other = await take('--from', `file://${heir.storeDirectory}`);
      assert.match(
        other.stderr,
        /^keepgate: this gateway replicates to file:.*take over only what lies in its own store/,
      );
      assert.equal(other.status, 1);
      assert.match((await take('--as', 'disk1')).stderr, /this gateway has a volume disk1: use --as NAME/);
      const taken = await take();
      assert.match(taken.stdout, /^restored disk0 .*; this gateway continues it, and serves it\n$/, taken.stderr);
      const again = await take('--as', 'twice');
      assert.match(again.stderr, /volume disk0 of this gateway is that volume .*keepgate takeover disk0/);
      assert.deepEqual((await readdir(join(heir.dataDir, 'volumes'))).sort(), ['disk0', 'disk1']);
      assert.ok((await read(heir, 'disk0', 4 * mib)).equals(content));
      const more = randomBytes(mib);
      await write(heir, 'disk0', 0, more);
      await heir.drain('disk0');
      await write(owner, 'disk0', 0, randomBytes(4096));
      await eventually('the former owner is fenced', async () => (await stateOf(owner, 'disk0')) === 'fenced');
      await heir.stop();
      await heir.startAgain();
      await eventually('all of it is here', async () => (await stateOf(heir!, 'disk0')) === 'online');
      assert.ok((await read(heir, 'disk0', 0)).equals(more));
      assert.ok((await read(heir, 'disk0', 4 * mib)).equals(content));
    } finally {
      await heir?.dispose();
      await owner.dispose();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
