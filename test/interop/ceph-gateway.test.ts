/**
 * The whole way with a real distributed object store: write, drain, lose the machine, restore with bucket and key;
 * nothing in clear in the bucket; the store stopped, hanging, and losing replies under load; credentials that may only
 * append.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  paginateListObjectsV2,
  PutBucketPolicyCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { Ledger } from '../crash/ledger.js';
import { paceOf, runLoad, seededNumbers, verifyAll } from '../crash/load.js';
import { NbdClient } from '../crash/nbd-client.js';
import { crashRounds } from '../crash/rounds.js';
import { cephTools, startCeph, type Ceph, type CephUser } from '../tool/ceph.js';
import { requiredTool } from '../tool/clients.js';
import { FaultProxy } from '../tool/fault-proxy.js';
import { TestGateway, type Settings } from '../tool/gateway.js';
import { eventually, run } from '../tool/process.js';
import { StoreFaultProxy } from '../tool/store-fault-proxy.js';
import { suite } from '../tool/suite.js';
import { foundInClear, type StoredObject } from './bucket-contents.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const mebibyte = 1024 * 1024;
const outageMs = long ? 60_000 : 5_000;
/** Bytes per second of a client's load in an outage: all of it must go up afterwards. */
const loadRate = 8e6;

suite('a gateway on Ceph', [...cephTools, 'nbdcopy'], () => {
  let ceph: Ceph;
  let client: S3Client;
  let appender: CephUser;
  const clientOf = ({ accessKey, secretKey }: CephUser): S3Client => {
    const credentials = { accessKeyId: accessKey, secretAccessKey: secretKey };
    return new S3Client({ endpoint: ceph.endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  };
  before(async () => {
    ceph = await startCeph();
    client = clientOf(ceph);
    appender = await ceph.addUser('appender');
  });
  after(async () => {
    client.destroy();
    await ceph.stop();
  });

  const storeIn = async (bucket: string, endpoint = ceph.endpoint): Promise<Settings> => {
    await client.send(new CreateBucketCommand({ Bucket: bucket }));
    return { url: `s3://${bucket}/some/prefix`, endpoint, forcePathStyle: true };
  };
  const objectsOf = async (bucket: string): Promise<StoredObject[]> => {
    const objects: StoredObject[] = [];
    for await (const page of paginateListObjectsV2({ client }, { Bucket: bucket })) {
      for (const { Key = '' } of page.Contents ?? []) {
        const answer = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
        objects.push({ key: Key, body: Buffer.from((await answer.Body?.transformToByteArray()) ?? []) });
      }
    }
    return objects;
  };

  it('gives everything back on a new machine, from the bucket and the key', async () => {
    const store = await storeIn('restored');
    const gateway = await TestGateway.start({
      volumes: [{ name: 'disk', size: '64MiB', buffer: { size: '64MiB' } }],
      store,
      env: ceph.env,
    });
    try {
      const from = join(gateway.folder, 'in');
      const to = join(gateway.folder, 'out');
      await writeFile(from, Buffer.concat([randomBytes(24 * mebibyte), Buffer.alloc(40 * mebibyte)]));
      await run(requiredTool('nbdcopy'), ['--flush', from, gateway.nbdUri('disk')]);
      await gateway.drain('disk');
      await gateway.kill();
      await rm(gateway.dataDir, { recursive: true });
      const args = ['restore', 'disk', '--from', String(store['url']), '--full', '--take-over'];
      const restored = await gateway.command(args);
      assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      await gateway.startAgain();
      await run(requiredTool('nbdcopy'), [gateway.nbdUri('disk'), to]);
      assert((await readFile(from)).equals(await readFile(to)));
    } finally {
      await gateway.dispose();
    }
  });

  it('puts nothing in clear into the bucket', async () => {
    const volumeName = 'quite-a-recognisable-name';
    const offset = 0x1a2b3c * 4096;
    const contents = randomBytes(mebibyte);
    const gateway = await TestGateway.start({
      volumes: [{ name: volumeName, size: '8GiB', buffer: { size: '64MiB' } }],
      store: await storeIn('in-clear'),
      env: ceph.env,
    });
    try {
      const nbd = await NbdClient.connect(gateway.nbdPort, volumeName);
      await nbd.write(offset, contents);
      await nbd.close();
      await gateway.drain(volumeName);
      await gateway.stop();
      const objects = await objectsOf('in-clear');
      assert(objects.reduce((sum, { body }) => sum + body.length, 0) > contents.length, 'the bucket holds it all');
      assert.deepEqual(foundInClear(objects, { contents, offset, volumeName }), []);
    } finally {
      await gateway.dispose();
    }
  });

  /** A load goes on while the store does not answer: no request fails, and afterwards everything drains. */
  const survives = async (
    t: TestContext,
    gateway: TestGateway,
    begin: () => Promise<void> | void,
    end: () => Promise<void> | void,
  ): Promise<void> => {
    const ledger = new Ledger(16 * mebibyte);
    const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
    let beginning: Promise<void> | undefined;
    let over = false;
    let lastMs = performance.now();
    let longestMs = 0;
    const outage = async (): Promise<void> => {
      await begin();
      await delay(outageMs);
      await end();
      over = true;
    };
    const ended = await runLoad({
      clients: [nbd],
      ledger,
      random: seededNumbers(7),
      requestsPerClient: 4,
      sectorsPerWriteMax: 16,
      pace: paceOf(loadRate),
      onAcknowledged: (count) => {
        const nowMs = performance.now();
        if (count > 1) longestMs = Math.max(longestMs, nowMs - lastMs);
        lastMs = nowMs;
        if (count === 200) beginning = outage();
        return !over;
      },
    });
    await beginning;
    t.diagnostic(
      `${ended.acknowledged} writes; the longest time without an acknowledgement was ${Math.round(longestMs)} ms`,
    );
    assert.deepEqual(ended.errors, [], gateway.log());
    await gateway.drain('disk', 180_000);
    assert.deepEqual(await verifyAll(nbd, ledger), []);
    await nbd.close();
  };
  const outageGateway = async (store: Settings): Promise<TestGateway> =>
    TestGateway.start({
      // Room for all that the load can write in a minute.
      volumes: [
        { name: 'disk', size: '64MiB', buffer: { size: long ? '12GiB' : '4GiB' }, replicate: { interval: '1s' } },
      ],
      store,
      env: ceph.env,
    });

  it('a store that is gone for a while costs no client an error, and then it drains', async (t) => {
    const gateway = await outageGateway(await storeIn('gone'));
    try {
      await survives(
        t,
        gateway,
        () => ceph.stopEndpoint(),
        () => ceph.startEndpoint(),
      );
    } finally {
      await gateway.dispose();
    }
  });

  it('neither does a store that hangs', async (t) => {
    const gateway = await outageGateway(await storeIn('hanging'));
    try {
      await survives(
        t,
        gateway,
        () => ceph.pause(),
        () => ceph.resume(),
      );
    } finally {
      ceph.resume();
      await gateway.dispose();
    }
  });

  it('replies that are lost do not make the gateway think that another one took its volume', async (t) => {
    const proxy = await FaultProxy.start(Number(new URL(ceph.endpoint).port));
    const gateway = await outageGateway(await storeIn('lost-replies', `http://127.0.0.1:${proxy.port}`));
    try {
      const lose = (): void => proxy.setMode('lose-replies');
      const pass = (): void => proxy.setMode('pass');
      await survives(t, gateway, lose, pass);
    } finally {
      await gateway.dispose();
      await proxy.stop();
    }
  });

  /**
   * A bucket of which the appender has the rights that docs/operations.md lists for `compaction: off`, and no others.
   * Listing is allowed without a condition: with one, this version of Ceph answers 403 for what is absent.
   */
  const appendOnlyIn = async (bucket: string, endpoint: string): Promise<Settings> => {
    const store = await storeIn(bucket, endpoint);
    const rights = { Effect: 'Allow', Principal: { AWS: ['arn:aws:iam:::user/appender'] } };
    const arn = `arn:aws:s3:::${bucket}`;
    const policy = {
      Version: '2012-10-17',
      Statement: [
        { ...rights, Action: 's3:ListBucket', Resource: arn },
        { ...rights, Action: ['s3:GetObject', 's3:PutObject'], Resource: `${arn}/some/prefix/*` },
      ],
    };
    await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: JSON.stringify(policy) }));
    return store;
  };
  /** Overwrites the volume so often that all but the last of it is dead in the bucket; what it holds then. */
  const overwrite = async (gateway: TestGateway): Promise<Buffer> => {
    const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
    let contents = Buffer.alloc(0);
    for (let pass = 0; pass < 8; pass += 1) {
      contents = randomBytes(2 * mebibyte);
      await nbd.write(pass * mebibyte, contents);
      await gateway.drain('disk');
    }
    await nbd.close();
    return contents;
  };
  const appendOnlyVolume = { name: 'disk', size: '16MiB', buffer: { size: '64MiB' }, replicate: { interval: '500ms' } };

  it('credentials that may only append suffice with compaction: off, no delete is ever sent, and all comes back', async () => {
    const proxy = await StoreFaultProxy.start(Number(new URL(ceph.endpoint).port), () => 1);
    const store = await appendOnlyIn('append-only', proxy.endpoint);
    const volumes = [{ ...appendOnlyVolume, compaction: 'off' }];
    const gateway = await TestGateway.start({ volumes, store, env: appender.env });
    try {
      const contents = await overwrite(gateway);
      await gateway.stop();
      await gateway.startAgain(); // A second probe, and the end of an epoch.
      await gateway.drain('disk');
      await gateway.kill();
      assert.ok((proxy.methods['PUT'] ?? 0) > 10);
      assert.equal(proxy.methods['DELETE'], undefined);
      const restricted = clientOf(appender);
      const listing = await restricted.send(new ListObjectsV2Command({ Bucket: 'append-only', MaxKeys: 1 }));
      const Key = listing.Contents?.[0]?.Key;
      const refused = restricted.send(new DeleteObjectCommand({ Bucket: 'append-only', Key }));
      await assert.rejects(refused, { name: 'AccessDenied' }, 'the credentials do forbid it');
      restricted.destroy();

      await rm(gateway.dataDir, { recursive: true });
      const args = ['restore', 'disk', '--from', String(store['url']), '--full', '--take-over'];
      const restored = await gateway.command(args);
      assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      await gateway.startAgain();
      const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
      assert.ok((await nbd.read(7 * mebibyte, contents.length)).equals(contents));
      await nbd.close();
    } finally {
      await gateway.dispose();
      await proxy.stop();
    }
  });

  it('compaction with credentials that may only append is reported, and harms nothing', async () => {
    const store = await appendOnlyIn('append-compact', ceph.endpoint);
    const volumes = [{ ...appendOnlyVolume, compaction: 'on' }];
    const gateway = await TestGateway.start({ volumes, store, env: appender.env });
    try {
      await eventually('it says so', () => /the store forbids deletes.*compaction: off/.test(gateway.log()));
      const doctor = await gateway.command(['doctor']);
      assert.match(doctor.stdout, /^note {3}store: .*it lets nobody delete, .*allow s3:DeleteObject/m);
      const contents = await overwrite(gateway);
      assert.equal(await gateway.metric('keepgate_compaction_bytes_total'), 0);
      assert.equal(gateway.log().match(/the store forbids deletes/g)?.length, 1, 'once');
      const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
      assert.ok((await nbd.read(7 * mebibyte, contents.length)).equals(contents));
      await nbd.close();
    } finally {
      await gateway.dispose();
    }
  });

  it('killed in the middle of uploads, it goes on, and a restore is equal', async (t) => {
    const settings = await storeIn('killed');
    const url = String(settings['url']);
    const store = { settings, url, env: ceph.env };
    await crashRounds({ rounds: long ? 20 : 3, seed: process.pid, say: (line) => t.diagnostic(line), store });
  });
});
