/** The object-store suite against a real distributed object store. */
import { randomUUID } from 'node:crypto';
import { after } from 'node:test';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { S3Store } from '../../src/platform/s3-store.js';
import { run } from '../conformance/object-store.js';
import { cephTools, startCeph } from '../tool/ceph.js';
import { tool } from '../tool/clients.js';
import { suite } from '../tool/suite.js';

const ready = cephTools.every((name) => typeof tool(name) !== 'string');
if (ready) {
  const ceph = await startCeph();
  after(() => ceph.stop());
  Object.assign(process.env, ceph.env); // The SDK's default chain looks there.
  const connection = { endpoint: ceph.endpoint, region: 'us-east-1', forcePathStyle: true };
  run(
    'Ceph',
    async () => {
      const bucket = `keepgate-${randomUUID()}`;
      const client = new S3Client(connection);
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      client.destroy();
      return { store: new S3Store({ url: `s3://${bucket}/prefix`, ...connection }) };
    },
    { missingBucket: () => Promise.resolve(new S3Store({ url: 's3://keepgate-none', ...connection })) },
  );
} else {
  suite('object store: Ceph', cephTools, () => undefined); // Says what is missing.
}
