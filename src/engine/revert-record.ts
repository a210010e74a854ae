/**
 * The file `revert` of a volume that is being brought back to a snapshot: while it is there, the volume is neither what it
 * was nor what it will be, and nobody is served (docs/formats.md, "Revert record").
 *
 * JSON, replaced atomically and durably; `crc32c` is the CRC-32C, in hexadecimal, of the other fields as they stand.
 */
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import { synced } from './disk-outcome.js';

export const REVERT_FILE = 'revert';
const FORMAT_VERSION = 1;

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
  const body = { formatVersion: FORMAT_VERSION, snapshot, snapshotLsn, sizeBytes, presentLsn };
  await disk.writeSmall(REVERT_FILE, Buffer.from(`${JSON.stringify({ ...body, crc32c: crcOf(body, checksums) })}\n`));
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readRevertRecord(disk: Disk, checksums: Checksums): Promise<RevertRecord | undefined> {
  if (!(await disk.exists(REVERT_FILE))) return undefined;
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(Buffer.from(await disk.readSmall(REVERT_FILE)).toString('utf8')) as Record<string, unknown>;
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    throw new GatewayError('format-unknown', `${REVERT_FILE} is no JSON`, { cause });
  }
  const { crc32c, ...body } = fields;
  if (crc32c !== crcOf(body, checksums))
    throw new GatewayError('format-unknown', `${REVERT_FILE} is damaged: its checksum differs`);
  if (body.formatVersion !== FORMAT_VERSION)
    throw new GatewayError('format-newer', `${REVERT_FILE} has format version ${String(body.formatVersion)}`);
  const { snapshot, snapshotLsn, sizeBytes, presentLsn } = body as unknown as RevertRecord;
  return { snapshot, snapshotLsn, sizeBytes, presentLsn };
}

/** The volume is what the snapshot was, durably. */
export async function removeRevertRecord(disk: Disk): Promise<void> {
  await disk.remove(REVERT_FILE);
  await synced('fsync of the volume directory', disk.syncDirectory('.'));
}

function crcOf(body: object, checksums: Checksums): string {
  const bytes = Buffer.from(JSON.stringify(body));
  return checksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
}
