/** The rules by which a block from the bucket takes the place of one of the image, where two look at the same block. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HealedBlocks } from '../../../src/engine/healed-block.js';
import type { Image } from '../../../src/engine/image.js';
import { Overlay } from '../../../src/engine/overlay.js';
import { SUMS_PER_PAGE } from '../../../src/engine/sums.js';
import { plainChecksums } from '../../fake/checksums.js';

const BLOCK = 4096;
const block = 5;

function filled(byte: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(byte);
}

function sumOf(bytes: Uint8Array): number {
  const sum = new Uint32Array(1);
  plainChecksums.sumBlocks(bytes, 0, 1, sum, 0);
  plainChecksums.toBlockSums(sum, 0, 1, block);
  return sum[0] ?? 0;
}

/** An image of which only one block matters. */
class OneBlock {
  readonly overlay = new Overlay();
  readonly sums = new Uint32Array(SUMS_PER_PAGE);
  /** What was put in the block's place. */
  readonly written: Uint8Array[] = [];
  readonly healed: HealedBlocks;
  destagedLsn = 10;

  constructor(content: Uint8Array) {
    this.sums[block] = sumOf(content);
    const { sums, written } = this;
    const image = {
      sums: { page: () => Promise.resolve(sums), set: (at: number, sum: number) => (sums[at] = sum) },
      file: {
        allocate: () => Promise.resolve(),
        write: ([bytes]: [Uint8Array]) => Promise.resolve(void written.push(bytes)),
      },
    };
    this.healed = new HealedBlocks({
      image: image as unknown as Image,
      overlay: this.overlay,
      checksums: plainChecksums,
    });
  }

  watch(): ReturnType<HealedBlocks['watch']> {
    return this.healed.watch(block, () => this.destagedLsn);
  }

  /** A step moves a newer version into the image. */
  destage(content: Uint8Array): void {
    const newest = new Overlay();
    newest.table.set(block, ++this.destagedLsn, 0, 0);
    this.sums[block] = sumOf(content);
    this.healed.moved(newest);
  }
}

describe('a block that a scrub and a read look at', () => {
  it('is not put back to what it was before a write, because another one has begun to watch it since', async () => {
    const one = new OneBlock(filled(1));
    const scrub = await one.watch();
    one.destage(filled(2));
    const read = await one.watch();
    assert.equal(await one.healed.contradicted(scrub, filled(1), true), false);
    assert.equal(await one.healed.write(scrub, filled(1), 10), 'superseded');
    assert.deepEqual(one.written, []);
    // The other one goes on.
    assert.equal(await one.healed.write(read, filled(2), 0), 'healed');
  });

  it('is still watched by the one when the other has ended', async () => {
    const one = new OneBlock(filled(1));
    const scrub = await one.watch();
    const read = await one.watch();
    one.healed.unwatch(read);
    assert.equal(await one.healed.contradicted(scrub, filled(3), false), true);
    one.destage(filled(2));
    assert.equal(await one.healed.contradicted(scrub, filled(3), false), false);
  });
});
