import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BLOCKS_PER_GROUP } from '../../../src/engine/block-set.js';
import { DirtyMap } from '../../../src/engine/dirty-map.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const end = 5 * BLOCKS_PER_GROUP;

function countOf(map: DirtyMap): number {
  return map.countBelow(end);
}

async function reloaded(disk: MemoryDisk): Promise<DirtyMap> {
  const map = new DirtyMap(disk, plainChecksums);
  await map.load(end);
  return map;
}

describe('the dirty map', () => {
  it('is what it was after a power loss, once it was flushed', async () => {
    const disk = new MemoryDisk();
    const random = new SeededRandom(5);
    const map = new DirtyMap(disk, plainChecksums);
    const marked = new Set<number>();
    for (let step = 0; step < 300; step++) {
      const block = random.below(end);
      map.add(block, 1);
      marked.add(block);
      if (step % 40 === 0) await map.flush();
    }
    await map.flush();
    await map.close();
    disk.crash(random);
    const found = await reloaded(disk);
    assert.equal(countOf(found), marked.size);
    for (const block of marked) assert.ok(found.has(block));
    await found.close();
  });

  it('counts every block where its file is missing, and all of a sector that has rotted', async () => {
    const disk = new MemoryDisk();
    const none = await reloaded(disk);
    assert.equal(countOf(none), end);
    await none.clear();
    none.add(7, 1);
    none.add(BLOCKS_PER_GROUP + 1, 1);
    await none.flush();
    await none.close();
    const file = await disk.open('dirty', { mode: 'write' });
    await file.write([Uint8Array.of(1)], 100);
    await file.close();
    const found = await reloaded(disk);
    assert.equal(countOf(found), BLOCKS_PER_GROUP + 1);
    assert.ok(found.has(7) && found.has(BLOCKS_PER_GROUP + 1) && !found.has(BLOCKS_PER_GROUP + 2));
    await found.close();
  });

  it('keeps what stands aside for a round until the round is in the bucket', async () => {
    const disk = new MemoryDisk();
    const map = new DirtyMap(disk, plainChecksums);
    map.add(10, 5);
    await map.flush();
    map.freeze();
    map.add(100, 1);
    await map.flush();
    assert.equal(countOf(map), 6);
    assert.equal(countOf(await reloaded(disk)), 6);
    map.committed();
    await map.flush();
    assert.equal(countOf(await reloaded(disk)), 1);
    map.freeze();
    map.thaw();
    assert.ok(map.has(100));
    await map.clear();
    assert.equal(countOf(await reloaded(disk)), 0);
    await map.close();
  });
});
