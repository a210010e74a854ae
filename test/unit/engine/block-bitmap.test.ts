import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockBitmap } from '../../../src/engine/block-bitmap.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

async function open(disk: MemoryDisk, rotten: number[] = []): Promise<BlockBitmap> {
  return BlockBitmap.open(disk, 'set', plainChecksums, (sector) => rotten.push(sector));
}

async function has(set: BlockBitmap, blocks: readonly number[]): Promise<boolean[]> {
  return Promise.all(blocks.map((block) => set.has(block)));
}

describe('durable set of blocks', () => {
  it('has what was added, over sectors and pages, after another opening', async () => {
    const disk = new MemoryDisk();
    await BlockBitmap.create(disk, 'set');
    const set = await open(disk);
    await set.add(4060, 10);
    await set.add(260_090, 12);
    await set.add(5_000_000_000 / 4, 1);
    const blocks = [0, 4059, 4060, 4069, 4070, 260_089, 260_090, 260_101, 260_102, 1_250_000_000];
    const expected = [false, false, true, true, false, false, true, true, false, true];
    assert.deepEqual(await has(set, blocks), expected);
    const ranges = [
      [0, 4060, false],
      [4000, 61, true],
      [4069, 1, true],
      [4070, 256_020, false],
      [4070, 256_021, true],
      [260_102, 1_249_739_898, false],
    ] as const;
    for (const [first, count, any] of ranges) assert.equal(await set.hasAny(first, count), any, `from ${first}`);
    await set.flush();
    await set.close();
    assert.deepEqual(await has(await open(disk), blocks), expected);
  });

  it('loses nothing that was flushed, and adds nothing, when the power goes in the middle of a flush', async () => {
    const random = new SeededRandom(1);
    for (let round = 0; round < 60; round++) {
      const disk = new MemoryDisk();
      await BlockBitmap.create(disk, 'set');
      await disk.syncDirectory('.');
      const set = await open(disk);
      await set.add(10, 5);
      await set.flush();
      await set.add(20, 1);
      let left = random.below(5);
      disk.hook = (operation) => {
        if ((operation === 'write' || operation === 'sync') && left-- === 0) throw new Error('the power is gone');
      };
      await set.flush().catch(() => undefined);
      disk.hook = () => undefined;
      disk.crash(random);
      const rotten: number[] = [];
      const again = await open(disk, rotten);
      assert.deepEqual(await has(again, [9, 10, 14, 15, 19, 21]), [false, true, true, false, false, false]);
      assert.deepEqual(rotten, []);
    }
  });

  it('survives rot in one of its files, and counts all as added where both have rotted', async () => {
    const disk = new MemoryDisk();
    await BlockBitmap.create(disk, 'set');
    const set = await open(disk);
    await set.add(1, 1);
    await set.add(5000, 1);
    await set.flush();
    disk.bytesOf('set.0')[3]! ^= 1;
    assert.deepEqual(await has(await open(disk), [0, 1, 2, 5000, 5001]), [false, true, false, true, false]);
    disk.bytesOf('set.1')[400]! ^= 1;
    const rotten: number[] = [];
    assert.deepEqual(await has(await open(disk, rotten), [0, 4063, 4064, 5000]), [true, true, false, true]);
    assert.deepEqual(rotten, [0]);
  });
});
