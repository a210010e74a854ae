/** An S3 that accepts If-None-Match and ignores it: no two gateways could be kept apart there. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { NbdClient } from '../crash/nbd-client.js';
import { startS3rver } from '../fake/s3rver.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { attempt } from '../tool/process.js';

const volumes = [{ name: 'disk', size: '16MiB', buffer: { size: '64MiB' }, replicate: { interval: '1s' } }];
const env = { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER', AWS_REGION: 'us-east-1' };

describe('a gateway on an S3 that ignores If-None-Match', () => {
  it('refuses it with fencing: auto, and says so everywhere', async () => {
    const { url, end } = await startS3rver('keepgate-test');
    const store = { url: 's3://keepgate-test/prefix', endpoint: url, forcePathStyle: true };
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-s3rver-test-'));
    try {
      await assert.rejects(TestGateway.start({ volumes, store, env, folder }), /ignores If-None-Match/);
      const args = [keepgatePath, 'doctor', '--config', join(folder, 'keepgate.yaml')];
      const doctor = await attempt(process.execPath, args, { env });
      assert.match(doctor.stdout, /^wrong {2}store: .*If-None-Match.*fencing: none/m);
      assert.equal(doctor.status, 1);
    } finally {
      await rm(folder, { recursive: true, force: true });
      await end();
    }
  });

  it('replicates with fencing: none, and everything comes back', async () => {
    const { url, end } = await startS3rver('keepgate-test');
    const store = { url: 's3://keepgate-test/prefix', endpoint: url, forcePathStyle: true, fencing: 'none' };
    const gateway = await TestGateway.start({ volumes, store, env });
    try {
      const contents = randomBytes(3 * 1024 * 1024);
      const nbd = await NbdClient.connect(gateway.nbdPort, 'disk');
      await nbd.write(1024 * 1024, contents);
      await nbd.close();
      await gateway.drain('disk');
      const doctor = await gateway.command(['doctor']);
      assert.match(doctor.stdout, /^ok {5}store: s3:\/\/keepgate-test\/prefix answers/m);
      await gateway.stop();
      await rm(gateway.dataDir, { recursive: true });
      const args = ['restore', 'disk', '--from', store.url, '--full', '--take-over'];
      const restored = await gateway.command(args);
      assert.equal(restored.status, 0, `${restored.stdout}${restored.stderr}`);
      await gateway.startAgain();
      const again = await NbdClient.connect(gateway.nbdPort, 'disk');
      assert.ok((await again.read(1024 * 1024, contents.length)).equals(contents));
      await again.close();
    } finally {
      await gateway.dispose();
      await end();
    }
  });
});
