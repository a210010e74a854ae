import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Overlay } from '../../../src/engine/overlay.js';
import { UnreplicatedBlocks } from '../../../src/engine/unreplicated-blocks.js';
import { SeededRandom } from '../../fake/random.js';

const BLOCKS = 2000;

function step(set: UnreplicatedBlocks, replicatedLsn: number, change: (newest: Overlay) => void): void {
  const newest = new Overlay();
  change(newest);
  set.moving(newest, newest.table.sortedBlocks(), replicatedLsn);
}

describe('blocks that are in the image and not in the bucket', () => {
  it('are known with their newest record, exactly', () => {
    const set = new UnreplicatedBlocks();
    assert.ok(set.isEmpty(0));
    step(set, 0, ({ table, extents }) => {
      table.set(7, 10, 0, 0);
      table.set(8, 11, 0, 0);
      extents.add({ start: 100, end: 200, lsn: 12, keepAllocated: false });
    });
    step(set, 5, ({ table }) => table.set(7, 20, 0, 0));
    for (const [replicatedLsn, dirty] of [
      [9, [7, 8, 100, 199]],
      [10, [7, 8, 100, 199]],
      [11, [7, 100, 199]],
      [12, [7]],
      [19, [7]],
      [20, []],
    ] as const) {
      assert.deepEqual([6, 7, 8, 9, 99, 100, 199, 200].filter((block) => set.has(block, replicatedLsn)), dirty); // prettier-ignore
    }
    assert.ok(set.isEmpty(20));
    assert.equal(set.isEmpty(19), false);
  });

  it('none is ever missing however many there are, and all are gone once the bucket has the newest of a set', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new SeededRandom(seed);
      const set = new UnreplicatedBlocks(100);
      const newestLsn = new Float64Array(BLOCKS);
      let lsn = 0;
      let replicatedLsn = 0;
      let taken = 0;
      for (let round = 0; round < 200; round++) {
        step(set, replicatedLsn, ({ table, extents }) => {
          for (let i = 0; i < 10; i++) {
            const block = random.below(BLOCKS);
            newestLsn[block] = ++lsn;
            table.set(block, lsn, 0, 0);
          }
          if (random.below(4) > 0) return;
          const start = random.below(BLOCKS - 50);
          newestLsn.fill(++lsn, start, start + 50);
          extents.add({ start, end: start + 50, lsn, keepAllocated: false });
        });
        if (random.below(3) === 0) replicatedLsn += random.below(lsn - replicatedLsn + 1);
        for (let block = 0; block < BLOCKS; block++) {
          const dirty = (newestLsn[block] ?? 0) > replicatedLsn;
          const said = set.has(block, replicatedLsn);
          assert.ok(said || !dirty, `seed ${seed}: block ${block} is missing`);
          if (said && !dirty) taken++;
        }
      }
      assert.ok(taken < 200 * BLOCKS * 0.9, 'most of what was replicated is known to be');
      for (let block = 0; block < BLOCKS; block++) assert.equal(set.has(block, lsn), false);
      assert.ok(set.isEmpty(lsn));
    }
  });
});
