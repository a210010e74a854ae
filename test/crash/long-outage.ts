/**
 * An outage that is much too long for the buffer: the store is down while a client overwrites many times what the buffer
 * holds, and comes back behind a line that is slower than the client. The process is killed while a round goes up. All
 * the while the bucket is restored, and each copy must be a prefix of what the client wrote.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startDiskS3 } from '../fake/disk-s3.js';
import { TestGateway, type Settings } from '../tool/gateway.js';
import { eventually } from '../tool/process.js';
import { StoreFaultProxy } from '../tool/store-fault-proxy.js';
import { HistoryLedger } from './history-ledger.js';
import { runLoad, seededNumbers } from './load.js';
import { NbdClient } from './nbd-client.js';

const volume = 'disk';
const MIB = 1024 * 1024;
const sizeMiB = 64;
const sectorsPerWriteMax = 256;
/** On average half of the longest write. */
const writesPerMiB = (2 * MIB) / (sectorsPerWriteMax * 512);

export interface LongOutageOptions {
  readonly seed: number;
  /** Written while the store is down. */
  readonly mebibytes: number;
  readonly say: (line: string) => void;
}

export interface LongOutageEnd {
  readonly acknowledged: number;
  /** Different ones that were seen since the store was back. */
  readonly recoveryPoints: number;
  readonly restores: number;
}

interface Report {
  readonly trackedDirtyBlocks: number;
  readonly replication: { readonly mode: string; readonly recoveryPoint: { readonly segment: number } | null };
}

export async function longOutage({ seed, mebibytes, say }: LongOutageOptions): Promise<LongOutageEnd> {
  const random = seededNumbers(seed);
  const store = await startDiskS3();
  const proxy = await StoreFaultProxy.start(store.port, seededNumbers(seed + 1));
  proxy.faulty = false;
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-outage-'));
  const settings: Settings = { url: 's3://outage/prefix', endpoint: proxy.endpoint, forcePathStyle: true };
  const gateway = await TestGateway.start({
    volumes: [{ name: volume, size: `${sizeMiB}MiB`, buffer: { size: '64MiB' }, replicate: { interval: '500ms' } }],
    store: settings,
    bandwidth: { upload: '16MB/s' },
    env: { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any', AWS_REGION: 'us-east-1' },
  });
  const ledger = new HistoryLedger(sizeMiB * MIB);
  let acknowledged = 0;
  let restores = 0;
  const write = async (onAcknowledged: (count: number) => boolean): Promise<readonly Error[]> => {
    const clients = [await NbdClient.connect(gateway.nbdPort, volume)];
    const common = { ledger, random, requestsPerClient: 8, sectorsPerWriteMax };
    const end = await runLoad({ ...common, clients, onAcknowledged });
    for (const client of clients) client.destroy();
    acknowledged += end.acknowledged;
    return end.errors;
  };
  const report = async (): Promise<Report> => (await gateway.api(`/v1/volumes/${volume}`)) as Report;
  const reaches = async (mode: string): Promise<Report> => {
    let now = await report();
    const isThere = async (): Promise<boolean> => {
      now = await report();
      return now.replication.mode === mode;
    };
    await eventually(`replication is ${mode}`, isThere, { timeoutMs: 300_000, explain: () => gateway.log() });
    return now;
  };
  const judge = async (): Promise<void> => {
    restores += 1;
    const dataDir = join(folder, `copy${restores}`);
    const from = [
      'restore',
      volume,
      '--from',
      String(settings['url']),
      '--full',
      '--as',
      'copy',
      '--data-dir',
      dataDir,
    ];
    const restored = await gateway.command(from);
    assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
    assert.deepEqual(ledger.judge(await readFile(join(dataDir, 'volumes', 'copy', 'image'))), [], restored.stdout);
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    assert.deepEqual(await write((count) => count < 100), []);
    await gateway.drain(volume, 300_000);
    ledger.drained();
    proxy.down = true;
    const outage = Math.ceil(mebibytes * writesPerMiB);
    assert.deepEqual(await write((count) => count < outage), [], `a client met an error\n${gateway.log()}`);
    const { trackedDirtyBlocks } = await reaches('tracking');
    say(`${mebibytes} MiB written while the store was down; ${trackedDirtyBlocks} blocks differ from the bucket`);
    assert.ok(trackedDirtyBlocks > 0);

    proxy.down = false;
    const points = new Set<number>();
    // Faster than the line, so that what a round has not sent yet is overwritten.
    let writing = true;
    const first = write(() => writing);
    await reaches('resyncing');
    await gateway.kill();
    await first;
    say('killed while a round went up');
    await gateway.startAgain();
    const second = write(() => writing);
    while (points.size < 3) {
      const before = points.size;
      await eventually(
        'a further recovery point',
        async () => {
          const { recoveryPoint } = (await report()).replication;
          if (recoveryPoint !== null) points.add(recoveryPoint.segment);
          return points.size > before;
        },
        { timeoutMs: 300_000, explain: () => gateway.log() },
      );
      await judge();
    }
    say(`${points.size} recovery points under load, each a prefix`);
    writing = false;
    assert.deepEqual(await second, [], `a client met an error\n${gateway.log()}`);
    await gateway.drain(volume, 600_000);
    ledger.drained();
    await judge();
    assert.equal((await report()).trackedDirtyBlocks, 0);
    await gateway.stop();
    return { acknowledged, recoveryPoints: points.size, restores };
  } finally {
    await gateway.dispose();
    await proxy.stop();
    await store.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
