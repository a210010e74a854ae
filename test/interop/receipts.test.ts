/** Receipts of a real gateway: exported by themselves, and read back at a start that finds its bucket rolled back. */
import assert from 'node:assert/strict';
import { cp, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { NbdClient } from '../crash/nbd-client.js';
import { eventually } from '../tool/process.js';
import { TestGateway } from '../tool/gateway.js';

interface ReportedVolume {
  readonly state: string;
  readonly readOnly: boolean;
  readonly reason: string | null;
  readonly replication: { readonly mode: string; readonly reason: string | null };
}

describe('receipts of a gateway', () => {
  it('show a bucket that was rolled back, alone or with the data directory', async () => {
    const volumes = (exportTo: string) => [
      { name: 'disk0', size: '8MiB', buffer: { size: '64MiB' }, receipts: { exportTo, every: '1s' } },
    ];
    const first = await TestGateway.start({ volumes: [{ name: 'disk0', size: '8MiB', buffer: { size: '64MiB' } }] });
    try {
      const receiptFile = join(first.folder, 'disk0.receipt');
      const segment = async (): Promise<number> =>
        Number(/"segment":(\d+)/.exec(await readFile(receiptFile, 'utf8').catch(() => ''))?.[1] ?? 0);
      const write = async (byte: number): Promise<void> => {
        const before = await segment();
        const nbd = await NbdClient.connect(first.nbdPort, 'disk0');
        await nbd.write(4096, Buffer.alloc(4096, byte));
        await nbd.close();
        await first.drain('disk0');
        await eventually('the receipt is exported', async () => (await segment()) > before);
      };
      const report = async (): Promise<ReportedVolume> => (await first.api('/v1/volumes/disk0')) as ReportedVolume;
      await first.stop();
      await first.startAgain({ volumes: volumes(receiptFile) });
      await write(1);
      const asked = await first.command(['receipt', 'disk0']);
      assert.equal(asked.stdout, await readFile(receiptFile, 'utf8'));
      await first.stop();
      const old = join(first.folder, 'old');
      await cp(first.storeDirectory, join(old, 'store'), { recursive: true });
      await cp(first.dataDir, join(old, 'data'), { recursive: true });
      await first.startAgain();
      await write(2);
      await first.stop();

      const rollBack = async (what: 'store' | 'data'): Promise<void> => {
        const target = what === 'store' ? first.storeDirectory : first.dataDir;
        await rm(target, { recursive: true });
        await cp(join(old, what), target, { recursive: true });
      };
      await rollBack('store');
      await first.startAgain();
      await eventually('it is noticed', async () => (await report()).replication.mode === 'blocked');
      const alone = await report();
      assert.match(alone.replication.reason ?? '', /not in the bucket any more; at least 1 segment and/);
      assert.equal(alone.state, 'online', 'clients are served from the directory, which is newer');
      await first.stop();

      await rollBack('data');
      await first.startAgain();
      await eventually('it is noticed', async () => (await report()).state === 'failed');
      const both = await report();
      assert.match(both.reason ?? '', /the exported receipt knows this volume up to LSN/);
      assert.equal(both.readOnly, true, 'old data takes no new writes');

      const from = ['--from', `file://${first.storeDirectory}`, '--full', '--as', 'copy'];
      const elsewhere = join(first.folder, 'elsewhere');
      const restored = await first.command([
        'restore',
        'disk0',
        ...from,
        '--receipt',
        receiptFile,
        '--data-dir',
        elsewhere,
      ]);
      assert.equal(restored.status, 1);
      assert.match(restored.stderr, /the bucket is older than the receipt: at least 1 segment \(/);
      const accepted = await first.command([
        ...['restore', 'disk0', ...from, '--receipt', receiptFile, '--data-dir', elsewhere],
        '--accept-loss',
      ]);
      assert.equal(accepted.status, 0, accepted.stderr);
      assert.match(accepted.stdout, /lost: the bucket is older than the receipt/);
    } finally {
      await first.dispose();
    }
  });
});
