/**
 * Opens a volume at a recovery point for reading (frozen-volume.ts): the newest one, a snapshot, or one that is known from
 * an earlier opening. The caller has pinned before. What it takes grows with what was written since the last checkpoint,
 * not with the volume: shards and segments are fetched when something of them is read.
 */
import type { Checksums } from '../ports/checksum.js';
import type { RestoreSource } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { Checkpoint } from './checkpoint.js';
import { FrozenBook } from './frozen-book.js';
import type { Receipt } from './receipt.js';
import type { FoundVolume } from './remote-list.js';
import { proveHistory } from './restore-history.js';
import type { ChainPoint } from './segment-point.js';
import type { ShardCache } from './shard-cache.js';
import { openPoint, openSnapshot } from './snapshot-open.js';
import type { OpenPointOptions } from './snapshot-open.js';
import { requireSnapshot } from './snapshots.js';
import type { Snapshot } from './snapshots.js';

export interface OpenFrozenOptions {
  /** Repeats what fails for a while. */
  readonly store: ObjectStore;
  readonly found: FoundVolume;
  readonly request: StoreRequest;
  readonly cache: ShardCache;
  readonly checksums: Checksums;
  readonly random: Random;
  readonly log: Log;
  /** See FrozenMapOptions. */
  readonly foldEntries?: number;
}

export interface OpenNewestOptions extends OpenFrozenOptions {
  readonly receipt: Receipt | undefined;
  readonly acceptLoss: boolean;
  /** This one instead of the newest recovery point. */
  readonly snapshot: string | undefined;
}

export interface OpenedFrozen {
  readonly book: FrozenBook;
  /** At the newest recovery point, oldest first. */
  readonly snapshots: readonly Snapshot[];
  /** Set when loss was accepted: what is missing. */
  readonly loss: string | undefined;
}

/** Throws as proveHistory does; not-found for the snapshot. */
export async function openNewest(options: OpenNewestOptions): Promise<OpenedFrozen> {
  const { found, snapshot: name } = options;
  const { book, loss } = await proveHistory({ ...options, load: loader(options) });
  const { snapshots } = book;
  if (name === undefined) return { book, snapshots, loss };
  const snapshot = requireSnapshot(snapshots, name, found.volume.name);
  return { book: await openSnapshot(snapshot, pointOptions(options)), snapshots, loss };
}

/** The recovery point that a restore recorded; remote-gap when it cannot be reached any more. */
export function openRecorded({ recoveryPoint }: RestoreSource, options: OpenFrozenOptions): Promise<FrozenBook> {
  const { epoch, number, link, lsn, wallMs } = recoveryPoint;
  const point: ChainPoint = { epoch, number, link: new Uint8Array(Buffer.from(link, 'hex')), lsn, wallMs };
  return openPoint({ point, root: undefined, what: 'the recovery point' }, pointOptions(options));
}

type Load = (checkpoint: Checkpoint | undefined) => Promise<FrozenBook>;

function loader(options: OpenFrozenOptions): Load {
  const { sealer } = options.found;
  return (checkpoint) => Promise.resolve(new FrozenBook(checkpoint, { ...options, sealer }));
}

function pointOptions(options: OpenFrozenOptions): OpenPointOptions<FrozenBook> {
  const { store, found, request, log } = options;
  const { sealer, volume } = found;
  return { store, sealer, request, log, createdSizeBytes: volume.sizeBytes, load: loader(options) };
}
