/** How a revert that cannot begin, or cannot go on, ends: nobody is served in between, and the bucket follows again. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DurabilityLostError, GatewayError } from '../../../src/base/errors.js';
import type { Volume } from '../../../src/engine/volume.js';
import { RevertLine } from '../../../src/gateway/revert-line.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { plainChecksums } from '../../fake/checksums.js';

const BLOCK = 4096;
const record = { snapshot: 'before', snapshotLsn: 7, sizeBytes: 16 * BLOCK, presentLsn: 9 };
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A snapshot that is what the volume is, but for the volume's size, which grew since. */
function stage(disk = new MemoryDisk()) {
  const clock = new ManualClock();
  const log = new RecordedLog();
  const volume = {
    name: 'disk0',
    sizeBytes: 32 * BLOCK,
    writable: true,
    held: false,
    holdFailure: undefined as GatewayError | undefined,
    trimFailures: 0,
    trimmed: [] as number[],
    replication: {
      state: { replicatedLsn: 9 },
      holdRounds: (): Promise<void> => {
        volume.held = true;
        return volume.holdFailure === undefined ? Promise.resolve() : Promise.reject(volume.holdFailure);
      },
      releaseRounds: (): void => {
        volume.held = false;
      },
    },
    forceFlush: () => Promise.resolve(9),
    trim(offset: number, length: number, _fua: boolean, { done }: { done: (error?: GatewayError) => void }): void {
      if (this.trimFailures-- > 0) return done(new GatewayError('disk-full', 'the disk is full'));
      this.trimmed.push(offset, length);
      done();
    },
  };
  const line: RevertLine = new RevertLine({
    ...{ volume: 'disk0', disk, checksums: plainChecksums, clock, log },
    line: () => (message) => {
      if (message.type !== 'past') return;
      const result = { next: undefined, blocks: 0, lost: [], runs: [] };
      queueMicrotask(() => line.received({ type: 'past', id: message.id, result }));
    },
  });
  const run = (): Promise<void> => line.run(volume as unknown as Volume, record, () => undefined);
  return { disk, clock, log, volume, line, run };
}

describe('a revert', () => {
  it('lets rounds begin again where it could not hold them, or not write down that it begins', async () => {
    const { volume, run, line } = stage();
    volume.holdFailure = new GatewayError('disk-full', 'the disk is full');
    await assert.rejects(run(), { code: 'disk-full' });
    assert.equal(volume.held, false);

    class Failing extends MemoryDisk {
      override writeSmall(): Promise<void> {
        return Promise.reject(new GatewayError('disk-failed', 'write revert: EIO'));
      }
    }
    const second = stage(new Failing());
    await assert.rejects(second.run(), { code: 'disk-failed' });
    assert.equal(second.volume.held, false);
    assert.equal(await line.pending(), undefined);
  });

  it('takes a record back that was written but may not be durable, before rounds begin again', async () => {
    class Doubtful extends MemoryDisk {
      override async writeSmall(path: string, bytes: Uint8Array): Promise<void> {
        await super.writeSmall(path, bytes);
        throw new GatewayError('disk-failed', 'fsync revert: EIO');
      }
    }
    const { volume, run, line } = stage(new Doubtful());
    await assert.rejects(run(), { code: 'disk-failed' });
    assert.equal(await line.pending(), undefined);
    assert.equal(volume.held, false);
  });

  it('holds the bucket where it is not known whether its record went', async () => {
    class Forgetful extends MemoryDisk {
      override syncDirectory(): Promise<void> {
        return Promise.reject(new GatewayError('disk-failed', 'fsync: EIO'));
      }
    }
    const { volume, run } = stage(new Forgetful());
    await assert.rejects(run(), DurabilityLostError);
    assert.equal(volume.held, true);
  });

  it('goes on with the blocks behind the end of the snapshot once there is space for it', async () => {
    const { volume, run, line, clock, log } = stage();
    volume.trimFailures = 1;
    const done = run();
    await settle();
    assert.notEqual(await line.pending(), undefined);
    assert.match(log.lines.join('\n'), /back to snapshot before does not go on: the disk is full/);
    clock.advance(2000);
    await done;
    assert.deepEqual(volume.trimmed, [16 * BLOCK, 16 * BLOCK]);
    assert.equal(await line.pending(), undefined);
    assert.equal(volume.held, false);
  });
});
