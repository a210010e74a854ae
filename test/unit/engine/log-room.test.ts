/** What a full log costs until it has room again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const follower = { revoke: () => Promise.resolve(true), resume: () => undefined };
const logFileBytes = 4 * MIB;
const pieceBytes = MIB / 2;

function partsOf({ volume }: VolumeHarness): VolumeParts {
  return (volume as unknown as { readonly parts: VolumeParts }).parts;
}

async function open(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed, 64 * MIB);
  h.overrides = { bufferBytes: 8 * logFileBytes, replicated: true, whenFull: 'track', follower };
  await h.create();
  return h;
}

async function pass(h: VolumeHarness): Promise<void> {
  h.clock.advance(1100);
  await settle();
}

/** Writes two files of the log and moves them into the image: they are kept for the bucket alone. */
async function writeAndMove(h: VolumeHarness, from: number): Promise<void> {
  for (let at = from; at < from + 2 * logFileBytes; at += pieceBytes) await h.write(at, h.random.bytes(pieceBytes));
  await h.flush();
  await partsOf(h).reclaimer.destageSoon();
}

/** Fills the log while nothing is moved; then, how many steps are made before there is room. */
async function stepsUntilRoom(h: VolumeHarness, from: number): Promise<number> {
  const { destager, log } = partsOf(h);
  await log.files.fillRing();
  let leave = (): void => undefined;
  void destager.alone(() => new Promise<void>((resolve) => (leave = resolve)));
  let writing = Promise.resolve();
  for (let at = from; partsOf(h).log.hasRoom; at += pieceBytes) {
    await writing;
    writing = h.write(at, h.random.bytes(pieceBytes));
    await pass(h);
  }
  let steps = 0;
  const step = destager.step.bind(destager);
  destager.step = (throughLsn) => {
    if (!log.hasRoom) steps++;
    return step(throughLsn);
  };
  leave();
  for (let i = 0; i < 100 && !partsOf(h).log.hasRoom; i++) await pass(h);
  assert.ok(partsOf(h).log.hasRoom);
  await writing;
  return steps;
}

describe('a full log', () => {
  it('is not emptied into the image before it lets go of what only the bucket needs', async () => {
    const h = await open(1);
    await writeAndMove(h, 0);
    const steps = await stepsUntilRoom(h, 2 * logFileBytes);
    assert.ok(steps <= 1, `${steps} steps more`);
    assert.ok(partsOf(h).progress.tracking);
    await h.volume.close();
  });

  it('is not emptied into the image before it lets go of what only a round needs', async () => {
    const h = await open(2);
    const { progress } = partsOf(h);
    const holding = h.volume.replication.holdRounds();
    await settle();
    await holding;
    h.volume.replication.releaseRounds();
    const beginning = h.volume.replication.rounds.begin();
    await settle();
    await beginning;
    await writeAndMove(h, 0);
    assert.ok(!progress.keepsNothing);
    const steps = await stepsUntilRoom(h, 2 * logFileBytes);
    assert.ok(steps <= 1, `${steps} steps more`);
    assert.ok(progress.keepsNothing);
    await h.volume.close();
  });
});
