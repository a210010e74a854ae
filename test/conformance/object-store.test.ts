/**
 * Runs the object-store suite against every store: in memory, in a directory, in s3rver (a second, quirky S3 that
 * ignores If-None-Match), and in the S3 at KEEPGATE_TEST_S3 with the credentials of the environment, where that is set.
 */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { FileStore } from '../../src/platform/file-store.js';
import { S3Store } from '../../src/platform/s3-store.js';
import { MemoryStore } from '../fake/memory-store.js';
import { SeededRandom } from '../fake/random.js';
import { startS3rver } from '../fake/s3rver.js';
import { run } from './object-store.js';

run('memory', () => Promise.resolve({ store: new MemoryStore() }));

run(
  'directory',
  async () => {
    const directory = await mkdtemp(join(tmpdir(), 'keepgate-store-'));
    const store = await FileStore.open({ location: directory, create: true, random: new SeededRandom(1) });
    return { store, end: () => rm(directory, { recursive: true }) };
  },
  {
    missingBucket: async () => {
      const directory = await mkdtemp(join(tmpdir(), 'keepgate-store-'));
      const store = await FileStore.open({ location: directory, create: true, random: new SeededRandom(1) });
      await rm(directory, { recursive: true });
      return store;
    },
  },
);

const endpoint = process.env['KEEPGATE_TEST_S3'];
if (endpoint === undefined) {
  // s3rver has fixed credentials; the SDK's default chain finds them here.
  process.env['AWS_ACCESS_KEY_ID'] = 'S3RVER';
  process.env['AWS_SECRET_ACCESS_KEY'] = 'S3RVER';
  let started: Promise<{ url: string; end: () => Promise<void> }> | undefined;
  const options = async (bucket: string) => {
    started ??= startS3rver('keepgate-test');
    return { url: `s3://${bucket}`, endpoint: (await started).url, region: 'us-east-1', forcePathStyle: true };
  };
  run(
    's3rver',
    async () => ({
      store: new S3Store(await options('keepgate-test/some/prefix')),
      end: async () => (await started)?.end(),
    }),
    { complete: false, missingBucket: async () => new S3Store(await options('keepgate-none')) },
  );
} else {
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true';
  const connection = { endpoint, region: 'us-east-1', forcePathStyle: true };
  run(
    's3',
    async () => {
      const bucket = `keepgate-${randomUUID()}`;
      const client = new S3Client(connection);
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      client.destroy();
      return { store: new S3Store({ url: `s3://${bucket}/prefix`, ...connection }) };
    },
    { missingBucket: () => Promise.resolve(new S3Store({ url: 's3://keepgate-none', ...connection })) },
  );
}
