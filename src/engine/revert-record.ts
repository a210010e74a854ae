/**
 * The file `revert` of a volume that is being brought back to a snapshot: while it is there, the volume is neither what it
 * was nor what it will be, and nobody is served (docs/formats.md, "Revert record").
 */
import type { Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import { synced } from './disk-outcome.js';
import { readSealedRecord, writeSealedRecord } from './sealed-record.js';

export const REVERT_FILE = 'revert';

export interface RevertRecord {
  readonly snapshot: string;
  /** Of the snapshot's record. */
  readonly snapshotLsn: Lsn;
  /** Of the volume then: what lies behind reads as zero afterwards. */
  readonly sizeBytes: number;
  /** Everything up to here was in the bucket before: what differs is found only by a bucket that is known that far. */
  readonly presentLsn: Lsn;
}

export async function writeRevertRecord(disk: Disk, checksums: Checksums, record: RevertRecord): Promise<void> {
  const { snapshot, snapshotLsn, sizeBytes, presentLsn } = record;
  await writeSealedRecord(disk, checksums, REVERT_FILE, { snapshot, snapshotLsn, sizeBytes, presentLsn });
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readRevertRecord(disk: Disk, checksums: Checksums): Promise<RevertRecord | undefined> {
  const body = await readSealedRecord(disk, checksums, REVERT_FILE);
  if (body === undefined) return undefined;
  const { snapshot, snapshotLsn, sizeBytes, presentLsn } = body as RevertRecord;
  return { snapshot, snapshotLsn, sizeBytes, presentLsn };
}

/** The volume is what the snapshot was, durably. */
export async function removeRevertRecord(disk: Disk): Promise<void> {
  await disk.remove(REVERT_FILE);
  await synced('fsync of the volume directory', disk.syncDirectory('.'));
}
