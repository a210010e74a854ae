/**
 * What the replication of a real gateway asks of a bucket, in virtual time: its worker against a store in memory, while
 * blocks are overwritten at random, at random moments.
 */
import { BLOCK, Rig, ticks } from '../fake/replication-rig.js';
import { SeededRandom } from '../fake/random.js';
import { MemoryStore } from '../fake/memory-store.js';
import type { ByteRange } from '../../src/ports/object-store.js';
import type { StoreRequest } from '../../src/ports/object-store.js';
import { countKinds } from './kinds.js';
import type { Counts } from './kinds.js';

export interface SteadyLoad {
  readonly blocks: number;
  readonly segmentBlocks: number;
  readonly intervalMs: number;
  /** Between two writes on average, at least a second, and how many blocks each has. */
  readonly everyMs: number;
  readonly blocksPerWrite: number;
  readonly compaction: boolean;
}

/** Tells the first GET of a segment, its head, from those of its frames: this directory has no image to take them from. */
class HeadStore extends MemoryStore {
  heads = 0;

  override get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    if (key.includes('/segments/') && options.range?.start === 0) this.heads++;
    return super.get(key, options);
  }
}

export interface CountedHours {
  readonly counts: Counts;
  /** Segments whose index was read. */
  readonly heads: number;
}

export class CountedReplication {
  readonly #load: SteadyLoad;
  readonly #store = new HeadStore();
  readonly #rig: Rig;
  readonly #random = new SeededRandom(5);

  constructor(load: SteadyLoad) {
    this.#load = load;
    const { blocks, segmentBlocks, intervalMs, compaction } = load;
    const config = { intervalMs, segmentBytes: segmentBlocks * BLOCK, compaction };
    this.#rig = new Rig({ seed: 1, blocks, store: this.#store, config });
  }

  get objects(): number {
    return this.#store.keys().length;
  }

  /** Writes every block once, and drains. */
  async fill(): Promise<void> {
    const { blocks } = this.#load;
    this.#rig.start();
    for (let first = 0; first < blocks; first += 256) {
      const data = new Uint8Array(256 * BLOCK).fill(1 + this.#random.below(255));
      this.#rig.write([{ kind: 'write', firstBlock: first, data }]);
    }
    await this.#rig.drain();
  }

  /** Ends the process and starts the next one, which writes one block and drains. */
  async restart(): Promise<CountedHours> {
    await this.#rig.kill();
    return this.#counted(async () => {
      this.#rig.start();
      await ticks(40);
      this.#write();
      await this.#rig.drain();
    });
  }

  hours(count: number): Promise<CountedHours> {
    return this.#counted(async () => {
      for (let ms = 0; ms < count * 3_600_000; ms += 1000) {
        if (this.#random.fraction() < 1000 / this.#load.everyMs) this.#write();
        this.#rig.clock.advance(1000);
        await ticks(8);
      }
    });
  }

  end(): Promise<void> {
    return this.#rig.kill();
  }

  #write(): void {
    const { blocks, blocksPerWrite } = this.#load;
    for (let at = 0; at < blocksPerWrite; at++) {
      const data = new Uint8Array(BLOCK).fill(1 + this.#random.below(255));
      this.#rig.write([{ kind: 'write', firstBlock: this.#random.below(blocks), data }]);
    }
  }

  async #counted(run: () => Promise<void>): Promise<CountedHours> {
    const from = this.#store.calls.length;
    const heads = this.#store.heads;
    await run();
    return { counts: countKinds(this.#store.calls.slice(from)), heads: this.#store.heads - heads };
  }
}
