/**
 * Keeps the owner's book of the remote volume up to date and writes checkpoints from it: after so many segments, after so
 * long with changes, and when a drain ended. An idle volume writes none.
 *
 * A checkpoint is an optimisation: uploads never wait for it, and when it fails it is left out with a warning. Order:
 * shards, root, and only then the local map file moves on to the root's recovery point, so that the file always shows
 * the point of some root, or is made again from one. Nothing is deleted here: older roots and shards stay until
 * deletion knows what is safe.
 */
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { chainAt, keyText } from './chain.js';
import { readChain } from './chain-walk.js';
import { sealCheckpoint } from './checkpoint.js';
import { planShards } from './checkpoint-plan.js';
import type { ShardKey } from './name.js';
import { RemoteBook } from './remote-map-book.js';
import { MAP_FILE, MapDoubtError } from './remote-map-file.js';
import type { MapChange } from './remote-map-file.js';
import type { Incarnation } from './replicator-incarnation.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ObjectSealer, SealedObject } from './seal.js';
import { mapPageSum, MAP_PAGE_BYTES, sealMapShard, SHARD_PAGES } from './shard-map.js';
import { sealTableShard } from './shard-table.js';
import { RetryingStore } from './store-retry.js';
import { putOnce } from './upload.js';
import type { Fencing } from './upload.js';
import type { CommittedGroup } from './upload-pipeline.js';

/** Segments since the last checkpoint: what a restore has to read beside it. */
const SEGMENTS_DUE = 128;
const SEGMENTS_DUE_DRAINED = 8;
const AGE_MS_DUE = 600_000;
/** Committed groups that wait for the book; beyond, they are read back from the bucket. */
const QUEUE_MAX = 256;

export interface CheckpointWriterOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly fencing: Fencing;
  /** The epoch that writes. */
  readonly epoch: number;
  readonly createdSizeBytes: number;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly incarnation: Incarnation;
  /** The book was changed. */
  readonly counted: (book: RemoteBook) => void;
  /** The map file shows everything up to this segment, durably. */
  readonly applied: (segmentNumber: number) => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

export class CheckpointWriter {
  readonly #options: CheckpointWriterOptions;
  readonly #store: ObjectStore;
  readonly #request: StoreRequest;
  #book: RemoteBook | undefined;
  #queue: CommittedGroup[] = [];
  #segments = 0;
  #lastMs: number;
  #drained = false;
  #running: Promise<void> | undefined;
  #again = false;

  constructor(options: CheckpointWriterOptions) {
    const { store, clock, random, incarnation } = options;
    this.#options = options;
    this.#store = new RetryingStore(store, { clock, random });
    this.#request = { signal: incarnation.signal };
    this.#lastMs = clock.nowMs();
  }

  committed(group: CommittedGroup): void {
    this.#queue.push(group);
    if (this.#queue.length > QUEUE_MAX) this.#queue.shift();
    this.#segments += group.segments.length;
    this.#wake();
  }

  /** Somebody waited until all was replicated: a good moment, if there is enough to say. */
  drained(): void {
    this.#drained = true;
    this.#wake();
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    await this.#running;
    await this.#book?.close();
  }

  #wake(): void {
    this.#again = true;
    this.#running ??= this.#work().finally(() => {
      this.#running = undefined;
    });
  }

  async #work(): Promise<void> {
    const { incarnation, log, failed } = this.#options;
    const stopped = (): boolean => incarnation.stopped;
    while (this.#again && !stopped()) {
      this.#again = false;
      try {
        await this.#step();
      } catch (error) {
        if (stopped()) return;
        if (!(error instanceof GatewayError) && !(error instanceof MapDoubtError)) {
          failed(error);
          return;
        }
        log.warn(`a checkpoint is left out: ${error.message}`);
        await this.#forget(error instanceof MapDoubtError);
      }
    }
  }

  /** The book is built again when it is needed next; a doubtful map file is not used for it. */
  async #forget(doubtful: boolean): Promise<void> {
    const { disk, clock, log } = this.#options;
    const book = this.#book;
    this.#book = undefined;
    this.#segments = 0;
    this.#lastMs = clock.nowMs();
    try {
      await book?.close();
      if (doubtful && (await disk.exists(MAP_FILE))) await disk.remove(MAP_FILE);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`the map of the bucket stays as it is: ${error.message}`);
    }
  }

  async #step(): Promise<void> {
    const { clock, counted } = this.#options;
    this.#book ??= await this.#load();
    await this.#catchUp(this.#book);
    counted(this.#book);
    const { position } = this.#book;
    const due =
      this.#segments >= (this.#drained ? SEGMENTS_DUE_DRAINED : SEGMENTS_DUE) ||
      (this.#segments > 0 && clock.nowMs() - this.#lastMs >= AGE_MS_DUE);
    this.#drained = false;
    if (!due || position.number <= this.#book.map.file.position.number) return;
    this.#segments = 0;
    this.#lastMs = clock.nowMs();
    await this.#write(this.#book);
    counted(this.#book);
  }

  async #load(): Promise<RemoteBook> {
    const { sealer, checksums, disk, log } = this.#options;
    const options = { store: this.#store, sealer, checksums, disk, request: this.#request };
    const warn = (error: GatewayError): void => log.warn(`a checkpoint is passed over: ${error.message}`);
    for (const key of await listCheckpoints(this.#store, sealer, this.#request)) {
      const checkpoint = await readCheckpoint(this.#store, sealer, key, this.#request, warn);
      if (checkpoint === undefined) continue;
      try {
        return await RemoteBook.load(checkpoint, options);
      } catch (error) {
        if (!isDamage(error)) throw error;
        warn(error);
      }
    }
    return RemoteBook.load(undefined, options);
  }

  /** Applies what was committed since; what is not in memory any more is read back. */
  async #catchUp(book: RemoteBook): Promise<void> {
    const { sealer, createdSizeBytes } = this.#options;
    const following = (): CommittedGroup[] => {
      this.#queue = this.#queue.filter(({ point }) => point.number > book.position.number);
      return this.#queue;
    };
    const [first] = following();
    if (first !== undefined && first.segments[0]?.key.number !== book.position.number + 1) {
      await readChain(chainAt(book.position, book.sizeBytes), {
        store: this.#store,
        sealer,
        request: this.#request,
        createdSizeBytes,
        visit: (group) => {
          book.apply(group);
        },
      });
    }
    for (const group of following()) book.apply(group);
    this.#queue = [];
  }

  async #write(book: RemoteBook): Promise<void> {
    const { map } = book;
    const change = await map.file.begin();
    try {
      await map.stage(change);
      await this.#put(book, change);
    } catch (error) {
      await change.discard();
      throw error;
    }
  }

  async #put(book: RemoteBook, change: MapChange): Promise<void> {
    const { sealer, epoch, clock, log, applied, incarnation, createdSizeBytes } = this.#options;
    const { map, table, mapShards, position } = book;
    const key = { epoch, number: position.number };
    let part = 0;
    const nextPart = (): ShardKey => ({ ...key, part: part++ });
    const plan = planShards(map.changes(), (shard) => mapShards.has(shard));
    for (const shard of plan.dropped) mapShards.delete(shard);
    for (const shard of plan.rewritten) await this.#putShard(book, shard, nextPart());
    for (const tableIndex of table.complete(position.number)) {
      const reference = { ...nextPart(), tableIndex };
      const object = sealTableShard(sealer, reference, tableIndex, table.rowsOf(tableIndex));
      await this.#putObject(sealer.names.shard(reference), object);
      table.moved({ ...reference, link: object.link });
    }
    const delta = map.deltaWithout((shard) => !plan.kept.has(shard));
    const root = sealCheckpoint(sealer, key, {
      sizeBytes: book.sizeBytes ?? createdSizeBytes,
      wallMs: clock.wallMs(),
      recoveryPoint: position,
      epochs: book.epochs,
      receipts: [],
      mapShards: [...mapShards.values()].sort((left, right) => left.shardIndex - right.shardIndex),
      tableShards: table.tableShards,
      tail: table.tail,
      delta,
    });
    await this.#putObject(sealer.names.checkpoint(key), root);
    incarnation.check();
    await map.file.commit(change, position);
    map.staged(delta);
    incarnation.check();
    applied(position.number);
    log.info(`checkpoint ${keyText(key)}: ${plan.rewritten.length} shards, ${delta.count} extents of delta`);
  }

  async #putShard(book: RemoteBook, shardIndex: number, key: ShardKey): Promise<void> {
    const { sealer, checksums } = this.#options;
    const entries = await book.map.merged(shardIndex);
    if (checksums.isZero(entries, 0, entries.length)) {
      book.mapShards.delete(shardIndex);
      return;
    }
    const pageSums = Uint32Array.from({ length: SHARD_PAGES }, (_, page) =>
      mapPageSum(checksums, shardIndex * SHARD_PAGES + page, entries, page * MAP_PAGE_BYTES),
    );
    const object = sealMapShard(sealer, checksums, key, { shardIndex, entries, pageSums });
    await this.#putObject(sealer.names.shard(key), object);
    book.mapShards.set(shardIndex, { ...key, shardIndex, link: object.link });
  }

  /** Stores one object under a name that is ours alone. */
  async #putObject(name: string, object: SealedObject): Promise<void> {
    const put = await putOnce(this.#store, this.#options.fencing, name, object, this.#request);
    this.#options.incarnation.check();
    if (put.outcome === 'other') throw new GatewayError('remote-forked', `${name}: another writer’s object lies there`);
  }
}
