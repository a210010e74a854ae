/** Brings a book to a recovery point of the past, to read what the volume was then: a snapshot's, or one that is known. */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { chainAt, keyText, samePoint } from './chain.js';
import { readChain } from './chain-walk.js';
import type { Checkpoint } from './checkpoint.js';
import type { BookGroup } from './remote-map-book.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { HistoryBook } from './restore-history.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';
import type { Snapshot, SnapshotRoot } from './snapshots.js';

export interface OpenPointOptions<Book extends HistoryBook> {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly request: StoreRequest;
  readonly createdSizeBytes: number;
  readonly log: Log;
  /** The book at a checkpoint (undefined: before the first segment); damage in what that names is passed over. */
  readonly load: (checkpoint: Checkpoint | undefined) => Promise<Book>;
  /** After every group that was applied. */
  readonly applied?: (book: Book) => Promise<void>;
}

/** A recovery point, as a proved history names it. */
export interface KnownPoint {
  readonly point: ChainPoint;
  /** Of a snapshot, when it is written. */
  readonly root: SnapshotRoot | undefined;
  /** For messages: "snapshot daily". */
  readonly what: string;
}

/** As openPoint, for a snapshot as a proved history names it. */
export function openSnapshot<Book extends HistoryBook>(
  { name, point, root }: Snapshot,
  options: OpenPointOptions<Book>,
): Promise<Book> {
  return openPoint({ point, root, what: `snapshot ${name}` }, options);
}

/**
 * From the root of a snapshot; while that is not written, or where it is damaged, from an older checkpoint and the
 * segments up to the point. Throws object-damaged or remote-gap when neither is there.
 */
export async function openPoint<Book extends HistoryBook>(
  known: KnownPoint,
  options: OpenPointOptions<Book>,
): Promise<Book> {
  const { store, sealer, request, log } = options;
  const damaged = (error: GatewayError): void => log.warn(`a checkpoint is passed over: ${error.message}`);
  for (const key of await listCheckpoints(store, sealer, request)) {
    if (key.number > known.point.number) continue;
    const checkpoint = await readCheckpoint(store, sealer, key, request, damaged);
    if (checkpoint === undefined || !leadsTo(known, checkpoint)) continue;
    const book = await load(checkpoint, options, damaged);
    if (book !== undefined) return walkTo(known, book, options);
  }
  return walkTo(known, await options.load(undefined), options);
}

/** A checkpoint at the point must be the root that the history vouches for, if there is one. */
function leadsTo({ point, root }: KnownPoint, checkpoint: Checkpoint): boolean {
  if (checkpoint.recoveryPoint.number < point.number) return true;
  if (!samePoint(checkpoint.recoveryPoint, point)) return false;
  const own = checkpoint.snapshots.find((other) => other.point.number === point.number)?.root;
  return root === undefined || (own !== undefined && equalBytes(own.link, root.link));
}

async function load<Book extends HistoryBook>(
  checkpoint: Checkpoint,
  options: OpenPointOptions<Book>,
  damaged: (error: GatewayError) => void,
): Promise<Book | undefined> {
  try {
    return await options.load(checkpoint);
  } catch (error) {
    if (!isDamage(error)) throw error;
    damaged(error);
    return undefined;
  }
}

async function walkTo<Book extends HistoryBook>(
  { point, what }: KnownPoint,
  book: Book,
  options: OpenPointOptions<Book>,
): Promise<Book> {
  try {
    const visit = async (group: BookGroup): Promise<void> => {
      if (group.point.number > point.number) return;
      await book.apply(group);
      await options.applied?.(book);
    };
    if (book.position.number < point.number) {
      await readChain(chainAt(book.position, book.sizeBytes), { ...options, visit, untilNumber: point.number });
    }
    if (samePoint(book.position, point)) return book;
    throw new GatewayError(
      'remote-gap',
      `${what} lies at segment ${keyText(point)}; the bucket can be read up to ${keyText(book.position)}`,
    );
  } catch (error) {
    await book.close();
    throw error;
  }
}
