import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EngineRig } from '../../fake/engine-rig.js';
import { SeededRandom } from '../../fake/random.js';
import { MIB, settle } from '../engine/volume-harness.js';

describe('replicator on the real engine', () => {
  it('keeps the bucket at a prefix that the volume does not lose, over kills and power losses', async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const random = new SeededRandom(seed);
      const rig = new EngineRig(seed);
      await rig.harness.create();
      await rig.replicate();
      for (let life = 0; life < 6; life++) {
        rig.store.fault = () => {
          const fate = random.fraction();
          return fate < 0.06
            ? { failAfter: 'store-unreachable' }
            : fate < 0.12
              ? { failBefore: 'store-failed' }
              : undefined;
        };
        for (let change = random.below(60); change >= 0; change--) {
          await rig.change(random);
          if (random.fraction() < 0.1) rig.harness.clock.advance(random.below(700));
        }
        if (random.fraction() < 0.5) await settle();
        await rig.die(random.fraction() < 0.5 ? 'killed' : 'power loss', random);
        rig.store.fault = () => undefined;
        if (rig.store.keys(`${rig.uuid}/volume`).length > 0) await rig.assertRemoteIsPrefix();
        await rig.replicate();
        if (random.fraction() < 0.3) {
          await rig.drain();
          await rig.assertRemoteIsPrefix(rig.history.length);
        }
      }
      await rig.drain();
      await rig.assertRemoteIsPrefix(rig.history.length + rig.harness.operations.length);
      assert.ok(!rig.messages.some(({ type }) => type === 'fatal' || type === 'fenced'));
      rig.core!.receive({ type: 'stop' });
      await rig.harness.volume.close();
    }
  });

  it('lets log space go as it drains', async () => {
    const random = new SeededRandom(40);
    const rig = new EngineRig(40);
    await rig.harness.create();
    await rig.replicate();
    for (let round = 0; round < 60; round++) {
      await rig.harness.write((round % 2) * MIB, new Uint8Array(MIB).fill(1 + random.below(255)));
      if (round % 8 === 7) await rig.drain();
    }
    await rig.drain();
    await rig.assertRemoteIsPrefix(60);
    assert.equal(rig.harness.volume.status().pendingBytes, 0);
    rig.core!.receive({ type: 'stop' });
    await rig.harness.volume.close();
  });
});
