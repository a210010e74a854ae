/**
 * Writes checkpoints from the book of the remote volume (book-keeper.ts): at every snapshot, as its root (snapshots.ts);
 * and after so many segments or bytes, after so long with changes, and when a drain ended. An idle volume writes none.
 *
 * A checkpoint is an optimisation: uploads never wait for it, and when it fails it is left out with a warning. Order:
 * shards, root, and only then the local map file moves on to the root's recovery point, so that the file always shows
 * the point of some root, or is made again from one. Nothing is deleted here: older roots and shards stay until
 * deletion.ts knows what is safe.
 *
 * The root of a snapshot must be: as long as it fails, it is tried again, and no other checkpoint is written. A shard has
 * a name that no earlier attempt of this epoch had, and a root that an earlier attempt did store after all is taken.
 *
 * Shards that are known to be damaged are written again whatever has changed in them (mend.ts).
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { BackgroundWork } from './background-work.js';
import { isAtSnapshot } from './book-keeper.js';
import type { BookKeeper } from './book-keeper.js';
import { keyText } from './chain.js';
import { sealCheckpoint } from './checkpoint.js';
import type { Checkpoint } from './checkpoint.js';
import { planShards } from './checkpoint-plan.js';
import { keptOf } from './kept-checkpoints.js';
import type { KeptCheckpoint } from './kept-checkpoints.js';
import { Mends, rowsOfSegments } from './mend.js';
import type { Mended, MendRequest } from './mend.js';
import type { ShardKey } from './name.js';
import type { RemoteBook } from './remote-map-book.js';
import type { MapChange } from './remote-map-redo.js';
import type { ReceiptKeeper } from './receipt-keeper.js';
import type { Incarnation } from './replicator-incarnation.js';
import { LINK_BYTES } from './seal.js';
import type { ObjectSealer, SealedObject } from './seal.js';
import { mapPageSums, sealMapShard } from './shard-map.js';
import { sealTableShard } from './shard-table.js';
import type { Snapshot, SnapshotRoot } from './snapshots.js';
import { RetryingStore } from './store-retry.js';
import { putOnce } from './upload.js';
import type { Fencing } from './upload.js';
import type { CommittedGroup } from './upload-pipeline.js';

/** Segments since the last checkpoint: what a restore has to read beside it. */
export const SEGMENTS_DUE = 128;
/** Blocks since the last one, of those that live: space comes free only three checkpoints later. */
export const LIVE_SHARE_DUE = 1 / 40;
const SEGMENTS_DUE_DRAINED = 8;
export const AGE_MS_DUE = 600_000;
/** A snapshot whose root could not be written. */
const AGAIN_MS = 60_000;

export interface CheckpointWriterOptions {
  readonly keeper: BookKeeper;
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly fencing: Fencing;
  /** The epoch that writes. */
  readonly epoch: number;
  /** With fewer bytes since the last one, a small volume is not worth one yet. */
  readonly bytesDueMin: number;
  /** See ShardLimits. */
  readonly shardRewriteBlocks?: number;
  readonly createdSizeBytes: number;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly incarnation: Incarnation;
  readonly receipts: Pick<ReceiptKeeper, 'upTo'>;
  /** The book was changed. */
  readonly counted: (book: RemoteBook) => void;
  /** The map file shows everything up to this segment, durably. */
  readonly applied: (segmentNumber: number) => void;
  /** One was written, and what lives was counted; the book is lent until it returns. */
  readonly written: (checkpoint: KeptCheckpoint, book: RemoteBook) => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

interface Wanted {
  readonly drained: boolean;
  readonly demanded: boolean;
  readonly mends: readonly MendRequest[];
}

export class CheckpointWriter {
  readonly #options: CheckpointWriterOptions;
  readonly #store: ObjectStore;
  readonly #request: StoreRequest;
  #segments = 0;
  #bytes = 0;
  #lastMs: number;
  #drained = false;
  #demanded = false;
  readonly #work: BackgroundWork;
  #timer: Timer | undefined;
  /** Of the next shard: a running number of this epoch. */
  #part = 0;
  readonly #mends = new Mends();

  constructor(options: CheckpointWriterOptions) {
    const { store, clock, random, incarnation, failed } = options;
    this.#options = options;
    this.#work = new BackgroundWork({
      incarnation,
      step: () => this.#useBook(),
      refused: (error) => this.#refused(error),
      failed,
    });
    this.#store = new RetryingStore(store, { clock, random });
    this.#request = { signal: incarnation.signal };
    this.#lastMs = clock.nowMs();
  }

  committed(group: CommittedGroup): void {
    this.#options.keeper.committed(group);
    this.#segments += group.segments.length;
    for (const { index } of group.segments) this.#bytes += index.payloadBlocks * BLOCK_BYTES;
    this.#work.wake();
  }

  /** Somebody waited until all was replicated: a good moment, if there is enough to say. */
  drained(): void {
    this.#drained = true;
    this.#work.wake();
  }

  /** An earlier life may have left a snapshot without its root, and nothing may be committed for long. */
  begin(): void {
    this.#work.wake();
  }

  /** Writes one as soon as there is anything that the newest does not show. */
  demand(): void {
    this.#demanded = true;
    this.#work.wake();
  }

  /** Writes one that needs none of the objects, which are missing or damaged. Rejects where it is left out. */
  mend(objects: readonly string[]): Promise<Mended> {
    const mended = this.#mends.ask(objects);
    this.#work.wake();
    return mended;
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    this.#timer?.cancel();
    this.#mends.end();
    await this.#work.ended();
  }

  async #useBook(): Promise<void> {
    // Taken before the book catches up: what was demanded behind a group includes that group.
    const wanted = { drained: this.#drained, demanded: this.#demanded, mends: this.#mends.take() };
    this.#drained = this.#demanded = false;
    try {
      await this.#options.keeper.use((book) => this.#step(book, wanted), true);
    } catch (error) {
      for (const { reject } of wanted.mends) reject(error instanceof Error ? error : new Error(String(error)));
      throw error;
    }
  }

  #refused(error: Error): void {
    this.#options.log.warn(`a checkpoint is left out: ${error.message}`);
    this.#countAnew();
    this.#tryAgain();
  }

  /** Whatever failed may have been the root of a snapshot, and an idle volume commits nothing that would wake us. */
  #tryAgain(): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(AGAIN_MS, () => this.#work.wake());
  }

  async #step(book: RemoteBook, wanted: Wanted): Promise<void> {
    const { clock, counted, bytesDueMin } = this.#options;
    counted(book);
    const { position } = book;
    const atSnapshot = isAtSnapshot(book);
    // The book is not at its head, and whatever else is due comes behind.
    if (atSnapshot) this.#work.wake();
    const due =
      atSnapshot ||
      wanted.demanded ||
      wanted.mends.length > 0 ||
      this.#bytes >= Math.max(book.table.liveBytes * LIVE_SHARE_DUE, bytesDueMin) ||
      this.#segments >= (wanted.drained ? SEGMENTS_DUE_DRAINED : SEGMENTS_DUE) ||
      (this.#segments > 0 && clock.nowMs() - this.#lastMs >= AGE_MS_DUE);
    if (atSnapshot) {
      this.#drained ||= wanted.drained;
      this.#demanded ||= wanted.demanded;
      this.#mends.putBack(wanted.mends);
    }
    const mends = atSnapshot ? [] : wanted.mends;
    if (!due || position.number <= book.map.file.position.number) return this.#answer(mends, book, []);
    this.#countAnew();
    const problems = await this.#write(book);
    counted(book);
    this.#answer(mends, book, problems);
  }

  #answer(requests: readonly MendRequest[], book: RemoteBook, problems: readonly string[]): void {
    for (const { objects, resolve } of requests) {
      const written = problems.length > 0 || this.#mends.isLeftBehind(book, this.#options.sealer.names, objects);
      if (written) this.#mends.forget(objects);
      resolve({ written, problems });
    }
  }

  /** Counts anew. */
  #countAnew(): void {
    this.#segments = 0;
    this.#bytes = 0;
    this.#lastMs = this.#options.clock.nowMs();
  }

  /** What of it could not be made whole. */
  async #write(book: RemoteBook): Promise<readonly string[]> {
    const { map } = book;
    const change = await map.file.begin();
    try {
      await map.stage(change);
      return await this.#put(book, change);
    } catch (error) {
      await change.discard();
      throw error;
    }
  }

  async #put(book: RemoteBook, change: MapChange): Promise<readonly string[]> {
    const { sealer, epoch, clock, log, applied, incarnation, createdSizeBytes, written } = this.#options;
    const { map, table, mapShards, position } = book;
    const key = { epoch, number: position.number };
    const nextPart = (): ShardKey => ({ ...key, part: this.#part++ });
    const again = this.#mends.among(mapShards.values(), sealer.names).map(({ shardIndex }) => shardIndex);
    const plan = planShards(map.changes(), (shard) => mapShards.has(shard), new Set(again), {
      rewriteBlocks: this.#options.shardRewriteBlocks,
    });
    for (const shard of plan.dropped) mapShards.delete(shard);
    for (const shard of plan.rewritten) await this.#putShard(book, shard, nextPart());
    for (const tableIndex of table.complete(position.number)) {
      const reference = { ...nextPart(), tableIndex };
      const object = sealTableShard(sealer, reference, tableIndex, table.rowsOf(tableIndex));
      await this.#putObject(sealer.names.shard(reference), object);
      table.moved({ ...reference, link: object.link });
    }
    const problems = await this.#mendTable(book, nextPart);
    const delta = map.deltaWithout((shard) => !plan.kept.has(shard));
    const ownRoot = { epoch, link: new Uint8Array(LINK_BYTES), mappedBlocks: book.mappedBlocks };
    const checkpoint: Checkpoint = {
      sizeBytes: book.sizeBytes ?? createdSizeBytes,
      wallMs: clock.wallMs(),
      recoveryPoint: position,
      epochs: book.epochs,
      receipts: this.#options.receipts.upTo(position, book.receipts),
      mapShards: [...mapShards.values()].sort((left, right) => left.shardIndex - right.shardIndex),
      tableShards: table.tableShards,
      tail: table.tail,
      delta,
      snapshots: rootedAt(book, ownRoot),
      ...(book.staged === undefined ? {} : { staged: book.staged }),
    };
    const root = sealCheckpoint(sealer, key, checkpoint);
    await this.#putObject(sealer.names.checkpoint(key), root);
    incarnation.check();
    await map.file.commit(change, position);
    map.staged(delta);
    book.root = key;
    book.rooted({ ...ownRoot, link: root.link });
    incarnation.check();
    applied(position.number);
    written(keptOf(sealer, key, checkpoint), book);
    log.info(`checkpoint ${keyText(key)}: ${plan.rewritten.length} shards, ${delta.count} extents of delta`);
    return problems;
  }

  /** Writes table shards again that are damaged; why not, of those that cannot be, which stay as they are. */
  async #mendTable(book: RemoteBook, nextPart: () => ShardKey): Promise<readonly string[]> {
    const { sealer } = this.#options;
    const { table } = book;
    const problems: string[] = [];
    for (const damaged of this.#mends.among(table.tableShards, sealer.names)) {
      const rows = await rowsOfSegments(book, damaged, { store: this.#store, sealer, request: this.#request });
      if (typeof rows === 'string') {
        problems.push(`${sealer.names.shard(damaged)} cannot be written again: ${rows}`);
        continue;
      }
      const { tableIndex } = damaged;
      const reference = { ...nextPart(), tableIndex };
      const object = sealTableShard(sealer, reference, tableIndex, rows);
      await this.#putObject(sealer.names.shard(reference), object);
      table.replaced({ ...reference, link: object.link });
    }
    return problems;
  }

  async #putShard(book: RemoteBook, shardIndex: number, key: ShardKey): Promise<void> {
    const { sealer, checksums } = this.#options;
    const entries = await book.map.merged(shardIndex);
    if (checksums.isZero(entries, 0, entries.length)) {
      book.mapShards.delete(shardIndex);
      return;
    }
    const pageSums = mapPageSums(checksums, shardIndex, entries);
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

/** The book's snapshots as a checkpoint at its position names them: it is the root of the one at this position. */
function rootedAt({ snapshots, position }: RemoteBook, own: SnapshotRoot): Snapshot[] {
  return snapshots.map((snapshot) =>
    snapshot.point.number === position.number ? { ...snapshot, root: own } : snapshot,
  );
}
