/**
 * The file `restore` of a volume that came from a bucket without its content (docs/formats.md, "Restore record"): where
 * the content is, how much of it is here, and whether it is complete. While it is not, a block whose checksum says
 * "remote only" is owed from the bucket, unless it was written since (`overwritten`); afterwards it is lost.
 *
 * JSON, replaced atomically and durably; `crc32c` is the CRC-32C, in hexadecimal, of the other fields as they stand.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { HydrationProgress, RestoreSource } from '../ports/hydration.js';

export const RESTORE_FILE = 'restore';
const FORMAT_VERSION = 1;

export interface RestoreRecord {
  readonly source: RestoreSource;
  readonly progress: HydrationProgress;
  /** Durably here: the bucket is not needed any more. */
  readonly complete: boolean;
}

export async function writeRestoreRecord(disk: Disk, checksums: Checksums, record: RestoreRecord): Promise<void> {
  const { source, progress, complete } = record;
  const body = { formatVersion: FORMAT_VERSION, complete, progress, source };
  const text = `${JSON.stringify({ ...body, crc32c: crcOf(body, checksums) }, null, 2)}\n`;
  await disk.writeSmall(RESTORE_FILE, Buffer.from(text));
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readRestoreRecord(disk: Disk, checksums: Checksums): Promise<RestoreRecord | undefined> {
  if (!(await disk.exists(RESTORE_FILE))) return undefined;
  const text = Buffer.from(await disk.readSmall(RESTORE_FILE)).toString('utf8');
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new GatewayError('format-unknown', `${RESTORE_FILE} is no JSON`, { cause });
  }
  const { crc32c, ...body } = fields;
  if (crc32c !== crcOf(body, checksums)) {
    throw new GatewayError('format-unknown', `${RESTORE_FILE} is damaged: its checksum differs`);
  }
  if (body.formatVersion !== FORMAT_VERSION) {
    throw new GatewayError(
      'format-newer',
      `${RESTORE_FILE} has format version ${String(body.formatVersion)}, this version knows ${FORMAT_VERSION}`,
    );
  }
  const record = body as unknown as RestoreRecord;
  if (record.source.sizeBytes % BLOCK_BYTES !== 0) {
    throw new GatewayError('format-unknown', `${RESTORE_FILE} names a size of ${record.source.sizeBytes} bytes`);
  }
  return { source: record.source, progress: record.progress, complete: record.complete };
}

function crcOf(body: object, checksums: Checksums): string {
  const bytes = Buffer.from(JSON.stringify(body));
  return checksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
}
