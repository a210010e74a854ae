/**
 * A gateway under load whose store, and the way to it, do everything wrong that a seed can think of
 * (test/tool/store-fault-proxy.ts). Meanwhile the volume is restored again and again, through the same faults, and each
 * copy must be a prefix of what the client wrote. At the end the rest is drained, the volume restored elsewhere, started
 * there, and compared with everything that was acknowledged.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { startDiskS3 } from '../fake/disk-s3.js';
import { startCeph } from '../tool/ceph.js';
import { TestGateway, type Settings } from '../tool/gateway.js';
import type { Finished } from '../tool/process.js';
import { StoreFaultProxy } from '../tool/store-fault-proxy.js';
import { HistoryLedger } from './history-ledger.js';
import { sectorBytes } from './ledger.js';
import { runLoad, seededNumbers, type BlockClient } from './load.js';
import { NbdClient } from './nbd-client.js';

const volume = 'disk';
const mebibyte = 1024 * 1024;
/** What a restore takes at most, through all the faults and beside everything else that runs. */
const restoreMsMax = 900_000;

export interface FaultRunOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly store: 'disk' | 'ceph';
  /** Acknowledged writes per second at most, so that a long run ends with a bucket of some gigabytes. */
  readonly writesPerSecondMax: number;
  readonly say: (line: string) => void;
}

export interface FaultRunEnd {
  readonly acknowledged: number;
  readonly restores: number;
  readonly faults: Readonly<Record<string, number>>;
}

export async function faultRun(options: FaultRunOptions): Promise<FaultRunEnd> {
  const { seconds, seed, say } = options;
  const random = seededNumbers(seed);
  const store = await startStore(options.store);
  const proxy = await StoreFaultProxy.start(store.port, seededNumbers(seed + 1));
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-faults-'));
  const settings: Settings = { url: 's3://faults/prefix', endpoint: proxy.endpoint, forcePathStyle: true };
  const gateway = await TestGateway.start({
    volumes: [{ name: volume, size: '32MiB', buffer: { size: '64MiB' }, replicate: { interval: '500ms' } }],
    store: settings,
    env: store.env,
  });
  try {
    const ledger = new HistoryLedger(32 * mebibyte);
    const nbd = await NbdClient.connect(gateway.nbdPort, volume);
    const endMs = performance.now() + seconds * 1000;
    const running = (): boolean => performance.now() < endMs;
    const load = runLoad({
      clients: [slowed(nbd, 4, options.writesPerSecondMax)],
      ledger,
      random,
      requestsPerClient: 4,
      sectorsPerWriteMax: 16,
      wholeBlocks: 0.5,
      onAcknowledged: running,
    });
    const outages = lineGoesDown(proxy, seededNumbers(seed + 2), running);
    const copies = new Copies({ gateway, settings, folder, ledger, say });
    // Until the first group is there, there is nothing to restore.
    await gateway.drain(volume, 300_000);
    while (running()) await copies.judgeOne();
    const { acknowledged, errors } = await load;
    await outages;
    assert.deepEqual(errors, [], `a client met an error\n${gateway.log()}`);
    proxy.down = false;
    await gateway.drain(volume, 300_000);
    ledger.drained();
    await proxy.settled(); // Nothing that is carried out late may change what is there.
    await copies.judgeOne();
    await nbd.close();
    await gateway.stop();
    await compareElsewhere(options, settings, store.env, gateway, ledger);
    say(`${acknowledged} writes acknowledged; ${copies.count} restores, each a prefix; ${copies.gaveUp} gave up`);
    say(`requests: ${JSON.stringify(proxy.counts)}`);
    return { acknowledged, restores: copies.count, faults: proxy.counts };
  } finally {
    await gateway.dispose();
    await proxy.stop();
    await store.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

interface Store {
  readonly port: number;
  readonly env: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

async function startStore(kind: 'disk' | 'ceph'): Promise<Store> {
  if (kind === 'disk') {
    const store = await startDiskS3();
    return {
      port: store.port,
      stop: () => store.stop(),
      env: { AWS_ACCESS_KEY_ID: 'any', AWS_SECRET_ACCESS_KEY: 'any', AWS_REGION: 'us-east-1' },
    };
  }
  const ceph = await startCeph();
  const { endpoint, accessKey, secretKey } = ceph;
  const credentials = { accessKeyId: accessKey, secretAccessKey: secretKey };
  const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  await client.send(new CreateBucketCommand({ Bucket: 'faults' }));
  client.destroy();
  return { port: Number(new URL(endpoint).port), env: ceph.env, stop: () => ceph.stop() };
}

/** Lets a client make so many writes per second, of so many requests in flight. */
function slowed(client: NbdClient, inflight: number, writesPerSecondMax: number): BlockClient {
  const pauseMs = (inflight * 1000) / writesPerSecondMax;
  return {
    read: (offset, lengthBytes) => client.read(offset, lengthBytes),
    write: async (offset, data, options) => {
      await client.write(offset, data, options);
      await delay(pauseMs);
    },
    writeZeroes: async (offset, lengthBytes) => {
      await client.writeZeroes(offset, lengthBytes);
      await delay(pauseMs);
    },
    flush: () => client.flush(),
    destroy: () => client.destroy(),
  };
}

/** Every ten seconds or so the line is down for up to three. */
async function lineGoesDown(proxy: StoreFaultProxy, random: () => number, running: () => boolean): Promise<void> {
  while (running()) {
    await delay(5000 + random() * 10_000);
    proxy.down = running();
    await delay(random() * 3000);
    proxy.down = false;
  }
}

interface CopyOptions {
  readonly gateway: TestGateway;
  readonly settings: Settings;
  readonly folder: string;
  readonly ledger: HistoryLedger;
  readonly say: (line: string) => void;
}

class Copies {
  count = 0;
  gaveUp = 0;
  private attempts = 0;

  constructor(private readonly options: CopyOptions) {}

  /** Restores the volume as it is in the bucket now, and judges it. */
  async judgeOne(): Promise<void> {
    const { gateway, settings, folder, ledger, say } = this.options;
    const name = `copy${(this.attempts += 1)}`;
    const dataDir = join(folder, name);
    const from = ['restore', volume, '--from', String(settings['url']), '--full', '--as', name];
    const restored = await gateway.command([...from, '--data-dir', dataDir], { timeoutMs: restoreMsMax });
    const said = `${restored.stdout}${restored.stderr}`.trim();
    if (restored.status !== 0) {
      // A person would try again: the line may have been down all the while. Nothing else is an excuse.
      assert.match(said, /store-unreachable|failed: |the body ended|ended after/, said);
      this.gaveUp += 1;
      say(`restore ${this.attempts} gave up: ${said}`);
      await rm(dataDir, { recursive: true, force: true });
      return;
    }
    // A restored copy has an empty log: what it holds is its image.
    const image = await readFile(join(dataDir, 'volumes', name, 'image'));
    const wrong = ledger.judge(image);
    assert.deepEqual(wrong, [], `${name} is no prefix: ${said}`);
    this.count += 1;
    if (this.count % 10 === 0) say(`restore ${this.attempts}: a prefix; ${ledger.open} writes open`);
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** A new machine, which has the bucket and the key. */
async function compareElsewhere(
  { store }: FaultRunOptions,
  settings: Settings,
  env: Readonly<Record<string, string>>,
  gateway: TestGateway,
  ledger: HistoryLedger,
): Promise<void> {
  await rm(gateway.dataDir, { recursive: true, force: true });
  const args = ['restore', volume, '--from', String(settings['url']), '--full', '--take-over'];
  const restoring = (): Promise<Finished> => gateway.command(args, { timeoutMs: restoreMsMax });
  let restored = await restoring();
  for (let again = 0; restored.status !== 0 && again < 3; again += 1) restored = await restoring();
  assert.equal(restored.status, 0, `${store}: ${restored.stdout}${restored.stderr}`);
  await gateway.startAgain({ env });
  const nbd = await NbdClient.connect(gateway.nbdPort, volume);
  const pieces: Buffer[] = [];
  for (let offset = 0; offset < ledger.sectorCount * sectorBytes; offset += mebibyte) {
    pieces.push(await nbd.read(offset, mebibyte));
  }
  assert.deepEqual(ledger.judge(Buffer.concat(pieces)), [], 'the restored volume is not what was drained');
  assert.equal(ledger.open, 0, 'everything that was acknowledged is there');
  await nbd.close();
}
