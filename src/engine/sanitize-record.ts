/**
 * The file `sanitize` of a volume that is being sanitized: while it is there nobody is served, and a start begins the
 * sanitize anew, unless it says that it failed (docs/formats.md, "Sanitize record").
 */
import { GatewayError } from '../base/errors.js';
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { SanitizeOrder } from '../ports/volume-sanitizer.js';
import { synced, written } from './disk-outcome.js';
import { readSealedRecord, writeSealedRecord } from './sealed-record.js';

export const SANITIZE_FILE = 'sanitize';

export interface SanitizeRecord {
  readonly order: SanitizeOrder;
  readonly failed: boolean;
}

/** Durable once it resolves. disk-full: what was there stays; any other failure is a DurabilityLostError. */
export async function writeSanitizeRecord(disk: Disk, checksums: Checksums, record: SanitizeRecord): Promise<void> {
  const { order, failed } = record;
  const fields = { ...order, pattern: Buffer.from(order.pattern).toString('hex'), failed };
  await written('write of the sanitize record', writeSealedRecord(disk, checksums, SANITIZE_FILE, fields));
}

/** undefined: there is none. format-unknown when it is damaged, format-newer. */
export async function readSanitizeRecord(disk: Disk, checksums: Checksums): Promise<SanitizeRecord | undefined> {
  const body = await readSealedRecord(disk, checksums, SANITIZE_FILE);
  if (body === undefined) return undefined;
  const { method, pattern, passes, inverts, mayExitFailure, failed } = body as Record<string, unknown>;
  const bytes = typeof pattern === 'string' ? Buffer.from(pattern, 'hex') : undefined;
  if (
    (method !== 'overwrite' && method !== 'blockErase') ||
    bytes === undefined ||
    bytes.length > LOGICAL_BLOCK_BYTES ||
    typeof passes !== 'number'
  ) {
    throw new GatewayError('format-unknown', `${SANITIZE_FILE} holds no sanitize that there could be`);
  }
  const order = {
    method,
    pattern: new Uint8Array(bytes),
    passes,
    inverts: inverts === true,
    mayExitFailure: mayExitFailure === true,
  } as const;
  return { order, failed: failed === true };
}

/** Everything is overwritten, or its failure was ended: durable before anybody is served. */
export async function removeSanitizeRecord(disk: Disk): Promise<void> {
  await written('removal of the sanitize record', disk.remove(SANITIZE_FILE));
  await synced('fsync of the volume directory', disk.syncDirectory('.'));
}
