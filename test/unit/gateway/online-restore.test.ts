/** A restore into a running gateway. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { CMD, withNbdDisk } from '../../fake/nbd-client.js';
import { TestGateway } from '../../tool/gateway.js';
import { eventually } from '../../tool/process.js';
import type { SourcePatch } from '../../tool/source-patch.js';

const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };

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
      await withNbdDisk(gateway.nbdPort, 'disk0', async (client) => {
        await client.request({ type: CMD.WRITE, offset: 0, payload: randomBytes(4096) });
      });
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
});
