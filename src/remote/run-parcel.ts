/** Runs of blocks on their way to another thread: what they hold lies together, and nothing else travels with it. */
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { FrozenRun } from '../ports/hydration.js';

export interface RunParcel {
  /** `at`: where its first block is in bytes and sums, in blocks; -1: the run reads as zero. */
  readonly runs: readonly { readonly firstBlock: BlockNumber; readonly blockCount: number; readonly at: number }[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sums: Uint32Array<ArrayBuffer>;
}

export function packRuns(runs: readonly FrozenRun[]): RunParcel {
  const blocks = runs.reduce((sum, { payload, blockCount }) => sum + (payload === undefined ? 0 : blockCount), 0);
  const bytes = new Uint8Array(blocks * BLOCK_BYTES);
  const sums = new Uint32Array(blocks);
  let next = 0;
  const packed = runs.map(({ firstBlock, blockCount, payload }) => {
    if (payload === undefined) return { firstBlock, blockCount, at: -1 };
    const at = next;
    next += blockCount;
    bytes.set(payload.bytes.subarray(payload.start, payload.start + blockCount * BLOCK_BYTES), at * BLOCK_BYTES);
    sums.set(payload.sums.subarray(payload.sumsStart, payload.sumsStart + blockCount), at);
    return { firstBlock, blockCount, at };
  });
  return { runs: packed, bytes, sums };
}

/** What can be handed over instead of copied. */
export function transfersOf({ bytes, sums }: RunParcel): ArrayBuffer[] {
  return bytes.length === 0 ? [] : [bytes.buffer, sums.buffer];
}

export function unpackRuns({ runs, bytes, sums }: RunParcel): FrozenRun[] {
  return runs.map(({ firstBlock, blockCount, at }) => ({
    firstBlock,
    blockCount,
    payload: at < 0 ? undefined : { bytes, start: at * BLOCK_BYTES, sums, sumsStart: at },
  }));
}
