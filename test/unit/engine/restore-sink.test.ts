import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { RestoreSink } from '../../../src/engine/restore-sink.js';
import { readIdentity } from '../../../src/engine/volume-directory-format.js';
import { plainChecksums } from '../../fake/checksums.js';
import { settle, VolumeHarness } from './volume-harness.js';

const uuid = '00112233-4455-6677-8899-aabbccddeeff';
const remote = { lsn: 77, remoteEpoch: 3, segmentNumber: 9, chainHead: new Uint8Array(32).fill(5) };

async function sinkOn(h: VolumeHarness): Promise<RestoreSink> {
  const { disk, random, clock, sizeBytes } = h;
  return await RestoreSink.create({ disk, checksums: plainChecksums, random, clock, name: 'disk0', uuid, sizeBytes });
}

async function putBlocks(sink: RestoreSink, first: number, bytes: Uint8Array): Promise<void> {
  const count = bytes.length / 4096;
  const sums = new Uint32Array(count);
  plainChecksums.sumBlocks(bytes, 0, count, sums, 0);
  plainChecksums.toBlockSums(sums, 0, count, first);
  await sink.write(first, bytes, 0, count, sums, 0);
}

describe('restore sink', () => {
  it('fills a volume that opens with the content, the identity and the place in history', async () => {
    const h = new VolumeHarness(1);
    const sink = await sinkOn(h);
    const content = h.random.bytes(3 * 4096);
    await putBlocks(sink, 200, content);
    await putBlocks(sink, 0, content.slice(4096, 8192));
    await sink.finish({ ...remote, detached: false });
    h.overrides = { replicated: true };
    await h.open();
    assert.deepEqual(await h.read(200 * 4096, 3 * 4096), content);
    assert.deepEqual(await h.read(0, 8192), new Uint8Array([...content.slice(4096, 8192), ...new Uint8Array(4096)]));
    assert.equal(h.volume.uuid, uuid);
    const state = h.volume.replication.state;
    assert.deepEqual(
      [state.replicatedLsn, state.remoteEpoch, state.segmentNumber, state.chainHead],
      [77, 3, 9, remote.chainHead],
    );
    await h.write(0, content);
    assert.ok(h.volume.status().lsn.acknowledged > 77);
    await settle();
  });

  it('gives a detached copy no place in the history', async () => {
    const h = new VolumeHarness(2);
    const sink = await sinkOn(h);
    await sink.finish({ ...remote, detached: true });
    await h.open();
    assert.equal(h.volume.replication.state.segmentNumber, 0);
    assert.equal((await readIdentity(h.disk))?.origin, 'restored');
  });

  it('leaves a directory that does not open when it was interrupted', async () => {
    const h = new VolumeHarness(3);
    const sink = await sinkOn(h);
    await putBlocks(sink, 0, h.random.bytes(4096));
    h.disk.crash(h.random);
    await assert.rejects(h.open(), { code: 'volume-incomplete' });
  });

  it('does not touch a directory that holds something', async () => {
    const h = new VolumeHarness(4);
    await h.disk.writeSmall('precious', new Uint8Array(1));
    await assert.rejects(sinkOn(h), { code: 'volume-exists', message: /precious/ });
  });
});
