/** What a full log costs until it has room again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const follower = { revoke: () => Promise.resolve(true), resume: () => undefined };
const logFileBytes = 4 * MIB;
const pieceBytes = MIB / 2;
const blockBytes = 4096;

function partsOf({ volume }: VolumeHarness): VolumeParts {
  return (volume as unknown as { readonly parts: VolumeParts }).parts;
}

async function open(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed, 64 * MIB);
  h.overrides = { bufferBytes: 8 * logFileBytes, replicated: true, whenFull: 'track', follower };
  await h.create();
  return h;
}

async function pass(h: VolumeHarness, ms = 1100): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1100) {
    h.clock.advance(1100);
    await settle();
  }
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

  it('moves what frees space where letting go finds none', async () => {
    const h = new VolumeHarness(3, 8 * MIB);
    h.overrides = { bufferBytes: 2 * MIB, replicated: true, whenFull: 'track', follower };
    await h.create();
    await partsOf(h).log.files.fillRing();
    await h.write(4 * MIB, h.random.bytes(16 * blockBytes));
    await h.flush();
    await pass(h, 12_000);
    let freed = false;
    h.disk.hook = (operation, path) => {
      freed ||= `${operation} ${path}` === 'punch image';
      if (!freed && path === 'dirty' && (operation === 'open' || operation === 'write'))
        throw new GatewayError('disk-full', 'made to fail');
    };
    const writing: Promise<void>[] = [];
    for (let block = 0; h.volume.writable; block = (block + 2) % 16) {
      writing.push(h.write(block * blockBytes, h.random.bytes(2 * blockBytes)));
      await h.flush();
      await pass(h);
    }
    assert.equal(h.volume.status().state, 'stalled');
    await h.zero(4 * MIB, 16 * blockBytes, true);
    await h.flush();
    await pass(h, 20_000);
    assert.ok(freed);
    assert.equal(h.volume.status().state, 'online');
    await Promise.all(writing);
    await h.volume.close();
  });

  it('has room again after a slow read has held its oldest file', async () => {
    const h = new VolumeHarness(4, 8 * MIB);
    h.overrides = { bufferBytes: 2 * MIB };
    await h.create();
    const { log } = partsOf(h);
    await log.files.fillRing();
    await h.write(0, h.random.bytes(blockBytes));
    await h.flush();
    const file = log.head.file;
    log.files.pin(file);
    const writing: Promise<void>[] = [];
    for (let at = 0; h.volume.writable; at = (at + 8) % 512) {
      writing.push(h.write(at * blockBytes, h.random.bytes(8 * blockBytes)));
      await h.flush();
      await settle();
    }
    await pass(h, 20_000);
    assert.ok(!log.hasRoom);
    log.files.unpin(file);
    await pass(h, 20_000);
    assert.ok(partsOf(h).log.hasRoom);
    await Promise.all(writing);
    await h.volume.close();
  });
});

describe('what is to be moved at once', () => {
  it('is moved though something else comes first', async () => {
    const h = await open(5);
    const { destager, log, reclaimer } = partsOf(h);
    for (let at = 0; at < 10; at++) await h.write(at * MIB, h.random.bytes(MIB));
    await h.flush();
    let leave = (): void => undefined;
    void destager.alone(() => new Promise<void>((resolve) => (leave = resolve)));
    const moving = reclaimer.destageSoon();
    await settle();
    const other = assert.rejects(h.volume.replication.rounds.begin(), { code: 'invalid-request' });
    leave();
    await moving;
    await other;
    assert.ok(destager.cursor.lsn > log.durableLsn);
    await h.volume.close();
  });
});
