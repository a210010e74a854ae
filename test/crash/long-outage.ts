/**
 * An outage that is much too long for the buffer: the store is down while a client overwrites many times what the buffer
 * holds, and comes back behind a line that is slower than the client. The process is killed while a round goes up, and
 * sends nothing of it twice; then it dies between steps of rounds whose order counts. All the while the bucket is
 * restored, and each copy must be a prefix of what the client wrote.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startDiskS3 } from '../fake/disk-s3.js';
import { TestGateway, type Settings } from '../tool/gateway.js';
import { eventually } from '../tool/process.js';
import { StoreFaultProxy } from '../tool/store-fault-proxy.js';
import { dieAt, failpointsInRound } from './failpoint.js';
import { HistoryLedger } from './history-ledger.js';
import { paceOf, runLoad, seededNumbers } from './load.js';
import { NbdClient } from './nbd-client.js';

const volume = 'disk';
const MIB = 1024 * 1024;
const sizeMiB = 64;
const sectorsPerWriteMax = 256;
/** Bytes per second: the line to the store, and a client that is faster, but does not write for ever more than it can judge. */
const lineRate = 10e6;
const clientRate = 3 * lineRate;
/** The default of a segment, and how many are on their way at a time. */
const segmentMiB = 8;
const segmentsInflight = 2;
/** Of a round, when the process is killed in it. */
const sentMiB = 30;
/** For whatever must come. */
const waitMaxMs = 300_000;
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
  readonly lsn: { readonly acknowledged: number };
  readonly replication: { readonly mode: string; readonly recoveryPoint: { readonly lsn: number } | null };
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
    bandwidth: { upload: `${lineRate / 1e6}MB/s` },
    env: { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any', AWS_REGION: 'us-east-1' },
  });
  const ledger = new HistoryLedger(sizeMiB * MIB);
  let acknowledged = 0;
  let restores = 0;
  const write = async (onAcknowledged: (count: number) => boolean): Promise<readonly Error[]> => {
    const clients = [await NbdClient.connect(gateway.nbdPort, volume)];
    const common = { ledger, random, requestsPerClient: 8, sectorsPerWriteMax, pace: paceOf(clientRate) };
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
    await eventually(`replication is ${mode}`, isThere, { timeoutMs: waitMaxMs, explain: () => gateway.log() });
    return now;
  };
  /** How many MiB of what the bucket gives back are not zeros. */
  const judge = async (): Promise<number> => {
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
    const image = await readFile(join(dataDir, 'volumes', 'copy', 'image'));
    assert.deepEqual(ledger.judge(image), [], restored.stdout);
    await rm(dataDir, { recursive: true, force: true });
    let blocks = 0;
    const zeros = Buffer.alloc(4096);
    for (let at = 0; at < image.length; at += 4096) if (zeros.compare(image, at, at + 4096) !== 0) blocks += 1;
    return (blocks * 4096) / MIB;
  };
  try {
    assert.deepEqual(await write((count) => count < 100), []);
    await gateway.drain(volume, waitMaxMs);
    ledger.drained();
    proxy.down = true;
    const outage = Math.ceil(mebibytes * writesPerMiB);
    assert.deepEqual(await write((count) => count < outage), [], `a client met an error\n${gateway.log()}`);
    const { trackedDirtyBlocks } = await reaches('tracking');
    say(`${mebibytes} MiB written while the store was down; ${trackedDirtyBlocks} blocks differ from the bucket`);
    assert.ok(trackedDirtyBlocks > 0);

    const lsnOf = async (): Promise<number> => (await report()).replication.recoveryPoint?.lsn ?? 0;
    // A round is of all that was written while the store was down.
    const lsnBefore = (await report()).lsn.acknowledged;
    const sent = (): number => proxy.segmentBytes / MIB;
    const sentBefore = sent();
    proxy.down = false;
    const points = new Set<number>();
    // Faster than the line, so that what a round has not sent yet is overwritten.
    let writing = true;
    const first = write(() => writing);
    await reaches('resyncing');
    const explain = (): string => gateway.log();
    await eventually('much of a round is sent', () => sent() - sentBefore >= sentMiB, {
      timeoutMs: waitMaxMs,
      explain,
    });
    await gateway.kill();
    await first;
    const sentByKill = sent() - sentBefore;
    await gateway.startAgain();
    await eventually('the round is applied', async () => (await lsnOf()) >= lsnBefore, {
      timeoutMs: waitMaxMs,
      explain,
    });
    const sentInAll = sent() - sentBefore;
    say(
      `killed when ${sentByKill.toFixed(1)} MiB of a round were sent; ${sentInAll.toFixed(1)} MiB in all until it is applied`,
    );
    // A round has every block at most once, and zeros cost nothing; what was on its way when the process died may be sent again,
    // and the next round begins at once.
    const mostMiB = (await judge()) * 1.02 + (segmentsInflight + 1) * segmentMiB;
    assert.ok(sentInAll <= mostMiB, `${sentInAll} MiB were sent, of ${mostMiB} at most\n${explain()}`);
    for (const failpoint of failpointsInRound) {
      await gateway.kill();
      await gateway.startAgain({ patches: dieAt(failpoint, { random }) });
      const deadline = Date.now() + waitMaxMs;
      await write(() => Date.now() < deadline);
      if (Date.now() >= deadline) {
        const now = JSON.stringify(await report());
        assert.fail(`not reached: ${failpoint.name}\n${now}\n${explain()}`);
      }
      assert.equal(await gateway.died(), 'SIGKILL', `${failpoint.name}\n${explain()}`);
      await gateway.startAgain({ patches: [] });
      await judge();
    }
    const second = write(() => writing);
    while (points.size < 3) {
      const before = points.size;
      await eventually(
        'a further recovery point',
        async () => {
          const { recoveryPoint } = (await report()).replication;
          if (recoveryPoint !== null) points.add(recoveryPoint.lsn);
          return points.size > before;
        },
        { timeoutMs: waitMaxMs, explain: () => gateway.log() },
      );
      await judge();
    }
    say(`${points.size} recovery points under load, each a prefix`);
    writing = false;
    assert.deepEqual(await second, [], `a client met an error\n${gateway.log()}`);
    await gateway.drain(volume, waitMaxMs);
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
