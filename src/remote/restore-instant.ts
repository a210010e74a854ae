/**
 * Restores a volume without its content: proves the history as a whole restore does (restore.ts), and makes a directory
 * that serves at once and gets its content from the bucket while it does (hydrator.ts). What it takes does not depend on
 * the volume's size. The pin stays, and goes to the volume that was made.
 */
import { GatewayError } from '../base/errors.js';
import type { RestoreSource } from '../ports/hydration.js';
import type { StoreRequest } from '../ports/object-store.js';
import type { ReplicationState } from '../ports/replication.js';
import { openNewest } from './frozen-open.js';
import { notedIn, Pin } from './pin.js';
import { findRemoteVolume } from './remote-list.js';
import { refuseSnapshot } from './restore.js';
import type { Restored, RestoreOptions } from './restore.js';
import { ShardCache } from './shard-cache.js';

/** What the new directory is made with (engine/hydration-open.ts). */
export interface InstantVolume {
  readonly uuid: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly source: RestoreSource;
  readonly pins: readonly string[];
  /** Where the volume itself goes on; undefined: a detached copy. */
  readonly remote: Pick<ReplicationState, 'remoteEpoch' | 'segmentNumber' | 'chainHead'> | undefined;
}

export interface InstantRestoreOptions extends Omit<RestoreOptions, 'openTarget' | 'progress'> {
  /** How the store is opened again (RestoreSource.store). */
  readonly location: Readonly<Record<string, string>>;
  /** Makes the new directory; called once the history is proved. */
  readonly create: (volume: InstantVolume) => Promise<void>;
}

/** Throws as restoreFull does. */
export async function restoreInstant(options: InstantRestoreOptions): Promise<Omit<Restored, 'lostBlocks'>> {
  const { store, masters, random, volume: wanted, clock, log, reader, signal, takeOver } = options;
  if (takeOver) refuseSnapshot(options.snapshot);
  const request: StoreRequest = signal === undefined ? {} : { signal };
  const found = await findRemoteVolume(store, { volume: wanted, masters, random, request });
  const { sealer, volume } = found;
  const cache = await ShardCache.open(options.scratch, options.checksums);
  const noted = notedIn(options.notes, sealer);
  const pin = await Pin.put({ store, sealer, clock, random, log, reader, request, ...noted });
  try {
    const { receipt, acceptLoss, snapshot, checksums } = options;
    const sources = { store, found, request, cache, checksums, random, log };
    const { book, snapshots, loss } = await openNewest({ ...sources, receipt, acceptLoss, snapshot });
    const { position, floor } = book;
    await pin.narrow(floor);
    const { epoch, number, lsn, wallMs } = position;
    const link = Buffer.from(position.link).toString('hex');
    const sizeBytes = book.sizeBytes ?? volume.sizeBytes;
    const uuid = takeOver ? sealer.names.uuid : random.uuid();
    const name = options.as ?? volume.name;
    const recoveryPoint = { epoch, number, link, lsn, wallMs };
    const source = { uuid: sealer.names.uuid, store: options.location, recoveryPoint, pinFloor: floor, sizeBytes };
    const remote = takeOver ? { remoteEpoch: epoch, segmentNumber: number, chainHead: position.link } : undefined;
    await options.create({ uuid, name, sizeBytes, source, pins: await pin.handOver(), remote });
    return { uuid, name, sizeBytes, recoveryPoint: position, snapshots, detached: !takeOver, loss };
  } catch (error) {
    await pin.release();
    if (signal?.aborted === true) throw new GatewayError('volume-closed', 'the restore was interrupted');
    throw error;
  } finally {
    await cache.close();
    await ShardCache.remove(options.scratch);
  }
}
