/** Makes and opens what a restored volume needs while its content still comes from the bucket. */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { RestoreSource } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { ReplicationState } from '../ports/replication.js';
import { BlockBitmap } from './block-bitmap.js';
import { FilledBlocks } from './filled-block.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { readRestoreRecord, writeRestoreRecord, type RestoreRecord } from './restore-record.js';
import {
  layOut,
  restoredIdentity,
  sealDirectory,
  type NewVolume,
  type VolumeIdentity,
} from './volume-directory-format.js';

export const OVERWRITTEN = 'overwritten';

/**
 * Makes the directory of a volume none of whose blocks is here yet, a detached copy or, with `remote`, the volume itself:
 * the time it takes does not depend on the size. volume.json comes last, so that an interrupted restore leaves nothing
 * that opens.
 */
export async function createHydrating(
  options: NewVolume & {
    readonly uuid: string;
    readonly source: RestoreSource;
    readonly pins: readonly string[];
    readonly remote?: Pick<ReplicationState, 'remoteEpoch' | 'segmentNumber' | 'chainHead'> | undefined;
  },
): Promise<void> {
  const { disk, checksums, source, pins, remote } = options;
  const identity = restoredIdentity(options, 'remote');
  await layOut(options, identity);
  await BlockBitmap.create(disk, OVERWRITTEN);
  await writeRestoreRecord(disk, checksums, { source, progress: { segmentsThrough: 0, pins }, complete: false });
  const lsn: Lsn = source.recoveryPoint.lsn;
  await sealDirectory(options, identity, { lsn, ...(remote === undefined ? {} : { remote }) });
}

/** The record of a volume whose blocks may be remote only; undefined for any other. */
export async function readRecordOf(
  identity: VolumeIdentity,
  disk: Disk,
  checksums: Checksums,
): Promise<RestoreRecord | undefined> {
  if (identity.holes === 'zero') return undefined;
  const record = await readRestoreRecord(disk, checksums);
  if (record !== undefined) return record;
  throw new GatewayError('volume-incomplete', `the file "restore" is missing beside volume.json: restore again`);
}

/** From this block on, checksums that were never written stand for zero blocks; undefined: it has no remote ones. */
export function holesEnd(record: RestoreRecord | undefined): { readonly holesEndBlock?: number } {
  return record === undefined ? {} : { holesEndBlock: record.source.sizeBytes / BLOCK_BYTES };
}

/** undefined: nothing is owed to the volume. What a crash left of the set of written blocks after that goes. */
export async function openFilledBlocks(
  record: RestoreRecord | undefined,
  options: {
    readonly disk: Disk;
    readonly checksums: Checksums;
    readonly image: Image;
    readonly overlay: Overlay;
    readonly log: Log;
    readonly name: string;
  },
): Promise<{ readonly filled: FilledBlocks; readonly overwritten: BlockBitmap } | undefined> {
  const { disk, checksums, log, name } = options;
  if (record === undefined) return undefined;
  if (record.complete) {
    await BlockBitmap.remove(disk, OVERWRITTEN);
    return undefined;
  }
  const overwritten = await BlockBitmap.open(disk, OVERWRITTEN, checksums, (sector) =>
    log.error(`sector ${sector} of the written blocks of volume ${name} is damaged: all of them count as written`),
  );
  const filled = new FilledBlocks({
    ...options,
    overwritten,
    onLost: (block) =>
      log.warn(
        `block ${block} of volume ${name} had rotted before it was replicated: it is an error until it is written`,
      ),
  });
  return { filled, overwritten };
}
