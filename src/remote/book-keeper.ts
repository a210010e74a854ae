/**
 * Keeps the book (remote-map-book.ts) of a volume at the newest group that this gateway knows to be committed, and lends
 * it to one user at a time: to the checkpoint writer, and to whoever looks a block up. It needs no epoch: reading the
 * bucket takes nothing from anybody.
 *
 * The book never shows more than the own history: what another owner may have added behind it is left out. A book that
 * gave rise to doubt is thrown away and built again from a checkpoint when it is needed next.
 *
 * Whoever writes checkpoints gets the book at each snapshot that has no root yet, before it goes on: the invariant of
 * snapshots.ts. A book that others had gone past one with is built again, from a checkpoint that lies before it.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { chainAt, keyText } from './chain.js';
import { readChain } from './chain-walk.js';
import { RemoteBook } from './remote-map-book.js';
import { MapFile } from './remote-map-file.js';
import { MapDoubtError } from './remote-map-header.js';
import { StoppedError } from './replicator-incarnation.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';
import { rootless } from './snapshots.js';
import type { CommittedGroup } from './upload-pipeline.js';

/** Committed groups that wait for the book; beyond, they are read back from the bucket. */
const QUEUE_MAX = 256;

export interface BookKeeperOptions {
  /** Retries by itself. */
  readonly store: ObjectStore;
  readonly request: StoreRequest;
  readonly sealer: ObjectSealer;
  readonly createdSizeBytes: number;
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly log: Log;
  /** See BookOptions. */
  readonly foldEntries?: number;
  /** The newest committed segment that this gateway knows, number 0: none. */
  readonly head: () => Pick<ChainPoint, 'epoch' | 'number' | 'link'>;
}

export class BookKeeper {
  readonly #options: BookKeeperOptions;
  #book: RemoteBook | undefined;
  #queue: CommittedGroup[] = [];
  /** Ends when the present user is through. */
  #turn: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: BookKeeperOptions) {
    this.#options = options;
  }

  committed(group: CommittedGroup): void {
    this.#queue.push(group);
    if (this.#queue.length > QUEUE_MAX) this.#queue.shift();
  }

  /**
   * Lends the book as of `head`; with `stops` as of the oldest snapshot without a root, where there is one. What `work`
   * throws throws the book away.
   */
  use<T>(work: (book: RemoteBook) => Promise<T>, stops = false): Promise<T> {
    const result = this.#turn.then(async () => {
      if (this.#closed) throw new StoppedError('the replicator was stopped');
      try {
        if (stops && this.#book !== undefined && isPastSnapshot(this.#book)) await this.#forget(false);
        this.#book ??= await this.#load();
        await this.#catchUp(this.#book, stops);
        return await work(this.#book);
      } catch (error) {
        await this.#forget(error instanceof MapDoubtError);
        throw error;
      }
    });
    this.#turn = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }

  /** Waits for the present user, which the caller has made end. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#turn;
    await this.#book?.close();
    this.#book = undefined;
  }

  async #forget(doubtful: boolean): Promise<void> {
    const { disk, log } = this.#options;
    const book = this.#book;
    this.#book = undefined;
    try {
      await book?.close();
      if (doubtful) await MapFile.remove(disk);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`the map of the bucket stays as it is: ${error.message}`);
    }
  }

  async #load(): Promise<RemoteBook> {
    const { store, sealer, request, log, head } = this.#options;
    const warn = (error: GatewayError): void => log.warn(`a checkpoint is passed over: ${error.message}`);
    for (const key of await listCheckpoints(store, sealer, request)) {
      // An earlier life of this directory may have written it, and died before it knew.
      if (key.number > head().number) continue;
      const checkpoint = await readCheckpoint(store, sealer, key, request, warn);
      if (checkpoint === undefined) continue;
      try {
        const book = await RemoteBook.load(checkpoint, this.#options);
        book.root = key;
        return book;
      } catch (error) {
        if (!isDamage(error)) throw error;
        warn(error);
      }
    }
    return RemoteBook.load(undefined, this.#options);
  }

  /** Applies what was committed since; what is not in memory any more is read back. More may be committed meanwhile. */
  async #catchUp(book: RemoteBook, stops: boolean): Promise<void> {
    const { head } = this.#options;
    for (;;) {
      if (stops && isAtSnapshot(book)) return;
      const before = book.position.number;
      const group = this.#waiting(book);
      if (group?.segments[0]?.key.number === before + 1) {
        this.#queue.shift();
        await book.apply(group);
        continue;
      }
      if (group === undefined && head().number === before) break;
      await this.#readOn(book, stops);
      if (book.position.number === before) break;
    }
    const { position } = book;
    const end = head();
    if (position.number === end.number && (end.number === 0 || equalBytes(position.link, end.link))) return;
    throw new GatewayError(
      'remote-forked',
      `the bucket shows segment ${keyText(position)} where this gateway knows ${keyText(end)}`,
    );
  }

  /** The oldest group in memory that the book does not have. */
  #waiting(book: RemoteBook): CommittedGroup | undefined {
    this.#queue = this.#queue.filter(({ point }) => point.number > book.position.number);
    return this.#queue[0];
  }

  async #readOn(book: RemoteBook, stops: boolean): Promise<void> {
    const { head } = this.#options;
    await readChain(chainAt(book.position, book.sizeBytes), {
      ...this.#options,
      visit: async (group) => {
        // The head moves on meanwhile: behind a group that was left out nothing is taken.
        const follows = group.segments[0]?.key.number === book.position.number + 1;
        if (stops && isAtSnapshot(book)) return;
        if (follows && group.point.number <= head().number) await book.apply(group);
      },
    });
  }
}

/** The book shows a snapshot whose root is to be written from it now. */
export function isAtSnapshot({ snapshots, position }: RemoteBook): boolean {
  return rootless(snapshots, position.number)?.point.number === position.number;
}

/** The book has gone past a snapshot whose root is not written: it cannot be written from it any more. */
function isPastSnapshot({ snapshots, position }: RemoteBook): boolean {
  return rootless(snapshots, position.number - 1) !== undefined;
}
