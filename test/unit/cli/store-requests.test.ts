import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GIB, MIB } from '../../../src/base/units.js';
import { dailyRequests, restoreRequests } from '../../../src/cli/store-requests.js';
import { planShards } from '../../../src/remote/checkpoint-plan.js';
import { SHARD_BLOCKS } from '../../../src/remote/shard-map.js';
import { SeededRandom } from '../../fake/random.js';

const load = { liveBytes: 100 * GIB, changesBytesPerDay: 5 * GIB, objectBytes: 8 * MIB, intervalSeconds: 10 };

/** Shards that a checkpoint writes, on average, where so many blocks of so many shards change between two. */
function shardsWritten(shards: number, changedAtOnce: number, checkpoints: number): number {
  const random = new SeededRandom(3);
  const changes = new Map<number, { written: number; zeroed: number }>();
  let written = 0;
  for (let checkpoint = 0; checkpoint < 2 * checkpoints; checkpoint++) {
    for (let at = 0; at < changedAtOnce; at++) {
      const shard = random.below(shards);
      const before = changes.get(shard)?.written ?? 0;
      const isNew = random.fraction() >= before / SHARD_BLOCKS;
      changes.set(shard, { written: before + (isNew ? 1 : 0), zeroed: 0 });
    }
    const { rewritten } = planShards(changes, () => true);
    for (const shard of rewritten) changes.delete(shard);
    if (checkpoint >= checkpoints) written += rewritten.length;
  }
  return written / checkpoints;
}

describe('the requests of a volume', () => {
  it('are none while nothing is written', () => {
    const { segments, checkpoints, gets, lists, deletes } = dailyRequests({ ...load, changesBytesPerDay: 0 });
    assert.deepEqual(
      { segments, checkpoints, gets, lists, deletes },
      { segments: 0, checkpoints: 0, gets: 0, lists: 0, deletes: 0 },
    );
  });

  it('are PUTs alone where nothing is compacted', () => {
    const day = dailyRequests({ ...load, movedShare: 0 });
    assert.deepEqual([day.compacted, day.gets, day.lists, day.deletes], [0, 0, 0, 0]);
    assert.ok(day.segments > 8500 && day.segments < 8640, `${day.segments}`);
  });

  // Of a little, a middle and a large volume, and of one that changes much between two checkpoints.
  for (const [shards, changedAtOnce, checkpoints] of [
    [8, 3000, 100],
    [80, 3000, 100],
    [800, 3640, 150],
    [800, 60_000, 20],
  ] as const) {
    it(`write ${shards} shards of the map as the plan of checkpoints does, with ${changedAtOnce} changes at a time`, () => {
      const real = shardsWritten(shards, changedAtOnce, checkpoints);
      // By age: one each 600 s.
      const changesBytesPerDay = changedAtOnce * 4096 * 144;
      const day = dailyRequests({
        ...load,
        liveBytes: 16_384 * GIB,
        changesBytesPerDay,
        objectBytes: 1024 * MIB,
        spreadBytes: shards * SHARD_BLOCKS * 4096,
        movedShare: 0,
      });
      const modelled = day.mapShards / day.checkpoints;
      assert.ok(Math.abs(modelled - real) <= 0.2 * real, `${modelled} modelled, ${real} planned`);
    });
  }

  it('of a restore are two GETs for each segment', () => {
    assert.equal(restoreRequests({ segments: 1000, mapShards: 0 }).gets, 2004);
    assert.equal(restoreRequests({ segments: 1000, mapShards: 0, othersUnderPrefix: 9999 }).gets, 2004 + 2 * 9999);
  });
});
