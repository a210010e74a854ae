/**
 * What the owner of a bucket was told to be missing or damaged there, until no reader of the newest checkpoint needs it. A
 * shard that is damaged is written again under a new name by the next checkpoint, from the local map or from the segments
 * that live; a root, and a segment behind the newest root, is left behind by any newer checkpoint. Nothing is overwritten:
 * whoever reads a name finds what was sealed under it, or nothing.
 *
 * Older roots, and snapshots, go on naming what is damaged. It is forgotten with the process: who asked hears nothing, and
 * asks again.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { ObjectNames, ShardKey } from './name.js';
import type { RemoteBook } from './remote-map-book.js';
import { isDamage } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import { segmentRow, TABLE_SHARD_NUMBERS } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';

export interface Mended {
  /**
   * The newest checkpoint is in the bucket, shows all that was committed when it was asked, and needs none of the objects.
   * false: something has to be committed first, since there is a checkpoint of this very recovery point.
   */
  readonly written: boolean;
  /** Of objects that could not be written again. */
  readonly problems: readonly string[];
}

/** Somebody who waits for a checkpoint. */
export interface MendRequest {
  readonly objects: readonly string[];
  readonly resolve: (mended: Mended) => void;
  readonly reject: (error: Error) => void;
}

export class Mends {
  readonly #damaged = new Set<string>();
  #waiting: MendRequest[] = [];
  #ended = false;

  ask(objects: readonly string[]): Promise<Mended> {
    if (this.#ended) return Promise.reject(ended());
    for (const object of objects) this.#damaged.add(object);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ objects, resolve, reject });
    });
  }

  /** Who waits up to now; to be answered, or put back. */
  take(): readonly MendRequest[] {
    return this.#waiting.splice(0);
  }

  putBack(requests: readonly MendRequest[]): void {
    this.#waiting.unshift(...requests);
  }

  /** Of the references, those that are known to be damaged. */
  among<Reference extends ShardKey>(references: Iterable<Reference>, names: ObjectNames): Reference[] {
    if (this.#damaged.size === 0) return [];
    return [...references].filter((reference) => this.#damaged.has(names.shard(reference)));
  }

  /** Whether a reader of the newest checkpoint needs none of the objects. */
  isLeftBehind(book: RemoteBook, names: ObjectNames, objects: readonly string[]): boolean {
    const { root, mapShards, table } = book;
    const needed = new Set([...mapShards.values(), ...table.tableShards].map((shard) => names.shard(shard)));
    return objects.every((object) => {
      const parsed = names.parse(object);
      if (parsed?.kind === 'segment') return root !== undefined && parsed.number <= root.number;
      if (parsed?.kind === 'checkpoint') return root === undefined || names.checkpoint(root) !== object;
      return !needed.has(object);
    });
  }

  /** They need no second try: written again, or told why not. */
  forget(objects: Iterable<string>): void {
    for (const object of objects) this.#damaged.delete(object);
  }

  /** Nobody will be answered any more. */
  end(): void {
    this.#ended = true;
    for (const { reject } of this.take()) reject(ended());
  }
}

function ended(): GatewayError {
  return new GatewayError('store-unreachable', 'replication ended meanwhile; scrub again');
}

/**
 * The rows of a table shard that is damaged, as the segments themselves say: of those in which blocks live, since no reader
 * of a newer checkpoint needs the others. Or why not all of them can be had.
 */
export async function rowsOfSegments(
  book: RemoteBook,
  { tableIndex, live }: Pick<TableShardReference, 'tableIndex' | 'live'>,
  { store, sealer, request }: { store: ObjectStore; sealer: ObjectSealer; request: StoreRequest },
): Promise<readonly SegmentRow[] | string> {
  const rows: SegmentRow[] = [];
  for (const [at, blocks] of live.entries()) {
    if (blocks === 0) continue;
    const number = tableIndex * TABLE_SHARD_NUMBERS + at;
    const key = { epoch: book.epochOf(number), number };
    try {
      const head = await readSegmentHead(store, sealer, key, request);
      if (head.kind !== 'segment') return `${sealer.names.segment(key)} is missing`;
      rows.push(segmentRow(key, head));
    } catch (error) {
      if (!isDamage(error)) throw error;
      return error.message;
    }
  }
  return rows;
}
