/** The model behind docs/scale.md against a whole gateway on an S3: what it asks for in a life of a volume. No time counts. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createRequests, restoreRequests, startRequests } from '../../src/cli/store-requests.js';
import { ObjectNames } from '../../src/remote/name.js';
import { NbdClient } from '../crash/nbd-client.js';
import { startDiskS3 } from '../fake/disk-s3.js';
import type { DiskS3 } from '../fake/disk-s3.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { attempt } from '../tool/process.js';
import { countKinds, total } from './kinds.js';
import type { Counts } from './kinds.js';

const MIB = 1024 * 1024;
const SEGMENTS = 32;
const env = { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any', AWS_REGION: 'us-east-1' };
// Nothing goes by its age: what is sent depends on what is written alone.
const replicate = { interval: '1h', segmentSize: '1MiB' };
const disk0 = { name: 'disk0', size: '64MiB', buffer: { size: '128MiB' }, replicate };

async function write(gateway: TestGateway, volume: string, bytes: Buffer): Promise<void> {
  const nbd = await NbdClient.connect(gateway.nbdPort, volume);
  for (let at = 0; at < bytes.length; at += MIB) await nbd.write(at, bytes.subarray(at, at + MIB));
  await nbd.close();
  await gateway.drain(volume);
}

/** Counts what `act` asks of the store. */
async function during(s3: DiskS3, act: () => Promise<void>): Promise<Counts> {
  const from = s3.requests.length;
  await act();
  return countKinds(s3.requests.slice(from));
}

const near = (what: string, modelled: number, counted: number, share: number): void =>
  assert.ok(Math.abs(modelled - counted) <= share * counted, `${what}: ${modelled} modelled, ${counted} counted`);

describe('the model of requests', () => {
  it('counts as a gateway does: creating, writing, starting and restoring volumes', async () => {
    const s3 = await startDiskS3();
    const store = { url: 's3://bucket/prefix', endpoint: s3.endpoint, forcePathStyle: true };
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-scale-'));
    let gateway: TestGateway | undefined;
    try {
      const written = await during(s3, async () => {
        gateway = await TestGateway.start({ volumes: [disk0], store, env, folder });
        await write(gateway, 'disk0', randomBytes(SEGMENTS * MIB));
      });
      assert.ok(gateway !== undefined);
      const created = createRequests(0);
      assert.equal(total(written, 'put ') - total(written, 'put segments') - checkpointPuts(written), created.puts);
      near('segments', SEGMENTS, total(written, 'put segments'), 0.15);

      const running = gateway;
      const restarted = await during(s3, async () => {
        await running.stop();
        await running.startAgain();
        await write(running, 'disk0', randomBytes(4096));
      });
      const start = startRequests({ segmentsSinceCheckpoint: 0, objects: s3.keys().length });
      // The fence lies among the segments, and the block that was written is one.
      assert.equal(total(restarted, 'put ') - checkpointPuts(restarted) - 1, start.puts);
      assert.equal(total(restarted, 'delete probe'), start.deletes);

      const second = await during(s3, async () => {
        await running.stop();
        await running.startAgain({ volumes: [disk0, { ...disk0, name: 'disk1' }] });
        await write(running, 'disk1', randomBytes(4096));
      });
      // Both volumes probe, find their keys and read themselves; the second also looks at the first.
      const other = createRequests(1);
      assert.equal(total(second, 'list volumes'), 2);
      assert.equal(total(second, 'get volume'), 3);
      assert.equal(total(second, 'put probe') + 3, 9 + other.puts);

      await running.stop();
      const from = [
        '--from',
        store.url,
        '--endpoint',
        s3.endpoint,
        '--force-path-style',
        '--key-file',
        running.keyFile,
      ];
      const restored = await during(s3, async () => {
        const args = ['restore', 'disk0', ...from, '--full', '--as', 'copy', '--data-dir', join(folder, 'copy')];
        const ended = await attempt(process.execPath, [keepgatePath, ...args], { env, timeoutMs: 120_000 });
        assert.equal(ended.status, 0, `${ended.stdout}${ended.stderr}`);
      });
      const segments = total(written, 'put segments') + 1;
      // How many checkpoints there are depends on how fast this machine is.
      const segmentsSinceCheckpoint = sinceCheckpoint(s3.keys(), writtenVolume(s3));
      const modelled = restoreRequests({ segments, mapShards: 1, segmentsSinceCheckpoint, othersUnderPrefix: 1 });
      near('GETs of a restore', modelled.gets, total(restored, 'get '), 0.3);
      assert.equal(total(restored, 'put pins'), modelled.puts);
      assert.equal(total(restored, 'delete pins'), modelled.deletes);
    } finally {
      await gateway?.dispose();
      await s3.stop();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

/** How many there are depends on how fast this machine is. */
function checkpointPuts(counts: Counts): number {
  return total(counts, 'put checkpoints') + total(counts, 'put shards');
}

/** The uuid of the volume that has the most objects: the one that was written. */
function writtenVolume(s3: DiskS3): string {
  const counts = new Map<string, number>();
  for (const key of s3.keys()) {
    const uuid = /[0-9a-f]{8}-[0-9a-f-]{27}/.exec(key)?.[0];
    if (uuid !== undefined) counts.set(uuid, (counts.get(uuid) ?? 0) + 1);
  }
  return [...counts].sort(([, left], [, right]) => right - left)[0]?.[0] ?? '';
}

function sinceCheckpoint(keys: readonly string[], uuid: string): number {
  const names = new ObjectNames(uuid);
  let newest = 0;
  const segments: number[] = [];
  for (const key of keys) {
    const parsed = names.parse(key.slice(key.indexOf(uuid)));
    if (parsed?.kind === 'checkpoint') newest = Math.max(newest, parsed.number);
    if (parsed?.kind === 'segment') segments.push(parsed.number);
  }
  return segments.filter((number) => number > newest).length;
}
