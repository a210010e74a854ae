/** A copy from an S3 bucket that is served before its content is there, through a kill, and through a bucket that is away. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../src/api/volume-report.js';
import { NbdClient } from '../crash/nbd-client.js';
import { startS3rver } from '../fake/s3rver.js';
import { requiredTool } from '../tool/clients.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { attempt, eventually, run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const MIB = 1024 * 1024;
const disk = { name: 'disk0', size: '16MiB', buffer: { size: '64MiB' } };
const replicating = { ...disk, replicate: { interval: '200ms', segmentSize: '1MiB' } };
const detached = { ...disk, name: 'copy0', replicate: { enabled: false } };
const env = { AWS_ACCESS_KEY_ID: 'S3RVER', AWS_SECRET_ACCESS_KEY: 'S3RVER', AWS_REGION: 'us-east-1' };

async function write(gateway: TestGateway, volume: string, offset: number, bytes: Buffer): Promise<void> {
  const nbd = await NbdClient.connect(gateway.nbdPort, volume);
  for (let at = 0; at < bytes.length; at += MIB) await nbd.write(offset + at, bytes.subarray(at, at + MIB));
  await nbd.close();
}

async function read(gateway: TestGateway, volume: string, offset: number, lengthBytes: number): Promise<Buffer> {
  const nbd = await NbdClient.connect(gateway.nbdPort, volume);
  const parts: Buffer[] = [];
  for (let at = 0; at < lengthBytes; at += MIB)
    parts.push(await nbd.read(offset + at, Math.min(MIB, lengthBytes - at)));
  await nbd.close();
  return Buffer.concat(parts);
}

const stateOf = async (gateway: TestGateway): Promise<VolumeReport> =>
  (await gateway.api('/v1/volumes/copy0')) as VolumeReport;

const isOnline = (gateway: TestGateway): Promise<void> =>
  eventually('everything is here', async () => (await stateOf(gateway)).state === 'online', {
    explain: () => gateway.log(),
  });

describe('instant restore', () => {
  it('fills a copy from S3 within the download budget, and goes on after SIGKILL', async () => {
    const { url, end } = await startS3rver('keepgate-test');
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-instant-'));
    const store = { url: 's3://keepgate-test/prefix', endpoint: url, forcePathStyle: true, fencing: 'none' };
    const owner = await TestGateway.start({ volumes: [replicating], store, env });
    let copy: TestGateway | undefined;
    try {
      const contents = randomBytes(8 * MIB);
      await write(owner, 'disk0', 0, contents);
      await owner.drain('disk0');
      const args = ['restore', 'disk0', '--from', store.url, '--endpoint', url, '--force-path-style', '--as', 'copy0'];
      const dataDir = join(folder, 'data');
      const ended = await attempt(
        process.execPath,
        [keepgatePath, ...args, '--key-file', owner.keyFile, '--data-dir', dataDir],
        { env },
      );
      assert.equal(ended.status, 0, ended.stderr);
      // Where the bucket is, and how it is reached, the volume knows; the gateway has another store.
      copy = await TestGateway.start({ folder, volumes: [detached], env, bandwidth: { download: '500kB/s' } });
      assert.equal((await stateOf(copy)).state, 'hydrating');
      assert.ok((await read(copy, 'copy0', 7 * MIB, 4096)).equals(contents.subarray(7 * MIB, 7 * MIB + 4096)));
      await write(owner, 'disk0', 0, randomBytes(8 * MIB));
      const mine = randomBytes(MIB);
      await write(copy, 'copy0', 2 * MIB, mine);
      mine.copy(contents, 2 * MIB);
      await copy.kill();
      await copy.startAgain();
      assert.equal((await stateOf(copy)).state, 'hydrating');
      await copy.stop();
      await copy.startAgain({ bandwidth: { download: 'unlimited' } });
      await isOnline(copy);
      assert.ok((await read(copy, 'copy0', 0, 8 * MIB)).equals(contents));
    } finally {
      await copy?.dispose();
      await owner.dispose();
      await rm(folder, { recursive: true, force: true });
      await end();
    }
  });

  it('serves what is here while the bucket is away, and heals by itself', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-instant-'));
    const owner = await TestGateway.start({ volumes: [replicating] });
    const away = `${owner.storeDirectory}.away`;
    let copy: TestGateway | undefined;
    try {
      const contents = randomBytes(4 * MIB);
      await write(owner, 'disk0', 0, contents);
      await owner.drain('disk0');
      await owner.stop();
      const args = ['restore', 'disk0', '--from', `file://${owner.storeDirectory}`, '--as', 'copy0'];
      const ended = await attempt(process.execPath, [
        ...[keepgatePath, ...args, '--key-file', owner.keyFile, '--data-dir', join(folder, 'data')],
      ]);
      assert.equal(ended.status, 0, ended.stderr);
      await rename(owner.storeDirectory, away);
      copy = await TestGateway.start({ folder, volumes: [detached] });
      const mine = randomBytes(4096);
      await write(copy, 'copy0', MIB, mine);
      mine.copy(contents, MIB);
      assert.ok((await read(copy, 'copy0', MIB, 4096)).equals(mine));
      await assert.rejects(read(copy, 'copy0', 0, 4096), 'never zeros');
      const { state, reason } = await stateOf(copy);
      assert.equal(state, 'hydrating');
      assert.match(reason ?? '', /store/);
      await rename(away, owner.storeDirectory);
      await isOnline(copy);
      assert.ok((await read(copy, 'copy0', 0, 4 * MIB)).equals(contents));
    } finally {
      await copy?.dispose();
      await owner.dispose();
      await rm(folder, { recursive: true, force: true });
    }
  });
});

suite('what an NBD client is told of a copy whose content is in the bucket only', ['nbdinfo'], () => {
  it('is what the map in the bucket says; with the bucket away all of it is data', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keepgate-instant-'));
    const owner = await TestGateway.start({ volumes: [replicating] });
    let copy: TestGateway | undefined;
    try {
      await write(owner, 'disk0', 0, randomBytes(4 * MIB));
      await write(owner, 'disk0', 12 * MIB, randomBytes(MIB));
      await owner.drain('disk0');
      await owner.stop();
      const args = ['restore', 'disk0', '--from', `file://${owner.storeDirectory}`, '--as', 'copy0'];
      const dataDir = join(folder, 'data');
      const ended = await attempt(process.execPath, [
        ...[keepgatePath, ...args, '--key-file', owner.keyFile, '--data-dir', dataDir],
      ]);
      assert.equal(ended.status, 0, ended.stderr);
      copy = await TestGateway.start({ folder, volumes: [detached], bandwidth: { download: '100kB/s' } });
      const uri = `nbd://127.0.0.1:${copy.nbdPort}/copy0`;
      const map = async (): Promise<number[][]> => {
        const text = await run(requiredTool('nbdinfo'), ['--json', '--map', uri]);
        const extents = JSON.parse(text) as { offset: number; length: number; type: number }[];
        return extents.map(({ offset, length, type }) => [offset / MIB, length / MIB, type]);
      };
      const truth = [
        [0, 4, 0],
        [4, 8, 3],
        [12, 1, 0],
        [13, 3, 3],
      ];
      assert.deepEqual(await map(), truth);
      assert.equal((await stateOf(copy)).state, 'hydrating');
      await copy.stop();
      await rename(owner.storeDirectory, `${owner.storeDirectory}.away`);
      await copy.startAgain();
      assert.deepEqual(await map(), [[0, 16, 0]]);
      await write(copy, 'copy0', 2 * MIB, randomBytes(4096));
    } finally {
      await copy?.dispose();
      await rename(`${owner.storeDirectory}.away`, owner.storeDirectory).catch(() => undefined);
      await owner.dispose();
      await rm(folder, { recursive: true, force: true });
    }
  });
});
