/** Who has a volume, and which snapshot stays, while a volume becomes what the snapshot is. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DurabilityLostError, GatewayError } from '../../../src/base/errors.js';
import type { Volume } from '../../../src/engine/volume.js';
import { VolumeAccess } from '../../../src/gateway/access.js';
import type { RevertLine } from '../../../src/gateway/revert-line.js';
import type { SnapshotLine } from '../../../src/gateway/snapshot-line.js';
import { VolumeRevert } from '../../../src/gateway/volume-revert.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';

const record = { snapshot: 'old', snapshotLsn: 7, sizeBytes: 4096, presentLsn: 9 };

function stage() {
  const access = new VolumeAccess({
    ...{ volume: 'disk0', mode: 'exclusive', clock: new ManualClock(), log: new RecordedLog() },
  });
  const steps: string[] = [];
  const world = { failure: undefined as Error | undefined, pending: false };
  const snapshots = {
    needed: undefined as string | undefined,
    whole: () => ({ snapshotLsn: 7, sizeBytes: 4096 }),
    before: () => Promise.resolve({ name: `before-revert-${steps.push('snapshot')}` }),
  };
  const step = (name: string): Promise<void> => {
    steps.push(name);
    assert.throws(() => access.lock('is being removed'), { code: 'volume-in-use' }, 'nobody gets it meanwhile');
    assert.equal(snapshots.needed, 'old');
    return world.failure === undefined ? Promise.resolve() : Promise.reject(world.failure);
  };
  const line = {
    run: (_volume: unknown, asked: typeof record) => step(`run from ${asked.snapshotLsn} to ${asked.presentLsn}`),
    finish: () => Promise.resolve(void steps.push('finish')),
    pending: () => Promise.resolve(world.pending ? record : undefined),
  };
  const volume = {
    snapshots: {},
    forceFlush: () => Promise.resolve(9),
    replication: { holdRounds: () => Promise.resolve(void steps.push('hold')) },
  } as unknown as Volume;
  const fatal: Error[] = [];
  const revert = new VolumeRevert({
    access,
    snapshots: snapshots as unknown as SnapshotLine,
    line: line as unknown as RevertLine,
    replicateTo: (lsn) => step(`replicate to ${lsn}`),
    onFatal: (error) => fatal.push(error),
  });
  const isFree = (): boolean => {
    try {
      access.lock('is being removed');
    } catch {
      return false;
    }
    access.unlock();
    return snapshots.needed === undefined && revert.snapshot === undefined;
  };
  const run = (keepsPresent = false): Promise<string | undefined> =>
    revert.run(volume, 'old', keepsPresent, () => undefined);
  return { access, steps, world, volume, fatal, revert, isFree, run };
}

describe('the time of a revert', () => {
  it('begins with a snapshot of the present, in the bucket, and ends with a volume that is free', async () => {
    const { run, steps, isFree } = stage();
    assert.equal(await run(true), 'before-revert-1');
    assert.deepEqual(steps, ['snapshot', 'replicate to 9', 'run from 7 to 9']);
    assert.equal(isFree(), true);
    assert.equal(await run(), undefined);
  });

  it('does not begin while somebody has the volume', async () => {
    const { run, access, steps, revert } = stage();
    access.lock('is being removed');
    await assert.rejects(run(), { code: 'volume-in-use' });
    assert.deepEqual([steps, revert.snapshot], [[], undefined]);
  });

  it('is over where it fails before it has begun durably, and goes on where it has', async () => {
    const { run, world, isFree, revert, fatal } = stage();
    world.failure = new GatewayError('store-unreachable', 'the bucket does not answer');
    await assert.rejects(run(), { code: 'store-unreachable' });
    assert.equal(isFree(), true);
    world.pending = true;
    await assert.rejects(run(), { code: 'store-unreachable' });
    assert.deepEqual([isFree(), revert.snapshot, fatal], [false, 'old', []]);
  });

  it('ends the process where it is not known whether its record went', async () => {
    const { run, world, fatal, isFree } = stage();
    world.failure = new DurabilityLostError('fsync: EIO');
    await assert.rejects(run(), DurabilityLostError);
    assert.deepEqual([fatal, isFree()], [[world.failure], false]);
  });

  it('is resumed with the bucket held, and ends with the rest', async () => {
    const { revert, volume, steps, isFree } = stage();
    await revert.resume(volume, record);
    assert.deepEqual([steps, revert.snapshot], [['hold'], 'old']);
    await revert.finish(volume, record);
    assert.deepEqual(steps, ['hold', 'finish']);
    assert.equal(isFree(), true);
  });
});
