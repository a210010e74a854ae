/** Two gateways with one key and one volume on one bucket: never a mixed history, and the loser knows that it lost (P7). */
import assert from 'node:assert/strict';
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NbdClient } from '../crash/nbd-client.js';
import { TestGateway } from '../tool/gateway.js';

const MIB = 1024 * 1024;
const volumes = [
  { name: 'disk0', size: '32MiB', buffer: { size: '64MiB' }, replicate: { segmentSize: '1MiB', interval: '100ms' } },
];

interface ReportedVolume {
  readonly state: string;
  readonly readOnly: boolean;
}

const stateOf = async (gateway: TestGateway): Promise<ReportedVolume> =>
  (await gateway.api('/v1/volumes/disk0')) as ReportedVolume;

/** What is on the volume of a gateway that was stopped. */
const imageOf = (dataDir: string, name: string): Promise<Buffer> => readFile(join(dataDir, 'volumes', name, 'image'));

describe('two gateways on one bucket', () => {
  for (const pausedAfterMs of [0, 40, 150]) {
    it(`leave one history when the owner is paused, ${pausedAfterMs} ms after it began to upload, and wakes up later`, async () => {
      const first = await TestGateway.start({ volumes });
      const folder = await mkdtemp(join(tmpdir(), 'keepgate-second-'));
      let second: TestGateway | undefined;
      try {
        const nbd = await NbdClient.connect(first.nbdPort, 'disk0');
        await nbd.write(0, Buffer.alloc(MIB, 1));
        await first.drain('disk0');
        for (let at = 1; at < 24; at++) await nbd.write(at * MIB, Buffer.alloc(MIB, 1 + at));
        await nbd.flush();
        await sleep(pausedAfterMs);
        process.kill(first.pid, 'SIGSTOP');

        const from = ['--from', `file://${first.storeDirectory}`, '--full'];
        await mkdir(join(folder, 'data'));
        await copyFile(first.keyFile, join(folder, 'key'));
        const restored = await first.command([
          'restore',
          'disk0',
          ...from,
          '--take-over',
          '--data-dir',
          join(folder, 'data'),
        ]);
        assert.equal(restored.status, 0, restored.stderr);
        second = await TestGateway.start({ volumes, folder, store: { url: `file://${first.storeDirectory}` } });
        const other = await NbdClient.connect(second.nbdPort, 'disk0');
        await other.write(30 * MIB, Buffer.alloc(MIB, 0xee));
        await other.close();
        await second.drain('disk0');

        process.kill(first.pid, 'SIGCONT');
        await nbd.write(31 * MIB, Buffer.alloc(MIB, 0xaa)).catch(() => undefined);
        const drained = await first.command(['drain', 'disk0']);
        assert.equal(drained.status, 1, 'the loser cannot drain');
        assert.equal((await stateOf(first)).state, 'fenced');
        await nbd.close().catch(() => undefined);
        // Durably: also after it was killed and started again.
        await first.kill();
        await first.startAgain();
        assert.deepEqual(await stateOf(first).then(({ state, readOnly }) => ({ state, readOnly })), {
          state: 'fenced',
          readOnly: true,
        });
        const takeover = await first.command(['takeover', 'disk0']);
        assert.equal(takeover.status, 1);
        assert.match(takeover.stderr, /both went on from LSN|this directory lacks/);
        assert.equal((await stateOf(first)).state, 'fenced');
        const refused = await second.command(['takeover', 'disk0']);
        assert.match(refused.stderr, /nothing to take over/);

        // The owner goes on, and the bucket is exactly what it has.
        const again = await NbdClient.connect(second.nbdPort, 'disk0');
        await again.write(29 * MIB, Buffer.alloc(MIB, 0xdd));
        await again.close();
        await second.drain('disk0');
        await second.stop();
        const verified = await second.command(['remote', 'verify', `file://${first.storeDirectory}`, 'disk0']);
        assert.equal(verified.status, 0, verified.stdout + verified.stderr);
        const copy = await second.command(['restore', 'disk0', ...from, '--as', 'copy']);
        assert.equal(copy.status, 0, copy.stderr);
        const bucket = await imageOf(second.dataDir, 'copy');
        const filledWith = (at: number, byte: number): boolean =>
          bucket.subarray(at * MIB, (at + 1) * MIB).equals(Buffer.alloc(MIB, byte));
        // What the first one had sent is a prefix of what it wrote; then comes the second one's alone.
        const prefix = Array.from({ length: 24 }, (_, at) => at).findIndex((at) => !filledWith(at, 1 + at));
        const sent = prefix < 0 ? 24 : prefix;
        assert.ok(sent >= 1, 'what was drained is there');
        for (let at = sent; at < 29; at++) assert.ok(filledWith(at, 0), `MiB ${at} behind the first ${sent}`);
        assert.ok(filledWith(29, 0xdd) && filledWith(30, 0xee), 'the second one’s writes are there');
        assert.ok(filledWith(31, 0), 'nothing of the loser came in');
      } finally {
        process.kill(first.pid, 'SIGCONT');
        await second?.dispose();
        await first.dispose();
        await rm(folder, { recursive: true, force: true });
      }
    });
  }
});
