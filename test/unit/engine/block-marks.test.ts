/** What `keepgate:dirty`, `keepgate:remote` and `base:allocation` are made of, beside a model that knows every record. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import type { BlockMark } from '../../../src/ports/block-device.js';
import type { FrozenRun } from '../../../src/ports/hydration.js';
import type { LogCursor } from '../../../src/ports/replication.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const BLOCK = 4096;
/** The follower of a volume whose bucket takes nothing for now. */
const follower = { revoke: () => Promise.resolve(true), resume: () => undefined };

function partsOf({ volume }: VolumeHarness): VolumeParts {
  return (volume as unknown as { readonly parts: VolumeParts }).parts;
}

async function marked({ volume }: VolumeHarness, mark: BlockMark): Promise<number[]> {
  const blocks: number[] = [];
  for (let at = 0; at < volume.sizeBytes;) {
    const extents = await volume.blockMarks(mark, at, volume.sizeBytes - at, 100);
    assert.ok(extents.length > 0 && extents.length <= 100);
    for (const { lengthBytes, marked: isMarked } of extents) {
      assert.equal(lengthBytes % BLOCK, 0);
      for (let end = at + lengthBytes; at < end; at += BLOCK) if (isMarked) blocks.push(at / BLOCK);
    }
  }
  return blocks;
}

async function pass(h: VolumeHarness, ms: number): Promise<void> {
  for (let at = 0; at < ms; at += 500) {
    h.clock.advance(500);
    await settle();
  }
}

/** A replicating volume, and the LSN of each block's newest record. */
class Model {
  readonly h: VolumeHarness;
  readonly blocks: number;
  private newest: Float64Array;
  private cursors: LogCursor[] = [];
  replicatedLsn = 0;

  constructor(seed: number, sizeBytes: number, overrides: VolumeHarness['overrides'] = {}) {
    this.h = new VolumeHarness(seed, sizeBytes);
    this.h.overrides = { replicated: true, ...overrides };
    this.blocks = sizeBytes / BLOCK;
    this.newest = new Float64Array(this.blocks);
  }

  async change(first: number, count: number, kind: 'write' | 'trim' | 'zero'): Promise<void> {
    const { h } = this;
    if (kind === 'write') await h.write(first * BLOCK, h.random.bytes(count * BLOCK));
    else await h.zero(first * BLOCK, count * BLOCK, kind === 'trim');
    this.newest.fill(h.volume.status().lsn.acknowledged, first, first + count);
    this.cursors.push(partsOf(h).log.head);
  }

  /** The bucket has all up to one of the batches that are durable. */
  replicate(): void {
    const { volume, random } = this.h;
    const { durable } = volume.status().lsn;
    const durables = this.cursors.filter(({ lsn }) => lsn > this.replicatedLsn && lsn - 1 <= durable);
    const cursor = durables[random.below(durables.length + 1)];
    if (cursor === undefined) return;
    this.replicatedLsn = cursor.lsn - 1;
    volume.replication.heard({ ...volume.replication.state, replicatedLsn: this.replicatedLsn, cursor });
  }

  dirty(): number[] {
    return Array.from({ length: this.blocks }, (_, block) => block).filter(
      (block) => (this.newest[block] ?? 0) > this.replicatedLsn,
    );
  }
}

describe('blocks that are not replicated yet', () => {
  it('are exactly those with a record behind the recovery point, in the log or in the image, through restarts', async () => {
    for (let seed = 1; seed <= 12; seed++) {
      const model = new Model(seed, 2 * MIB);
      const { h } = model;
      await h.create();
      assert.deepEqual(await marked(h, 'dirty'), []);
      for (let step = 0; step < 60; step++) {
        switch (h.random.below(8)) {
          case 0:
            await h.flush();
            break;
          case 1:
            model.replicate();
            break;
          case 2:
            await pass(h, 6000);
            break;
          case 3:
            if (h.random.below(4) > 0) break;
            await h.volume.close();
            await h.open();
            break;
          default: {
            const count = 1 + h.random.below(h.random.below(3) === 0 ? 60 : 4);
            const first = h.random.below(model.blocks - count);
            await model.change(
              first,
              count,
              (['write', 'write', 'trim', 'zero'] as const)[h.random.below(4)] ?? 'write',
            );
          }
        }
        assert.deepEqual(await marked(h, 'dirty'), model.dirty(), `seed ${seed}, step ${step}`);
      }
      await h.volume.close();
    }
  });

  it('are none after the bucket has all of it, and a question of any range is answered', async () => {
    const model = new Model(50, 2 * MIB);
    const { h } = model;
    await h.create();
    await model.change(10, 5, 'write');
    assert.deepEqual(await h.volume.blockMarks('dirty', 9 * BLOCK + 100, 2 * BLOCK, 10), [
      { lengthBytes: BLOCK - 100, marked: false },
      { lengthBytes: BLOCK + 100, marked: true },
    ]);
    assert.deepEqual(await h.volume.blockMarks('dirty', 9 * BLOCK + 100, 2 * BLOCK, 1), [
      { lengthBytes: BLOCK - 100, marked: false },
    ]);
    await h.flush();
    while (model.dirty().length > 0) model.replicate();
    assert.deepEqual(await h.volume.blockMarks('dirty', 0, 2 * MIB, 10), [{ lengthBytes: 2 * MIB, marked: false }]);
    await h.volume.close();
  });

  it('of a volume that is tracked none is missing, and none is left once a round has brought them', async () => {
    const model = new Model(60, 40 * MIB, { bufferBytes: 32 * MIB, whenFull: 'track', follower });
    const { h } = model;
    await h.create();
    const { progress } = partsOf(h);
    for (let round = 0; round < 3 && !progress.tracking; round++) {
      for (let at = 0; at < 36; at += 2) {
        await model.change((at * MIB) / BLOCK, (2 * MIB) / BLOCK - 16, 'write');
        await h.flush();
        await pass(h, 500);
      }
    }
    assert.ok(progress.tracking, 'the buffer was too small');
    const missing = async (): Promise<number[]> => {
      const said = new Set(await marked(h, 'dirty'));
      return model.dirty().filter((block) => !said.has(block));
    };
    assert.deepEqual(await missing(), []);
    const beginning = h.volume.replication.rounds.begin();
    await pass(h, 3000);
    const { round, cursor } = await beginning;
    await model.change(3, 2, 'write');
    await model.change((38 * MIB) / BLOCK, 2, 'write');
    await h.flush();
    await pass(h, 6000);
    assert.deepEqual(await missing(), []);
    const ending = h.volume.replication.rounds.end(round);
    await pass(h, 3000);
    assert.equal((await ending)?.keeping, 'draining');
    assert.deepEqual(await marked(h, 'dirty'), [3, 4, (38 * MIB) / BLOCK, (38 * MIB) / BLOCK + 1]);
    model.replicatedLsn = cursor.lsn - 1;
    assert.deepEqual(await marked(h, 'dirty'), model.dirty());
    await h.volume.close();
  });

  it('are no question for a volume that does not replicate', async () => {
    const h = new VolumeHarness(70);
    await h.create();
    assert.deepEqual(h.volume.marks, ['remote']);
    await h.volume.close();
  });
});

describe('blocks that are in the bucket only', () => {
  function runOf(content: Uint8Array, block: number): FrozenRun {
    const bytes = content.slice(block * BLOCK, (block + 1) * BLOCK);
    const sums = new Uint32Array(1);
    plainChecksums.sumBlocks(bytes, 0, 1, sums, 0);
    plainChecksums.toBlockSums(sums, 0, 1, block);
    return { firstBlock: block, blockCount: 1, payload: { bytes, start: 0, sums, sumsStart: 0 } };
  }

  it('are all of a restored volume but what was read, written, trimmed or filled; none when it is here', async () => {
    const h = new VolumeHarness(1, MIB);
    const content = h.random.bytes(MIB);
    await h.restored(content);
    const { hydration } = h.volume;
    assert.ok(hydration !== undefined);
    hydration.connect({
      fetch: (first, count) => Promise.resolve(Array.from({ length: count }, (_, i) => runOf(content, first + i))),
      mapped: () => Promise.reject(new Error('nobody asks')),
    });
    const expected = new Set(Array.from({ length: 256 }, (_, block) => block));
    const check = async (what: string): Promise<void> =>
      assert.deepEqual(await marked(h, 'remote'), [...expected], what);
    await check('at first');
    await h.write(10 * BLOCK, h.random.bytes(2 * BLOCK));
    expected.delete(10);
    expected.delete(11);
    await check('written, in the log');
    await h.zero(20 * BLOCK, 40 * BLOCK, true);
    for (let block = 20; block < 60; block++) expected.delete(block);
    await check('trimmed, in the log');
    await h.flush();
    await pass(h, 6000);
    await check('in the image');
    await hydration.fill(runOf(content, 100));
    await hydration.fill(runOf(content, 10));
    expected.delete(100);
    await check('filled');
    assert.deepEqual(await h.volume.blockMarks('remote', 99 * BLOCK, 3 * BLOCK, 10), [
      { lengthBytes: BLOCK, marked: true },
      { lengthBytes: BLOCK, marked: false },
      { lengthBytes: BLOCK, marked: true },
    ]);
    await h.read(200 * BLOCK, BLOCK);
    assert.ok(!(await marked(h, 'remote')).includes(200));
    await h.request((done) => h.volume.cache(130 * BLOCK + 1, 20 * BLOCK, done));
    const absent = new Set(await marked(h, 'remote'));
    for (let block = 130; block <= 150; block++) assert.ok(!absent.has(block), 'what was to be cached is here');
    for (let block = 0; block < 256; block++) await hydration.fill(runOf(content, block));
    assert.deepEqual(await marked(h, 'remote'), []);
    const completing = hydration.complete();
    await pass(h, 2000);
    assert.ok(await completing);
    assert.deepEqual(await marked(h, 'remote'), []);
    await h.volume.close();
  });
});

describe('allocation', () => {
  it('data, hole, and zeros that are to keep their space until they are in the image', async () => {
    const h = new VolumeHarness(3);
    await h.create();
    await h.write(0, h.random.bytes(4 * BLOCK));
    await h.request((done) => h.volume.zero(BLOCK, BLOCK, false, false, done));
    await h.zero(2 * BLOCK, BLOCK, false);
    assert.deepEqual(
      (await h.volume.blockStatus(0, 5 * BLOCK, 10)).map(({ state }) => state),
      ['data', 'zero', 'hole', 'data', 'hole'],
    );
    await h.flush();
    await pass(h, 6000);
    assert.deepEqual(
      (await h.volume.blockStatus(0, 5 * BLOCK, 10)).map(({ state }) => state),
      ['data', 'hole', 'data', 'hole'],
    );
    await h.volume.close();
  });

  it('zeros are fast where they are whole blocks and nothing is in their way', async () => {
    const h = new VolumeHarness(4);
    await h.create();
    assert.equal(h.volume.zeroIsFast(0, BLOCK), true);
    assert.equal(h.volume.zeroIsFast(BLOCK, h.sizeBytes - BLOCK), true);
    assert.equal(h.volume.zeroIsFast(0, 512), false);
    assert.equal(h.volume.zeroIsFast(512, 2 * BLOCK), false);
    await h.volume.close();
  });
});
