import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deathOf, exclusiveBytes, unneeded } from '../../../src/remote/deletion-rule.js';
import type { DeadObject, Needs } from '../../../src/remote/deletion-rule.js';
import { ObjectNames } from '../../../src/remote/name.js';
import { SeededRandom } from '../../fake/random.js';

const names = new ObjectNames('00000000-0000-4000-8000-000000000001');
const nobody: Needs = { floor: 100, pinFloor: Infinity, kept: [] };

function dead(name: string, deadAt: number): DeadObject {
  const death = deathOf(names, name);
  assert.ok(death !== undefined);
  return { ...death, deadAt, sinceMs: 0 };
}

const segment = (number: number, deadAt: number): DeadObject => dead(names.segment({ epoch: 1, number }), deadAt);
const root = (number: number, deadAt: number): DeadObject => dead(names.checkpoint({ epoch: 1, number }), deadAt);
const shard = (number: number, deadAt: number): DeadObject => dead(names.shard({ epoch: 1, number, part: 0 }), deadAt);

function goes(objects: DeadObject[], needs: Partial<Needs> = {}): number[] {
  return unneeded(objects, { ...nobody, ...needs }).map(({ number }) => number);
}

describe('what may be deleted', () => {
  it('was dead at the oldest kept checkpoint, and at what readers began with', () => {
    assert.deepEqual(goes([segment(1, 99), segment(2, 100), segment(3, 101)]), [1, 2]);
    assert.deepEqual(goes([segment(1, 99), segment(2, 100), segment(3, 101)], { pinFloor: 99 }), [1]);
    assert.deepEqual(goes([segment(1, 99)], { pinFloor: 0 }), []);
  });

  it('is covered by no snapshot: born at or before it, and died after it', () => {
    const kept = [{ from: 50, through: 50 }];
    assert.deepEqual(goes([segment(49, 50), segment(50, 51), segment(10, 60), segment(51, 60)], { kept }), [49, 51]);
    assert.deepEqual(goes([root(50, 80), root(40, 50), root(60, 80)], { kept }), [40, 60]);
  });

  it('is covered by none of several snapshots, by segment numbers', () => {
    const kept = [3, 5].map((number) => ({ from: number, through: number }));
    const covered = (born: number, died: number): boolean => goes([segment(born, died)], { kept }).length === 0;
    assert.equal(covered(3, 4), true, 'born with the snapshot, dead right behind it');
    assert.equal(covered(1, 3), false, 'dead with the group that the snapshot ends');
    assert.equal(covered(4, 5), false, 'between the two');
    assert.equal(covered(4, 6), true);
    assert.equal(covered(6, 100), false, 'younger than both');
    assert.deepEqual(goes([segment(1, 100)]), [1], 'there is none');
  });

  it('is not on the way from a snapshot’s checkpoint to the snapshot', () => {
    const kept = [{ from: 40, through: 50 }];
    assert.deepEqual(goes([segment(45, 48), segment(30, 40), segment(30, 41), root(40, 60)], { kept }), [30]);
  });

  it('is not named by a checkpoint that is still there, though dead', () => {
    const objects = [root(20, 30), shard(20, 30), shard(10, 30), segment(5, 20), segment(5, 21), segment(25, 28)];
    assert.deepEqual(goes(objects), [20, 5, 25]);
    assert.deepEqual(goes(objects.slice(1)), [20, 10, 5, 5, 25]);
  });

  it('is weighed for the one snapshot that needs it, and for none where several do', () => {
    const objects = [
      segment(10, 30), // before both
      segment(40, 51), // the first
      segment(50, 60),
      segment(51, 55), // neither
      segment(55, 81), // the second
      segment(20, 90), // both
      root(50, 80), // the first's own
      shard(60, 200), // the second
      dead(names.pin('00000000-0000-4000-8000-000000000009'), 0),
    ];
    const sizes = new Map(objects.map(({ name }, at) => [name, 10 ** at]));
    const bytes = (snapshots: readonly number[]): (readonly [number, number])[] => [
      ...exclusiveBytes(snapshots, objects, (name) => sizes.get(name)),
    ];
    assert.deepEqual(bytes([50, 80]), [
      [50, 1000110],
      [80, 10010000],
    ]);
    assert.deepEqual(bytes([50, 50, 80]), [
      [50, 0],
      [80, 10010000],
    ]);
    assert.deepEqual(bytes([50]), [[50, 1100110]]);
    assert.deepEqual(bytes([]), []);
  });

  it('is found among thousands as among few', () => {
    const random = new SeededRandom(1);
    const kept = Array.from({ length: 40 }, () => {
      const from = random.below(1000);
      return { from, through: from + (random.fraction() < 0.5 ? 0 : random.below(5)) };
    });
    const objects = Array.from({ length: 400 }, () => {
      const number = random.below(1000);
      return segment(number, number + 1 + random.below(30));
    });
    const needed = (object: DeadObject): boolean =>
      kept.some(({ from, through }) => object.number <= through && object.deadAt > from);
    assert.deepEqual(
      unneeded(objects, { ...nobody, floor: 2000, kept }),
      objects.filter((object) => !needed(object)),
    );
  });

  it('is never an epoch, a key or the volume object', () => {
    assert.equal(deathOf(names, names.epoch(1)), undefined);
    assert.equal(deathOf(names, names.volume), undefined);
    assert.equal(deathOf(names, names.key('abc')), undefined);
  });
});
