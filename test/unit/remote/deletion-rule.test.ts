import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deathOf, unneeded } from '../../../src/remote/deletion-rule.js';
import type { DeadObject, Needs } from '../../../src/remote/deletion-rule.js';
import { ObjectNames } from '../../../src/remote/name.js';

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

  it('is not on the way from a snapshot’s checkpoint to the snapshot', () => {
    const kept = [{ from: 40, through: 50 }];
    assert.deepEqual(goes([segment(45, 48), segment(30, 40), segment(30, 41), root(40, 60)], { kept }), [30]);
  });

  it('is not named by a checkpoint that is still there, though dead', () => {
    const objects = [root(20, 30), shard(20, 30), shard(10, 30), segment(5, 20), segment(5, 21), segment(25, 28)];
    assert.deepEqual(goes(objects), [20, 5, 25]);
    assert.deepEqual(goes(objects.slice(1)), [20, 10, 5, 5, 25]);
  });

  it('is never an epoch, a key or the volume object', () => {
    assert.equal(deathOf(names, names.epoch(1)), undefined);
    assert.equal(deathOf(names, names.volume), undefined);
    assert.equal(deathOf(names, names.key('abc')), undefined);
  });
});
