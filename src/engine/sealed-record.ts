/**
 * Small files of a volume's directory that hold one record as JSON, replaced atomically and durably: `formatVersion`, and
 * `crc32c`, the CRC-32C, in hexadecimal, of the other fields as they stand (docs/formats.md).
 */
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';

const FORMAT_VERSION = 1;

export async function writeSealedRecord(disk: Disk, checksums: Checksums, file: string, fields: object): Promise<void> {
  const body = { formatVersion: FORMAT_VERSION, ...fields };
  const text = `${JSON.stringify({ ...body, crc32c: crcOf(body, checksums) }, null, 2)}\n`;
  await disk.writeSmall(file, Buffer.from(text));
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readSealedRecord(disk: Disk, checksums: Checksums, file: string): Promise<object | undefined> {
  if (!(await disk.exists(file))) return undefined;
  const text = Buffer.from(await disk.readSmall(file)).toString('utf8');
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(text) as Record<string, unknown>;
  } catch (cause) {
    throw new GatewayError('format-unknown', `${file} is no JSON`, { cause });
  }
  const { crc32c, ...body } = fields;
  if (crc32c !== crcOf(body, checksums)) {
    throw new GatewayError('format-unknown', `${file} is damaged: its checksum differs`);
  }
  if (body.formatVersion !== FORMAT_VERSION) {
    throw new GatewayError(
      'format-newer',
      `${file} has format version ${String(body.formatVersion)}, this version knows ${FORMAT_VERSION}`,
    );
  }
  return body;
}

function crcOf(body: object, checksums: Checksums): string {
  const bytes = Buffer.from(JSON.stringify(body));
  return checksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
}
