/**
 * The model behind docs/scale.md and `doctor --cost`, against the replication of a real gateway in virtual time: the same
 * load, counted by kind of request.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { dailyRequests, objectsOf, startRequests } from '../../src/cli/store-requests.js';
import type { VolumeLoad } from '../../src/cli/store-requests.js';
import { BLOCK } from '../fake/replication-rig.js';
import { CountedReplication } from './counted-replication.js';
import type { SteadyLoad } from './counted-replication.js';
import { total } from './kinds.js';

const steady: SteadyLoad = {
  blocks: 4096,
  segmentBlocks: 256,
  intervalMs: 10_000,
  everyMs: 5000,
  blocksPerWrite: 4,
  compaction: true,
};

function loadOf({ blocks, segmentBlocks, intervalMs, everyMs, blocksPerWrite, compaction }: SteadyLoad): VolumeLoad {
  const writesPerDay = 86_400_000 / everyMs;
  return {
    liveBytes: blocks * BLOCK,
    changesBytesPerDay: writesPerDay * blocksPerWrite * BLOCK,
    writesPerDay,
    objectBytes: segmentBlocks * BLOCK,
    intervalSeconds: intervalMs / 1000,
    ...(compaction ? {} : { movedShare: 0 }),
  };
}

/** `share`: how far off the model may be, of what was counted. */
function near(what: string, modelled: number, counted: number, share: number): void {
  assert.ok(Math.abs(modelled - counted) <= share * counted + 1, `${what}: ${modelled} modelled, ${counted} counted`);
}

describe('the model of requests', () => {
  it('counts as replication does, with compaction: PUTs and deletes within 15 %, the rest within 40 %', async () => {
    const replication = new CountedReplication(steady);
    await replication.fill();
    // Until as much dies as is written.
    await replication.hours(2);
    const hours = 2;
    const { counts, heads } = await replication.hours(hours);
    const load = loadOf(steady);
    const day = dailyRequests(load);
    const share = hours / 24;
    const segments = (day.segments + day.compacted) * share;
    near('segments', segments, total(counts, 'put segments'), 0.15);
    near('checkpoints', day.checkpoints * share, total(counts, 'put checkpoints'), 0.4);
    near('all PUTs', segments + day.checkpoints * share, total(counts, 'put '), 0.15);
    near('deletes', day.deletes * share, total(counts, 'delete '), 0.15);
    near('heads', day.gets * share, heads, 0.4);
    near('lists', day.lists * share, total(counts, 'list '), 0.7);
    near('objects', objectsOf(load), replication.objects, 0.3);

    const { counts: started } = await replication.restart();
    const segmentsRead = total(started, 'get segments') - 2;
    const later = await replication.hours(1);
    const start = startRequests({ segmentsSinceCheckpoint: segmentsRead, objects: replication.objects });
    // The block that was written after the start.
    assert.equal(total(started, 'put ') - 1, start.puts);
    assert.equal(total(started, 'delete '), start.deletes);
    const begun = (kind: string): number => total(started, kind) + total(later.counts, kind);
    const gets =
      total(started, 'get segments') +
      begun('get keys') +
      begun('get volume') +
      begun('get checkpoints') +
      total(started, 'get epochs');
    assert.equal(gets, start.gets);
    const lists = begun('list ') - begun('list pins');
    assert.equal(lists, start.lists);
    await replication.end();
  });

  it('counts as replication does, without compaction: PUTs alone, within 10 %', async () => {
    const only = { ...steady, compaction: false };
    const replication = new CountedReplication(only);
    await replication.fill();
    await replication.hours(1);
    const { counts } = await replication.hours(2);
    const day = dailyRequests(loadOf(only));
    near('segments', (day.segments * 2) / 24, total(counts, 'put segments'), 0.1);
    near('checkpoints', (day.checkpoints * 2) / 24, total(counts, 'put checkpoints'), 0.1);
    assert.equal(total(counts, 'delete ') + total(counts, 'list '), 0);
    await replication.end();
  });
});
