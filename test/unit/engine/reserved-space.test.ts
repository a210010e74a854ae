/** Volumes with `provision: full`: what they take, keep, and do without. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { reserveDraft } from '../../../src/engine/reserved-space.js';
import { createVolume } from '../../../src/engine/volume-directory-format.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;
const bufferBytes = 32 * MIB;

function full(seed: number): VolumeHarness {
  const h = new VolumeHarness(seed, MIB);
  h.overrides = { provision: 'full', bufferBytes };
  return h;
}

async function create({ disk, random, sizeBytes }: VolumeHarness): Promise<void> {
  const reserve = (): Promise<void> => reserveDraft(disk, { volumeBytes: sizeBytes, bufferBytes });
  await createVolume({ disk, checksums: plainChecksums, random, name: 'disk0', sizeBytes, reserve });
}

const noSpace = (): GatewayError => new GatewayError('disk-full', 'no space left on device (ENOSPC)');

/** Everything that a volume of MIB takes, by file. */
const sumsBytes = 64 * 512;
const isWhole = ({ disk }: VolumeHarness): boolean =>
  disk.reserved.get('image') === MIB && disk.reserved.get('sums') === sumsBytes && disk.reserved.has('sums.redo');

async function destaged(h: VolumeHarness): Promise<void> {
  await h.flush();
  h.clock.advance(6000);
  await settle();
  assert.equal(h.volume.status().overlayBlocks, 0);
}

describe('a volume whose space is reserved', () => {
  it('has image, checksums and the whole ring of the log from the beginning, and keeps them through trims', async () => {
    const h = full(1);
    await create(h);
    assert.ok(isWhole(h));
    const logFiles = (await h.disk.list('log')).length;
    assert.equal(logFiles, bufferBytes / (4 * MIB));
    h.disk.hook = (operation, path) => {
      if (operation === 'open' && path === 'log/new') throw noSpace();
    };
    await h.open();
    assert.deepEqual(h.volume.status().provision, { mode: 'full', problem: undefined });
    await h.write(0, h.random.bytes(MIB));
    await destaged(h);
    await h.zero(8 * BLOCK, 100 * BLOCK, true);
    await h.zero(0, 2 * BLOCK, false);
    const extents = [
      { lengthBytes: 2 * BLOCK, state: 'zero' },
      { lengthBytes: 6 * BLOCK, state: 'data' },
      { lengthBytes: 100 * BLOCK, state: 'zero' },
      { lengthBytes: 148 * BLOCK, state: 'data' },
    ];
    assert.deepEqual(await h.volume.blockStatus(0, MIB, 9), extents, 'in the log');
    await destaged(h);
    assert.deepEqual(await h.volume.blockStatus(0, MIB, 9), extents, 'in the image');
    await h.zero(0, MIB, true);
    await destaged(h);
    assert.deepEqual(await h.volume.blockStatus(0, MIB, 9), [{ lengthBytes: MIB, state: 'zero' }]);
    assert.deepEqual(await h.read(0, MIB), new Uint8Array(MIB));
    assert.ok(isWhole(h));
    await h.volume.close();
    await h.open();
    assert.deepEqual(await h.read(0, MIB), new Uint8Array(MIB));
    await h.volume.close();
  });

  it('is not made where the disk has no room for it: one line, and nothing is left, wherever that shows', async () => {
    const h = full(2);
    h.disk.free = MIB + bufferBytes;
    await assert.rejects(create(h), {
      code: 'disk-full',
      message: /provision: full takes 38 MiB now, and the disk has 33 MiB left: free space, .* provision: thin$/,
    });
    assert.deepEqual(await leftIn(h), []);
    h.disk.free = 2 ** 40;
    for (const fails of ['reserve image', 'reserve sums', 'reserve sums.redo', 'allocate log/new', 'write log/new']) {
      let passes = fails.endsWith('log/new') ? 3 : 0;
      h.disk.hook = (operation, path) => {
        if (`${operation} ${path}` === fails && passes-- === 0) throw noSpace();
      };
      await assert.rejects(create(h), { code: 'disk-full', message: /provision: full takes/ }, fails);
      h.disk.hook = () => undefined;
      assert.deepEqual(await leftIn(h), [], fails);
    }
    await create(h);
    assert.ok(isWhole(h));
  });

  it('is not made where the file system cannot reserve space', async () => {
    const h = full(3);
    h.disk.canReserve = false;
    await assert.rejects(create(h), { code: 'not-supported', message: /cannot reserve space .* provision: thin/ });
    assert.deepEqual(await leftIn(h), []);
  });

  it('takes what it still lacks when it is opened; without it, it is served all the same, and says so', async () => {
    const h = new VolumeHarness(4, MIB);
    await h.create();
    await h.write(0, h.random.bytes(4 * BLOCK));
    await h.volume.close();
    assert.equal(h.disk.reserved.size, 0);
    h.overrides = { provision: 'full', bufferBytes };
    h.disk.hook = (operation, path) => {
      if (`${operation} ${path}` === 'reserve sums') throw noSpace();
    };
    await h.open();
    const { provision } = h.volume.status();
    assert.match(provision.problem ?? '', /since the disk is full: free space and start the gateway again/);
    assert.ok(h.log.lines.some((line) => line.includes('volume disk0: not all of its space could be reserved')));
    assert.equal((await h.volume.blockStatus(MIB / 2, BLOCK, 1))[0]?.state, 'hole');
    await h.write(0, h.random.bytes(4 * BLOCK));
    await h.volume.close();
    h.disk.hook = () => undefined;
    await h.open();
    assert.equal(h.volume.status().provision.problem, undefined);
    assert.ok(isWhole(h));
    await h.expectPrefix(h.acknowledged);
    await h.volume.close();
  });

  it('grows with all of its new space, or not at all', async () => {
    const h = full(5);
    await create(h);
    await h.open();
    await h.write(0, h.random.bytes(MIB));
    for (const fails of ['reserve image', 'reserve sums']) {
      h.disk.hook = (operation, path) => {
        if (`${operation} ${path}` === fails) throw noSpace();
      };
      await assert.rejects(h.volume.growth.to(64 * MIB), { code: 'disk-full', message: /takes 63 MiB now/ });
      assert.equal(h.volume.sizeBytes, MIB);
      assert.equal(h.disk.reserved.get('image'), MIB, 'what could not be used is given back');
    }
    h.disk.hook = () => undefined;
    await h.volume.growth.to(64 * MIB);
    assert.equal(h.disk.reserved.get('image'), 64 * MIB);
    assert.ok((h.disk.reserved.get('sums') ?? 0) > sumsBytes);
    assert.deepEqual(await h.read(0, MIB), h.expected(1));
    await h.volume.close();
  });
});

/** Names in the directory, those of an empty log aside. */
async function leftIn({ disk }: VolumeHarness): Promise<string[]> {
  return [...(await disk.list('.')).filter((name) => name !== 'log'), ...(await disk.list('log'))];
}
