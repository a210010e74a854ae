import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { VolumeConfiguration } from '../../../src/config/configuration.js';
import { settleIn } from '../../../src/gateway/volume-home.js';
import type { VolumeHome } from '../../../src/gateway/volume-home.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const MIB = 1024 * 1024;
const thin = { name: 'disk0', sizeBytes: 4 * MIB, bufferBytes: 64 * MIB, provision: 'thin' } as VolumeConfiguration;

function home(disk: MemoryDisk, configuration: VolumeConfiguration): VolumeHome & { readonly discarded: () => number } {
  let discarded = 0;
  return {
    ...{ configuration, disk, checksums: plainChecksums, random: new SeededRandom(1) },
    discard: () => {
      discarded++;
      return Promise.resolve();
    },
    discarded: () => discarded,
  };
}

function failing(disk: MemoryDisk): void {
  disk.hook = (operation, path) => {
    if (operation === 'open' && path === 'image') throw new GatewayError('disk-failed', 'open image: EIO');
  };
}

describe('the directory of a volume', () => {
  it('gets a new volume while it is empty, which is found there from then on', async () => {
    const disk = new MemoryDisk();
    const made = await settleIn(home(disk, thin));
    assert.deepEqual([made.name, made.origin], ['disk0', 'created']);
    assert.equal((await settleIn(home(disk, thin))).uuid, made.uuid);
  });

  it('is no other volume’s', async () => {
    const disk = new MemoryDisk();
    await settleIn(home(disk, thin));
    const other = home(disk, { ...thin, name: 'disk1' });
    await assert.rejects(settleIn(other), { code: 'volume-exists', message: /holds volume disk0/ });
    assert.equal(other.discarded(), 0);
  });

  it('goes where its space cannot be reserved, and stays where something else fails', async () => {
    const full: VolumeConfiguration = { ...thin, provision: 'full' };
    for (const [code, discards, spoil] of [
      ['disk-full', 1, (disk: MemoryDisk) => (disk.free = 0)],
      ['not-supported', 1, (disk: MemoryDisk) => (disk.canReserve = false)],
      ['disk-failed', 0, failing],
    ] as const) {
      const disk = new MemoryDisk();
      spoil(disk);
      const refused = home(disk, full);
      await assert.rejects(settleIn(refused), { code });
      assert.equal(refused.discarded(), discards, code);
    }
  });
});
