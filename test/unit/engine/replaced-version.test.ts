/** Versions that are not moved into the image, since a newer one of the same block is durable. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;
const follower = { revoke: () => Promise.resolve(true), resume: () => undefined };

function partsOf({ volume }: VolumeHarness): VolumeParts {
  return (volume as unknown as { readonly parts: VolumeParts }).parts;
}

async function imageBlock(h: VolumeHarness, block: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(BLOCK);
  await partsOf(h).image.read(block, 1, bytes, 0);
  return bytes;
}

function filled(value: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(value);
}

async function open(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed, 16 * MIB);
  h.overrides = { bufferBytes: 32 * MIB, replicated: true, whenFull: 'track', follower };
  await h.create();
  return h;
}

describe('versions that a newer one replaces', () => {
  it('are left out: a block that is written again and again costs the image one write', async () => {
    const h = await open(1);
    const { destager, reclaimer } = partsOf(h);
    for (let value = 1; value <= 20; value++) {
      await h.write(3 * BLOCK, filled(value));
      await h.write((10 + value) * BLOCK, filled(value));
      await h.flush();
    }
    await reclaimer.destageSoon();
    assert.equal(destager.destagedBytes, 21 * BLOCK);
    assert.deepEqual(await imageBlock(h, 3), filled(20));
    assert.deepEqual(await imageBlock(h, 11), filled(1));
    await h.volume.close();
  });

  it('are moved where the newer one is not durable', async () => {
    const h = await open(2);
    await h.write(3 * BLOCK, filled(1));
    await h.flush();
    await h.write(3 * BLOCK, filled(2));
    await partsOf(h).reclaimer.destageSoon();
    assert.deepEqual(await imageBlock(h, 3), filled(1));
    assert.deepEqual(await h.read(3 * BLOCK, BLOCK), filled(2));
    await h.volume.close();
  });

  it('are moved with a record of which another block has no newer version', async () => {
    const h = await open(3);
    await h.write(3 * BLOCK, new Uint8Array(2 * BLOCK).fill(1));
    await h.write(3 * BLOCK, filled(2));
    await h.flush();
    await partsOf(h).reclaimer.destageSoon();
    assert.deepEqual(await imageBlock(h, 3), filled(2));
    assert.deepEqual(await imageBlock(h, 4), filled(1));
    await h.volume.close();
  });

  it('of which the newer one is not moved yet belong to no moment: a round begins behind it', async () => {
    const h = await open(4);
    const { destager, log } = partsOf(h);
    const holding = h.volume.replication.holdRounds();
    await settle();
    await holding;
    h.volume.replication.releaseRounds();
    await h.write(3 * BLOCK, filled(1));
    // More than a step holds, so that the newer version has a step of its own.
    await h.write(MIB, h.random.bytes(5 * MIB));
    await h.write(3 * BLOCK, filled(2));
    await h.flush();
    assert.ok(await destager.step(log.durableLsn));
    assert.deepEqual(await imageBlock(h, 3), filled(0), 'neither of them is there');
    const beginning = h.volume.replication.rounds.begin();
    await settle();
    const { round } = await beginning;
    await h.write(3 * BLOCK, filled(3));
    await h.flush();
    await partsOf(h).reclaimer.destageSoon();
    const piece = await h.volume.replication.rounds.read(round, 0, 64);
    assert.equal(piece?.blocks[0], 3);
    assert.deepEqual(piece.bytes.subarray(0, BLOCK), filled(2));
    await h.volume.close();
  });
});
