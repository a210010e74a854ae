/**
 * The file `restore` of a volume that came from a bucket without its content (docs/formats.md, "Restore record"): where
 * the content is, how much of it is here, and whether it is complete. While it is not, a block whose checksum says
 * "remote only" is owed from the bucket, unless it was written since (`overwritten`); afterwards it is lost.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { HydrationProgress, RestoreSource } from '../ports/hydration.js';
import { readSealedRecord, writeSealedRecord } from './sealed-record.js';

export const RESTORE_FILE = 'restore';

export interface RestoreRecord {
  readonly source: RestoreSource;
  readonly progress: HydrationProgress;
  /** Durably here: the bucket is not needed any more. */
  readonly complete: boolean;
}

export async function writeRestoreRecord(disk: Disk, checksums: Checksums, record: RestoreRecord): Promise<void> {
  const { source, progress, complete } = record;
  await writeSealedRecord(disk, checksums, RESTORE_FILE, { complete, progress, source });
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readRestoreRecord(disk: Disk, checksums: Checksums): Promise<RestoreRecord | undefined> {
  const body = await readSealedRecord(disk, checksums, RESTORE_FILE);
  if (body === undefined) return undefined;
  const { source, progress, complete } = body as RestoreRecord;
  if (source.sizeBytes % BLOCK_BYTES !== 0) {
    throw new GatewayError('format-unknown', `${RESTORE_FILE} names a size of ${source.sizeBytes} bytes`);
  }
  return { source, progress, complete };
}
