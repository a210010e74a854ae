import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { KIB } from '../../../src/base/units.js';
import { IdleMemory } from '../../../src/remote/idle-memory.js';
import { ManualClock } from '../../fake/clock.js';
import { EngineRig } from '../../fake/engine-rig.js';
import { KeptMemory } from '../../fake/kept-memory.js';
import { MIB, settle } from '../engine/volume-harness.js';

/** A header of the log, and what was written last. */
const KEPT_BYTES_MAX = 32 * KIB;

async function pass(rig: EngineRig, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    rig.harness.clock.advance(1000);
    await settle();
  }
}

async function replicatedRig(): Promise<{ rig: EngineRig; memory: KeptMemory }> {
  const memory = new KeptMemory();
  const rig = new EngineRig(50);
  rig.harness.overrides = { ...rig.harness.overrides, checksums: memory.checksums };
  await rig.harness.create();
  await rig.replicate();
  return { rig, memory };
}

async function end(rig: EngineRig): Promise<void> {
  rig.core!.receive({ type: 'stop' });
  await rig.harness.volume.close();
}

describe('memory of a volume and its replicator', () => {
  it('goes back to the system once nobody has written for a while, and is taken again', async () => {
    const { rig, memory } = await replicatedRig();
    const { harness } = rig;
    for (let round = 1; round <= 3; round++) {
      // Staged as a whole, and in a buffer of its own.
      await harness.write(0, new Uint8Array(MIB).fill(round));
      await harness.write(MIB + 100, new Uint8Array(MIB / 2).fill(round));
      await rig.drain();
      await rig.assertRemoteIsPrefix(harness.operations.length);
      // A batch of the log here, a window there; what a step of the destager needs comes on top.
      assert.ok(memory.bytes >= 2 * MIB, `${memory.bytes} bytes are kept before`);
      await pass(rig, 20);
      assert.equal(harness.volume.status().lsn.destaged, harness.volume.status().lsn.durable);
      assert.ok(memory.bytes <= KEPT_BYTES_MAX, `${memory.bytes} bytes are kept after round ${round}`);
      assert.deepEqual(await harness.read(0, harness.sizeBytes), harness.expected(harness.operations.length));
    }
    await end(rig);
  });

  it('goes back also while a little is written all the time', async () => {
    const { rig, memory } = await replicatedRig();
    const { harness } = rig;
    await harness.write(0, new Uint8Array(MIB).fill(9));
    await rig.drain();
    assert.ok(memory.bytes >= 2 * MIB, `${memory.bytes} bytes are kept before`);
    for (let second = 1; second <= 30; second++) {
      await harness.write(4096 * second, new Uint8Array(4096).fill(second));
      await pass(rig, 1);
    }
    assert.ok(memory.bytes <= KEPT_BYTES_MAX, `${memory.bytes} bytes are kept after`);
    await rig.drain();
    await rig.assertRemoteIsPrefix(harness.operations.length);
    await end(rig);
  });
});

describe('memory that lies idle', () => {
  it('is given back once, a while after its first use, and only when it is not in use', () => {
    const clock = new ManualClock();
    let released = 0;
    const memory = new IdleMemory(clock, () => released++);
    assert.equal(memory.rest(), undefined);
    memory.used();
    clock.advance(limits.idleMemoryMsMax - 1);
    memory.used();
    assert.equal(memory.rest(), 1);
    assert.equal(released, 0);
    clock.advance(5);
    assert.equal(released, 0);
    assert.equal(memory.rest(), undefined);
    assert.equal(memory.rest(), undefined);
    assert.equal(released, 1);
  });
});
