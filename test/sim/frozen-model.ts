/** What a recovery point holds, as a FrozenVolume that answers from memory: late, not at all, or with more than was asked for. */
import { GatewayError } from '../../src/base/errors.js';
import type { Clock } from '../../src/ports/clock.js';
import type { FrozenRun, FrozenVolume } from '../../src/ports/hydration.js';
import type { SeededRandom } from '../fake/random.js';
import { checksums } from './host.js';
import { BLOCK } from './shadow.js';

const LOST_MAX = 3;

export class FrozenModel {
  /** What a reader must see; a lost block holds what nobody may see. */
  readonly contents: Uint8Array;
  /** Blocks that had rotted before they were replicated. */
  readonly lost: ReadonlySet<number>;
  trouble: 'none' | 'away' | 'silent' = 'none';
  latencyMs = 60;
  private readonly random: SeededRandom;

  /** `losesMore`: besides the blocks that are lost already. */
  constructor(
    restored: { readonly contents: Uint8Array; readonly lost: ReadonlySet<number> },
    random: SeededRandom,
    losesMore: boolean,
  ) {
    this.random = random;
    this.contents = restored.contents.slice();
    const lost = new Set(restored.lost);
    if (losesMore && random.fraction() < 0.3)
      for (let more = random.below(LOST_MAX + 1); more > 0; more--) lost.add(random.below(this.blockCount));
    this.lost = lost;
    for (const block of lost) this.contents.set(random.bytes(BLOCK), block * BLOCK);
  }

  private get blockCount(): number {
    return this.contents.length / BLOCK;
  }

  /** The way of one life to it. */
  attach(clock: Clock): FrozenVolume {
    return {
      fetch: async (first, count) => {
        const { random } = this;
        await clock.sleep(random.fraction() * this.latencyMs);
        if (this.trouble === 'silent') return new Promise(() => undefined);
        if (this.trouble === 'away') throw new GatewayError('store-unreachable', 'injected');
        return this.around(first, count);
      },
      mapped: async (first, count) => {
        const { random } = this;
        await clock.sleep(random.fraction() * this.latencyMs);
        if (this.trouble === 'silent') return new Promise(() => undefined);
        if (this.trouble === 'away') throw new GatewayError('store-unreachable', 'injected');
        // Often not of all of them.
        const told = random.fraction() < 0.5 ? count : 1 + random.below(count);
        return Uint8Array.from({ length: told }, (_, at) => (this.isZero(first + at) ? 0 : 1));
      },
    };
  }

  exactly(block: number): FrozenRun {
    return this.run(block, 1);
  }

  /** In pieces, in any order, and with neighbours. */
  private around(first: number, count: number): FrozenRun[] {
    const { random } = this;
    const more = random.fraction() < 0.3 ? random.below(24) : 0;
    const end = Math.min(this.blockCount, first + count + more);
    const runs: FrozenRun[] = [];
    for (let block = Math.max(0, first - random.below(1 + more)); block < end;) {
      const length = Math.min(end - block, 1 + random.below(16));
      const run = this.run(block, length);
      if (random.fraction() < 0.5) runs.push(run);
      else runs.unshift(run);
      block += run.blockCount;
    }
    return runs;
  }

  /** Up to so many blocks that are all zero, or none is. */
  private run(firstBlock: number, countMax: number): FrozenRun {
    const zero = this.isZero(firstBlock);
    let blockCount = 1;
    while (blockCount < countMax && this.isZero(firstBlock + blockCount) === zero) blockCount++;
    if (zero) return { firstBlock, blockCount, payload: undefined };
    // Behind something else, as in a frame.
    const start = BLOCK * this.random.below(3);
    const bytes = new Uint8Array(start + blockCount * BLOCK).fill(0xee);
    bytes.set(this.contents.subarray(firstBlock * BLOCK, (firstBlock + blockCount) * BLOCK), start);
    const sumsStart = this.random.below(3);
    const sums = new Uint32Array(sumsStart + blockCount);
    checksums.sumBlocks(bytes, start, blockCount, sums, sumsStart);
    checksums.toBlockSums(sums, sumsStart, blockCount, firstBlock);
    for (let at = 0; at < blockCount; at++) if (this.lost.has(firstBlock + at)) sums[sumsStart + at] = 1;
    return { firstBlock, blockCount, payload: { bytes, start, sums, sumsStart } };
  }

  private isZero(block: number): boolean {
    return checksums.isZero(this.contents, block * BLOCK, (block + 1) * BLOCK);
  }
}
