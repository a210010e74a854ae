/**
 * A restored volume as the remote side sees it, in memory: what is owed, what was filled, and how far that is durable.
 * `reopen` is what a crash leaves of it.
 */
import assert from 'node:assert/strict';
import { GatewayError } from '../../src/base/errors.js';
import type {
  FrozenRun,
  FrozenVolume,
  HydratingVolume,
  HydrationProgress,
  RestoreSource,
} from '../../src/ports/hydration.js';
import { plainChecksums } from './checksums.js';

const BLOCK = 4096;

export class FakeHydratingVolume implements HydratingVolume {
  readonly source: RestoreSource;
  readonly image: Uint8Array;
  progress: HydrationProgress;
  active = true;
  /** Of the recovery point: 1 for each block that had rotted before it was replicated. */
  readonly lost: Uint8Array;
  readonly #owed: Uint8Array;
  /** As of the last sync. */
  #durable: Uint8Array;
  frozen: FrozenVolume | GatewayError = new GatewayError('store-unreachable', 'the bucket is not connected yet');
  /** Asked before each fill; an error is thrown. */
  refuse: (run: FrozenRun) => GatewayError | undefined = () => undefined;
  /** Every state of the record, in order. */
  readonly recorded: HydrationProgress[] = [];

  constructor(source: RestoreSource, pins: readonly string[], before?: FakeHydratingVolume) {
    this.source = source;
    this.image = before?.image ?? new Uint8Array(source.sizeBytes);
    this.lost = before?.lost ?? new Uint8Array(source.sizeBytes / BLOCK);
    this.#durable = before === undefined ? new Uint8Array(source.sizeBytes / BLOCK).fill(1) : before.#durable;
    this.#owed = this.#durable.slice();
    this.progress = before?.progress ?? { segmentsThrough: 0, pins };
  }

  get blockCount(): number {
    return this.source.sizeBytes / BLOCK;
  }

  get owedBlocks(): number {
    return this.#owed.reduce((sum, owed) => sum + owed, 0);
  }

  /** What is there after the power was lost. */
  reopen(): FakeHydratingVolume {
    return new FakeHydratingVolume(this.source, [], this);
  }

  /** A client has written it. */
  overwrite(block: number, fill: number): void {
    this.#owed[block] = 0;
    this.image.fill(fill, block * BLOCK, (block + 1) * BLOCK);
  }

  connect(frozen: FrozenVolume | GatewayError): void {
    this.frozen = frozen;
  }

  /** As a read of the volume would. */
  async read(first: number, count: number): Promise<void> {
    if (this.frozen instanceof GatewayError) throw this.frozen;
    for (const run of await this.frozen.fetch(first, count, {})) await this.fill(run);
    for (let block = first; block < first + count; block++) assert.equal(this.#owed[block], 0);
  }

  owed(first: number, count: number): Promise<Uint8Array> {
    return Promise.resolve(this.#owed.slice(first, first + count));
  }

  fill(run: FrozenRun): Promise<void> {
    const error = this.refuse(run);
    if (error !== undefined) return Promise.reject(error);
    const { firstBlock, blockCount, payload } = run;
    assert.ok(firstBlock >= 0 && firstBlock + blockCount <= this.blockCount, 'a run lies in the volume');
    for (let at = 0; at < blockCount; at++) {
      const block = firstBlock + at;
      if (this.#owed[block] === 0) continue;
      const target = this.image.subarray(block * BLOCK, (block + 1) * BLOCK);
      if (payload === undefined) target.fill(0);
      else {
        const start = payload.start + at * BLOCK;
        if (payload.sums[payload.sumsStart + at] === 1) this.lost[block] = 1;
        else {
          const bytes = payload.bytes.slice(start, start + BLOCK);
          const bad = plainChecksums.verifyBlocks(bytes, 0, 1, block, payload.sums, payload.sumsStart + at);
          assert.equal(bad, -1, `block ${block} has its sum`);
          target.set(bytes);
        }
      }
      this.#owed[block] = 0;
    }
    return Promise.resolve();
  }

  advance(progress: Partial<HydrationProgress>): Promise<void> {
    if (!this.active) return Promise.resolve();
    this.#durable = this.#owed.slice();
    this.progress = { ...this.progress, ...progress };
    this.recorded.push(this.progress);
    return Promise.resolve();
  }

  complete(): Promise<boolean> {
    if (this.owedBlocks > 0) return Promise.resolve(false);
    this.#durable = this.#owed.slice();
    this.active = false;
    return Promise.resolve(true);
  }
}
