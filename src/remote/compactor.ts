/**
 * Empties segments that are at least half dead by moving what lives in them into new segments, so that deletion can take
 * the old ones. Chosen after each checkpoint, which has counted what lives; read in the background; sent by the replicator
 * between its own groups, and counted in the same upload budget.
 *
 *   planned   a checkpoint was written: choose again
 *   gathering read the indexes of the chosen segments, keep the blocks to which the map points
 *   local     the replicator lends its log reader: what the local copy certainly has is taken from it
 *   fetching  the rest comes from the bucket
 *   ready     the replicator seals and sends it; what was overwritten meanwhile has moved in vain, and nothing else
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { ImageCopy } from '../engine/image-copy.js';
import type { Checksums } from '../ports/checksum.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { BookKeeper } from './book-keeper.js';
import { CompactionBatch } from './compaction-batch.js';
import { PendingLog } from './pending-log.js';
import type { LocalCopy } from './pending-log.js';
import { planCompaction } from './compaction-plan.js';
import type { KeyedSegment } from './group-sealer.js';
import type { SegmentKey } from './name.js';
import type { RemoteBook } from './remote-map-book.js';
import { MapDoubtError } from './remote-map-header.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ObjectSealer } from './seal.js';
import type { SegmentFacts } from './segment-index.js';
import { readSegmentHead } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { openTableShard } from './shard-table.js';

export interface CompactorOptions {
  readonly keeper: BookKeeper;
  /** Retries by itself. */
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly image: ImageCopy;
  /** Payload blocks of one segment. */
  readonly segmentBlocks: number;
  readonly log: Log;
  readonly incarnation: Incarnation;
  /** There is something for the replicator to do. */
  readonly wake: () => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

type Phase = 'idle' | 'working' | 'local' | 'ready';

export class Compactor {
  readonly #options: CompactorOptions;
  readonly #request: StoreRequest;
  #phase: Phase = 'idle';
  #sources: number[] = [];
  #urgent = false;
  /** A checkpoint was written since the sources were chosen. */
  #stale = false;
  #batch: CompactionBatch | undefined;
  /** Sources whose blocks are under way, and the segment that has them; until a checkpoint includes it. */
  readonly #moved = new Map<number, number>();
  #gathered: number[] = [];
  /** Of a source that did not fit: the last payload index that was taken. */
  readonly #begun = new Map<number, number>();
  /** Missing or damaged: left alone for the rest of this life. */
  readonly #broken = new Set<number>();
  readonly #pending = new PendingLog();
  #running: Promise<void> | undefined;

  constructor(options: CompactorOptions) {
    this.#options = options;
    this.#request = { signal: options.incarnation.signal };
  }

  /** What the replicator is to do: lend its log (`fillLocal`), or send (`seal`). */
  get due(): 'local' | 'seal' | undefined {
    return this.#phase === 'local' ? 'local' : this.#phase === 'ready' ? 'seal' : undefined;
  }

  /** Whether it must not wait until nothing else is to be sent. */
  get urgent(): boolean {
    return this.#urgent;
  }

  /** A checkpoint has counted what lives. */
  planned(): void {
    this.#stale = true;
    if (this.#phase === 'idle') this.#work();
  }

  async fillLocal(local: LocalCopy): Promise<void> {
    await this.#batch?.fillLocal(local, this.#pending);
    if (this.#batch?.complete === true) this.#phase = 'ready';
    else this.#work();
  }

  /** The segment, for a group of its own; only when that is due. */
  seal(key: SegmentKey, facts: SegmentFacts): KeyedSegment {
    assert(this.#batch !== undefined, 'there is something to send');
    const segment = this.#batch.seal(key, facts);
    this.#batch = undefined;
    for (const number of this.#gathered) this.#moved.set(number, key.number);
    this.#gathered = [];
    this.#work();
    return segment;
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    for (let last: Promise<void> | undefined; last !== this.#running;) {
      last = this.#running;
      await last;
    }
  }

  #work(): void {
    this.#phase = 'working';
    this.#running = this.#step()
      .then((phase) => {
        this.#phase = phase;
        if (phase !== 'idle') this.#options.wake();
        else if (this.#stale) this.#work();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    const { incarnation, log, failed } = this.#options;
    this.#phase = 'idle';
    this.#batch = undefined;
    this.#gathered = [];
    if (incarnation.stopped) return;
    if (!(error instanceof GatewayError) && !(error instanceof MapDoubtError)) return failed(error);
    // The next checkpoint chooses again.
    this.#sources = [];
    this.#begun.clear();
    log.warn(`compaction is put off: ${error.message}`);
  }

  async #step(): Promise<Phase> {
    if (this.#batch !== undefined) {
      for (const [number, error] of await this.#batch.fetchRest(this.#request)) await this.#leave(number, error);
      if (!this.#batch.empty) return 'ready';
      this.#batch = undefined;
      this.#gathered = [];
    }
    if (this.#stale) await this.#choose();
    const { segmentBlocks } = this.#options;
    const batch = new CompactionBatch(this.#options, segmentBlocks);
    while (!batch.full) {
      const number = this.#sources[0];
      if (number === undefined) break;
      const whole = await this.#gather(batch, number);
      // What did not fit comes with the next segment.
      if (whole) this.#sources.shift();
    }
    if (batch.empty) return 'idle';
    this.#batch = batch;
    return 'local';
  }

  async #choose(): Promise<void> {
    const { keeper, store, sealer } = this.#options;
    this.#stale = false;
    const unknown = await keeper.use((book) => Promise.resolve(book.table.unknownShards()));
    for (const shard of unknown) {
      const rows = openTableShard(sealer, shard, await store.get(sealer.names.shard(shard), this.#request));
      await keeper.use((book) => Promise.resolve(book.table.learn(shard.tableIndex, rows)));
    }
    const { sources, urgent } = await keeper.use((book) => {
      for (const [source, by] of this.#moved) if (by <= book.map.file.position.number) this.#moved.delete(source);
      // Nothing is moved in the middle of a round (staged.ts).
      if (book.staged !== undefined) return Promise.resolve({ sources: [], urgent: false });
      return Promise.resolve(planCompaction(book.table.lives()));
    });
    this.#sources = sources.filter((number) => !this.#moved.has(number) && !this.#broken.has(number));
    this.#urgent = urgent;
  }

  /** Adds what lives in a segment; false: there was no room for all of it. */
  async #gather(batch: CompactionBatch, number: number): Promise<boolean> {
    const { keeper, store, sealer } = this.#options;
    const epoch = await keeper.use((book) => Promise.resolve(book.epochOf(number)));
    const head = await this.#head({ epoch, number }, store, sealer);
    if (head === undefined) return true;
    const live = await keeper.use((book) => liveBlocks(book, head));
    const taken = this.#begun.get(number) ?? -1;
    for (const { block, payload } of live) {
      if (payload <= taken) continue;
      if (batch.full) return false;
      batch.add(head, block, payload);
      this.#begun.set(number, payload);
    }
    this.#begun.delete(number);
    this.#gathered.push(number);
    return true;
  }

  async #head(key: SegmentKey, store: ObjectStore, sealer: ObjectSealer): Promise<OpenedSegment | undefined> {
    try {
      const head = await readSegmentHead(store, sealer, key, this.#request);
      if (head.kind === 'segment') return head;
      await this.#leave(key.number, new GatewayError('object-missing', `${sealer.names.segment(key)} is missing`));
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code.startsWith('store-')) throw error;
      await this.#leave(key.number, error);
    }
    return undefined;
  }

  /** What has died since it was chosen may be gone by now. */
  async #leave(number: number, error: GatewayError): Promise<void> {
    this.#broken.add(number);
    if (!(await this.#options.keeper.use((book) => Promise.resolve(book.table.isLive(number))))) return;
    this.#options.log.error(`compaction leaves a damaged segment alone; scrub the volume: ${error.message}`);
  }
}

/** The payload blocks of a segment to which the map points. */
async function liveBlocks(
  book: RemoteBook,
  { key, index }: OpenedSegment,
): Promise<{ readonly block: number; readonly payload: number }[]> {
  const { extents } = index;
  const live: { readonly block: number; readonly payload: number }[] = [];
  for (let at = 0; at < extents.count; at++) {
    for (let next = 0; next < (extents.blockCount[at] ?? 0); next++) {
      const block = (extents.firstBlock[at] ?? 0) + next;
      const payload = (extents.payload[at] ?? 0) + next;
      const place = await book.map.place(block);
      if (place?.segment === key.number && place.payload === payload) live.push({ block, payload });
    }
  }
  return live;
}
