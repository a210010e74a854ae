/** Brings a book to a snapshot's point, to read what the volume was then. */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Log } from '../ports/log.js';
import { chainAt, keyText, samePoint } from './chain.js';
import { readChain } from './chain-walk.js';
import type { Checkpoint } from './checkpoint.js';
import { RemoteBook } from './remote-map-book.js';
import type { BookGroup, BookOptions } from './remote-map-book.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { Snapshot } from './snapshots.js';

export interface OpenSnapshotOptions extends BookOptions {
  readonly createdSizeBytes: number;
  readonly log: Log;
  /** After every group that was applied. */
  readonly applied?: (book: RemoteBook) => Promise<void>;
}

/**
 * `snapshot` as a proved history names it. From its root; while that is not written, or where it is damaged, from an
 * older checkpoint and the segments up to the point. Throws object-damaged or remote-gap when neither is there.
 */
export async function openSnapshot(snapshot: Snapshot, options: OpenSnapshotOptions): Promise<RemoteBook> {
  const { store, sealer, request, log } = options;
  const { point } = snapshot;
  const damaged = (error: GatewayError): void => log.warn(`a checkpoint is passed over: ${error.message}`);
  for (const key of await listCheckpoints(store, sealer, request)) {
    if (key.number > point.number) continue;
    const checkpoint = await readCheckpoint(store, sealer, key, request, damaged);
    if (checkpoint === undefined || !leadsTo(snapshot, checkpoint)) continue;
    const book = await load(checkpoint, options, damaged);
    if (book !== undefined) return walkTo(snapshot, book, options);
  }
  return walkTo(snapshot, await RemoteBook.load(undefined, options), options);
}

/** A checkpoint at the point must be the root that the history vouches for, if there is one. */
function leadsTo({ point, root }: Snapshot, checkpoint: Checkpoint): boolean {
  if (checkpoint.recoveryPoint.number < point.number) return true;
  if (!samePoint(checkpoint.recoveryPoint, point)) return false;
  const own = checkpoint.snapshots.find((other) => other.point.number === point.number)?.root;
  return root === undefined || (own !== undefined && equalBytes(own.link, root.link));
}

async function load(
  checkpoint: Checkpoint,
  options: OpenSnapshotOptions,
  damaged: (error: GatewayError) => void,
): Promise<RemoteBook | undefined> {
  try {
    return await RemoteBook.load(checkpoint, options);
  } catch (error) {
    if (!isDamage(error)) throw error;
    damaged(error);
    return undefined;
  }
}

async function walkTo(snapshot: Snapshot, book: RemoteBook, options: OpenSnapshotOptions): Promise<RemoteBook> {
  const { point, name } = snapshot;
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
      `snapshot ${name} lies at segment ${keyText(point)}; the bucket can be read up to ${keyText(book.position)}`,
    );
  } catch (error) {
    await book.close();
    throw error;
  }
}
