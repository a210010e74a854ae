import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../../fake/random.js';
import { BLOCK, remoteImage, Rig } from '../../fake/replication-rig.js';

async function assertRemoteIsPrefix(rig: Rig): Promise<number> {
  const { image, chain } = await remoteImage(rig.store, rig.config.uuid, rig.log.createdSizeBytes);
  const { lsn } = chain.lastGroup;
  assert.ok(rig.log.endsAt(lsn), `recovery point ${lsn} is a batch boundary`);
  assert.deepEqual(Buffer.compare(image, rig.log.imageAt(lsn)), 0, `content as of LSN ${lsn}`);
  return lsn;
}

describe('replicator', () => {
  it('brings random writes, trims and overwrites into the bucket', async () => {
    const rig = new Rig({ seed: 3 });
    const random = new SeededRandom(4);
    rig.start();
    for (let round = 0; round < 40; round++) {
      rig.writeRandom(random);
      if (random.fraction() < 0.2) await rig.drain();
    }
    await rig.drain();
    assert.equal(await assertRemoteIsPrefix(rig), rig.log.lastLsn);
    assert.equal(rig.state.replicatedLsn, rig.log.lastLsn);
    await rig.kill();
  });
});
