/** How far image and bucket are: what the log is kept for, and what superblocks say of it (P4, P7). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DurableProgress } from '../../../src/engine/durable-progress.js';
import { createSuperblocks, SuperblockWriter } from '../../../src/engine/superblock.js';
import type { Superblock } from '../../../src/engine/superblock.js';
import type { LogCursor, ReplicationState } from '../../../src/ports/replication.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

const at = (lsn: number): LogCursor => ({ file: lsn, offset: 4096, lsn, epoch: '0'.repeat(16), chain: 0 });
const bucketAt = (lsn: number): ReplicationState => ({
  keeping: 'draining',
  replicatedLsn: lsn - 1,
  cursor: at(lsn),
  remoteEpoch: 1,
  segmentNumber: lsn,
  chainHead: new Uint8Array(32),
  mapAppliedThrough: 0,
  fenced: false,
});
const tracking = (lsn: number): ReplicationState => ({ ...bucketAt(lsn), keeping: 'tracking' });

interface Given {
  readonly replication: ReplicationState;
  readonly imageLsn: number;
  readonly replicated?: boolean;
  /** Where a round goes on that was begun before. */
  readonly roundLsn?: number;
  readonly tailLsn?: number;
}

/** A progress, the disk with its superblocks, and what it said to the rounds to be secured. */
async function progressOf({ replication, imageLsn, replicated = true, roundLsn, tailLsn = 1 }: Given): Promise<{
  readonly progress: DurableProgress;
  readonly secured: unknown[];
  readonly reopen: () => Promise<Superblock>;
}> {
  const disk = new MemoryDisk();
  const identity = { volumeUuid: '11'.repeat(4) + '-1111-4111-8111-' + '11'.repeat(6), sizeBytes: 4096 };
  const boot = { ...identity, bootId: identity.volumeUuid };
  const cursors = { tail: at(tailLsn), destageCursor: at(imageLsn) };
  const lsns = { durableLsn: 0, destagedLsn: imageLsn - 1 };
  await createSuperblocks(disk, plainChecksums, { ...boot, ...cursors, ...lsns, replication, round: 0, clean: true });
  const { writer, newest } = await SuperblockWriter.open(disk, plainChecksums);
  const secured: unknown[] = [];
  const moment = roundLsn === undefined ? undefined : { round: 7, cursor: at(roundLsn), sizeBytes: 4096, wallMs: 0 };
  const progress = new DurableProgress({
    log: { durableLsn: 99 },
    rounds: { moment, named: 7, secured: (staged) => void secured.push(staged) },
    superblock: writer,
    newest,
    identity: () => boot,
    replicated,
  });
  return { progress, secured, reopen: async () => (await SuperblockWriter.open(disk, plainChecksums)).newest };
}

describe('the tail of the log', () => {
  it('is where the image ends, or earlier, where the bucket is to go on from', async () => {
    const { progress } = await progressOf({ replication: bucketAt(5), imageLsn: 3 });
    assert.equal(progress.tail.lsn, 3, 'the image needs more');
    progress.synced = at(9);
    assert.equal(progress.tail.lsn, 5, 'the bucket needs more');
    const local = await progressOf({ replication: bucketAt(5), imageLsn: 9, replicated: false });
    assert.equal(local.progress.tail.lsn, 9, 'no bucket needs anything');
  });

  it('is where a round began, until the log lets go of it', async () => {
    const { progress } = await progressOf({ replication: tracking(2), imageLsn: 6 });
    assert.equal(progress.tail.lsn, 6, 'the dirty map has what the bucket lacks');
    assert.equal(progress.keepsNothing, true);
    progress.holdLog();
    progress.synced = at(9);
    assert.deepEqual([progress.tail.lsn, progress.keepsNothing], [6, false]);
    progress.letLogGo();
    assert.deepEqual([progress.tail.lsn, progress.keepsNothing], [9, true]);
  });

  it('is where a round began before a restart, if the log was kept since', async () => {
    const kept = await progressOf({ replication: tracking(2), imageLsn: 9, roundLsn: 6, tailLsn: 6 });
    assert.equal(kept.progress.tail.lsn, 6);
    const gone = await progressOf({ replication: tracking(2), imageLsn: 9, roundLsn: 6, tailLsn: 8 });
    assert.equal(gone.progress.tail.lsn, 9);
  });
});

describe('how the bucket is kept up', () => {
  it('is decided here, whatever a replicator says that has not heard of it', async () => {
    const { progress } = await progressOf({ replication: bucketAt(5), imageLsn: 9 });
    progress.track();
    progress.heard(bucketAt(7));
    assert.equal(progress.tracking, true);
    assert.deepEqual([progress.replication.cursor.lsn, progress.replication.replicatedLsn], [5, 6]);
  });

  it('never falls back behind the place that was decided on', async () => {
    const { progress } = await progressOf({ replication: bucketAt(5), imageLsn: 9 });
    progress.heard(bucketAt(3));
    assert.equal(progress.replication.cursor.lsn, 5);
    assert.equal(progress.replicatedLsn, 4);
    progress.heard(bucketAt(8));
    assert.equal(progress.replication.cursor.lsn, 8);
  });

  it('is the log again after a round since whose begin nothing was let go', async () => {
    const { progress } = await progressOf({ replication: tracking(2), imageLsn: 6 });
    progress.holdLog();
    assert.deepEqual(progress.endRound(at(6)), { keeping: 'draining', cursor: at(6) });
    assert.equal(progress.tracking, false);
  });

  it('stays the dirty map after a round during which the log was let go', async () => {
    const { progress } = await progressOf({ replication: tracking(2), imageLsn: 6 });
    progress.holdLog();
    progress.letLogGo();
    assert.deepEqual(progress.endRound(at(6)), { keeping: 'tracking', cursor: at(6) });
    assert.equal(progress.keepsNothing, true);
  });
});

describe('superblocks', () => {
  it('are outdated by what the bucket, a fence or another size adds, and by staged segments only while tracking', async () => {
    const { progress } = await progressOf({ replication: bucketAt(5), imageLsn: 3 });
    assert.equal(progress.isOutdated, false);
    progress.heard({ ...bucketAt(5), segmentNumber: 6 });
    assert.equal(progress.isOutdated, false);
    progress.track();
    assert.equal(progress.isOutdated, true);
    await progress.record();
    assert.equal(progress.isOutdated, false);
    progress.changeIdentity();
    assert.equal(progress.isOutdated, true);
    await progress.record();
    progress.heard({ ...progress.replication, fenced: true });
    assert.deepEqual([progress.isOutdated, progress.fenceUnrecorded], [true, true]);
    await progress.record();
    assert.deepEqual([progress.isOutdated, progress.fenceUnrecorded], [false, false]);
  });

  it('say what was known when they were begun: what comes meanwhile is for the next one', async () => {
    const { progress, reopen } = await progressOf({ replication: bucketAt(5), imageLsn: 3 });
    progress.synced = at(4);
    const recording = progress.record();
    progress.heard(bucketAt(8));
    progress.synced = at(9);
    await recording;
    const { destagedLsn, replication, tail } = await reopen();
    assert.deepEqual([destagedLsn, replication.replicatedLsn, tail.lsn], [3, 4, 4]);
    assert.deepEqual([progress.recordedDestagedLsn, progress.isOutdated], [3, true]);
  });

  it('hold files back until both let them go', async () => {
    const { progress, reopen } = await progressOf({ replication: bucketAt(20), imageLsn: 3 });
    progress.synced = at(9);
    await progress.record();
    assert.equal(progress.superblock.oldestFileNeeded, 1);
    await progress.recordInBoth();
    assert.equal(progress.superblock.oldestFileNeeded, 9);
    assert.deepEqual([(await reopen()).clean, (await reopen()).round], [false, 7]);
    await progress.record(true);
    assert.equal((await reopen()).clean, true);
  });

  it('once durable, secure what the bucket has of a round', async () => {
    const { progress, secured } = await progressOf({ replication: tracking(2), imageLsn: 3 });
    const staged = { round: 7, next: 40 };
    progress.heard({ ...tracking(2), segmentNumber: 3, staged });
    const recording = progress.record();
    assert.deepEqual(secured, []);
    await recording;
    assert.deepEqual(secured, [staged]);
  });
});
