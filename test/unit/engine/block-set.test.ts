import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BlockSet, BLOCKS_PER_GROUP } from '../../../src/engine/block-set.js';
import { SeededRandom } from '../../fake/random.js';

const end = 3 * BLOCKS_PER_GROUP;

describe('a set of blocks', () => {
  it('is a set, whatever is added and removed', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const random = new SeededRandom(seed);
      const bitmap = new BlockSet();
      const model = new Set<number>();
      for (let step = 0; step < 200; step++) {
        const first = random.below(end);
        if (random.fraction() < 0.6) {
          const count = 1 + random.below(random.fraction() < 0.1 ? end - first : Math.min(50, end - first));
          const changed = new Set<number>();
          bitmap.add(first, count, (group) => changed.add(group));
          for (let block = first; block < first + count; block++) {
            // A group that gains a block must be told; one that was wholly in it must not.
            if (!model.has(block)) assert.ok(changed.has(Math.floor(block / BLOCKS_PER_GROUP)));
            model.add(block);
          }
        } else {
          bitmap.remove(first);
          model.delete(first);
        }
      }
      const from = random.below(end);
      const inside = [...model].filter((block) => block >= from).sort((left, right) => left - right);
      assert.deepEqual([...bitmap.within(from, end)], inside);
      const until = random.below(end);
      assert.equal(bitmap.countBelow(until), [...model].filter((block) => block < until).length);
      const copy = new BlockSet();
      copy.addAll(bitmap);
      const other = new BlockSet();
      for (const first of [random.below(end), random.below(end)]) {
        const count = Math.min(end - first, random.fraction() < 0.5 ? 3 : 5000);
        other.add(first, count);
        for (let block = first; block < first + count; block++) model.add(block);
      }
      const either = [...model].filter((block) => block < until).length;
      assert.equal(bitmap.countBelow(until, other), either);
      assert.equal(other.countBelow(until, bitmap), either);
      copy.addAll(other);
      bitmap.add(0, end);
      assert.deepEqual([...copy.within(0, end)].length, model.size);
      assert.equal(bitmap.countBelow(end), end);
    }
  });

  it('gives no block that is taken out while it is gone through', () => {
    const bitmap = new BlockSet();
    bitmap.add(0, 100);
    const found: number[] = [];
    for (const block of bitmap.within(0, 100)) {
      found.push(block);
      bitmap.remove(block + 1);
    }
    assert.deepEqual(
      found,
      Array.from({ length: 50 }, (_, at) => 2 * at),
    );
  });
});
