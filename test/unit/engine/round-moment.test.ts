/** What a round begins with, where the disk is full or the volume stops meanwhile. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;
/** The follower of a volume whose bucket takes nothing for now. */
const follower = { revoke: () => Promise.resolve(true), resume: () => undefined };

async function open(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed, 16 * MIB);
  // Both writes of two steps are in one log file.
  h.overrides = { bufferBytes: 64 * MIB, replicated: true, whenFull: 'track', follower };
  await h.create();
  return h;
}

function partsOf({ volume }: VolumeHarness): VolumeParts {
  return (volume as unknown as { readonly parts: VolumeParts }).parts;
}

async function pass(h: VolumeHarness, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 500) {
    h.clock.advance(500);
    await settle();
  }
}

/** Nobody has a turn of the destager until the function is called. */
function occupy(h: VolumeHarness): () => void {
  let leave = (): void => undefined;
  void partsOf(h).destager.alone(() => new Promise<void>((resolve) => (leave = resolve)));
  return () => leave();
}

function diskFull(): never {
  throw new GatewayError('disk-full', 'made to fail');
}

/** Durable in the log, one step of the destager each. */
async function writeTwoSteps(h: VolumeHarness): Promise<void> {
  for (const at of [0, 8]) {
    await h.write(at * MIB, h.random.bytes(3 * MIB));
    await h.flush();
  }
}

describe('what a volume begins to track', () => {
  it('has all that was moved into the image since the last superblock, which a full disk held up', async () => {
    const h = await open(1);
    const { destager, progress, reclaimer } = partsOf(h);
    let failed = false;
    // The first step has space.
    h.disk.hook = (operation, path) => {
      const moved = destager.destagedLsn > progress.destagedLsn;
      if (`${operation} ${path}` !== 'allocate image' || !moved) return;
      failed = true;
      diskFull();
    };
    await writeTwoSteps(h);
    reclaimer.wake(true);
    await settle();
    assert.ok(failed);
    // Its turn comes after the cycle that failed.
    const held = h.volume.replication.holdRounds();
    await pass(h, 1000);
    await held;
    h.disk.hook = () => undefined;
    h.volume.replication.releaseRounds();
    const beginning = h.volume.replication.rounds.begin();
    await pass(h, 3000);
    const { round } = await beginning;
    const piece = await h.volume.replication.rounds.read(round, 0, 8192);
    const first = [...(piece?.blocks ?? [])].filter((block) => block < (8 * MIB) / BLOCK);
    assert.equal(first.length, (3 * MIB) / BLOCK);
    await h.volume.close();
  });
});

describe('the moment of a round', () => {
  it('has the blocks that a later trim frees ahead of its turn on a full disk as they were', async () => {
    const h = await open(2);
    const content = h.random.bytes(BLOCK);
    await h.write(0, content);
    await h.flush();
    const held = h.volume.replication.holdRounds();
    await pass(h, 7000);
    await held;
    h.volume.replication.releaseRounds();
    await h.write(MIB, h.random.bytes(BLOCK));
    await h.flush();
    let freed = false;
    h.disk.hook = (operation, path) => {
      if (`${operation} ${path}` === 'punch image') freed = true;
      if (`${operation} ${path}` === 'allocate image' && !freed) diskFull();
    };
    const leave = occupy(h);
    const beginning = h.volume.replication.rounds.begin();
    await settle();
    await h.zero(0, BLOCK, true);
    await h.flush();
    leave();
    await pass(h, 2000);
    const { round, cursor } = await beginning;
    assert.ok(freed);
    const piece = await h.volume.replication.rounds.read(round, 0, 8192);
    assert.ok(piece !== undefined);
    const trimmed = cursor.lsn > h.volume.status().lsn.durable;
    if (trimmed) assert.deepEqual(piece.zeros, [{ first: 0, count: 1 }]);
    else assert.deepEqual(piece.bytes.subarray(0, BLOCK), content);
    assert.ok([...piece.sums].every((sum) => sum > 1));
    await h.volume.close();
  });

  it('is not before what the bucket has, though the volume is closed while it begins', async () => {
    const h = await open(3);
    const held = h.volume.replication.holdRounds();
    await pass(h, 1000);
    await held;
    h.volume.replication.releaseRounds();
    await writeTwoSteps(h);
    const { durable } = h.volume.status().lsn;
    h.volume.replication.heard({ ...h.volume.replication.state, replicatedLsn: durable, segmentNumber: 1 });
    await settle();
    const leave = occupy(h);
    const beginning = h.volume.replication.rounds.begin().catch((error: unknown) => error);
    await settle();
    const closing = h.volume.close();
    await settle();
    leave();
    await pass(h, 2000);
    await closing;
    await h.open();
    const moment = partsOf(h).rounds.moment;
    assert.ok(moment === undefined || moment.cursor.lsn > durable);
    assert.ok((await beginning) instanceof GatewayError);
    await h.volume.close();
  });
});
