/**
 * Which of the blocks that only the bucket has read as zero, by its map of the recovery point, for whoever describes a
 * restored volume (block-status.ts). No content is fetched for it, and of the map at most one shard for one question.
 *
 * It waits for the bucket at most limits.statusMapMsMax. After it waited in vain nobody else does for QUIET_MS: what is
 * owed counts as data then, which is never wrong.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { BlockNumber } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { FrozenVolume } from '../ports/hydration.js';
import type { FilledBlocks } from './filled-block.js';
import { askWithin } from './remote-question.js';

const QUIET_MS = 10_000;

/** Of the first `blockCount` of the blocks that were asked about: 1 for each that is owed and reads as zero. */
export interface OwedZeros {
  readonly blockCount: number;
  readonly zeros: Uint8Array;
}

export class OwedZeroFinder {
  private readonly filled: FilledBlocks;
  private readonly clock: Clock;
  private readonly ended: AbortSignal;
  private frozen: FrozenVolume | undefined;
  private quietUntilMs = -Infinity;

  constructor(options: { readonly filled: FilledBlocks; readonly clock: Clock; readonly ended: AbortSignal }) {
    this.filled = options.filled;
    this.clock = options.clock;
    this.ended = options.ended;
  }

  connect(frozen: FrozenVolume | undefined): void {
    this.frozen = frozen;
    this.quietUntilMs = -Infinity;
  }

  /** Of at least one block. Each is as it was at some moment between call and answer. volume-closed. */
  async find(first: BlockNumber, count: number): Promise<OwedZeros> {
    const zeros = await this.filled.wanted(first, count);
    const from = zeros.indexOf(1);
    if (from < 0) return { blockCount: count, zeros };
    const mapped = await this.mapped(first + from, zeros.lastIndexOf(1) + 1 - from);
    if (mapped === undefined) return { blockCount: count, zeros: zeros.fill(0) };
    const blockCount = from + mapped.length;
    for (let at = 0; at < mapped.length; at++) if (mapped[at] !== 0) zeros[from + at] = 0;
    return { blockCount: zeros.indexOf(1, blockCount) < 0 ? count : blockCount, zeros };
  }

  /** undefined: it cannot be had now. */
  private async mapped(first: BlockNumber, count: number): Promise<Uint8Array | undefined> {
    const { frozen, clock, ended } = this;
    if (frozen === undefined || clock.nowMs() < this.quietUntilMs) return undefined;
    try {
      return await askWithin(
        { clock, ended, msMax: limits.statusMapMsMax },
        (signal) => frozen.mapped(first, count, { signal }),
        () => new GatewayError('store-unreachable', 'the map in the bucket did not come in time'),
      );
    } catch (error) {
      if (!(error instanceof GatewayError) || ended.aborted) throw error;
      // One object that is damaged or missing says nothing about the others.
      if (error.retryable && this.frozen === frozen) this.quietUntilMs = clock.nowMs() + QUIET_MS;
      return undefined;
    }
  }
}
