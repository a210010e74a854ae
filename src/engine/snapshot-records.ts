/**
 * The snapshots and ends of snapshots that a volume has recorded and the bucket may not have yet: found in its log, or made
 * since. While the volume is tracked the log lets go of records that no group has carried; this file keeps them.
 *
 *   offset size  file `snapshots` (little-endian), replaced as a whole
 *        0    8  magic "KGSNAP01"
 *        8    4  CRC-32C of all that follows
 *       12    4  records
 *       16   88  per record, ascending: LSN 8, LSN of the snapshot that ends 8 (0: a snapshot), wall time in milliseconds 8,
 *                length of its name 1, name 63
 *
 * Invariant: while tracked, a record that is not in a committed group is in the log or in the file, durably. What the file
 * has beyond that is of no account: nobody takes from it what the bucket has.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import { written } from './disk-outcome.js';
import { SNAPSHOT_NAME_BYTES_MAX, type SnapshotRecord } from './log-format.js';

const SNAPSHOTS_FILE = 'snapshots';
const MAGIC = 'KGSNAP01';
const HEAD_BYTES = 16;
const RECORD_BYTES = 25 + SNAPSHOT_NAME_BYTES_MAX;

export interface SnapshotRecordsOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly log: Log;
  /** In the log, oldest first. */
  readonly found: readonly SnapshotRecord[];
}

export class SnapshotRecords {
  private readonly options: SnapshotRecordsOptions;
  private records: readonly SnapshotRecord[];
  /** What the file has. */
  private readonly saved = new Set<Lsn>();

  constructor(options: SnapshotRecordsOptions) {
    this.options = options;
    this.records = options.found;
  }

  /** Oldest first. */
  get all(): readonly SnapshotRecord[] {
    return this.records;
  }

  add(record: SnapshotRecord): void {
    this.records = [...this.records, record];
  }

  /** The bucket has what was recorded up to here. */
  forget(throughLsn: Lsn): void {
    if ((this.records[0]?.lsn ?? Infinity) <= throughLsn)
      this.records = this.records.filter(({ lsn }) => lsn > throughLsn);
  }

  between(afterLsn: Lsn, beforeLsn: Lsn): SnapshotRecord[] {
    return this.records.filter(({ lsn }) => lsn > afterLsn && lsn < beforeLsn);
  }

  /** Makes the records between two places durable beside the log, before that lets go of them. */
  async save(afterLsn: Lsn, beforeLsn: Lsn): Promise<void> {
    const due = this.between(afterLsn, beforeLsn);
    if (due.every(({ lsn }) => this.saved.has(lsn))) return;
    const { disk, checksums } = this.options;
    await written('writing the snapshots that wait', disk.writeSmall(SNAPSHOTS_FILE, encode(due, checksums)));
    this.saved.clear();
    for (const { lsn } of due) this.saved.add(lsn);
  }

  /** After a start while tracked. */
  async load(): Promise<void> {
    const { disk, checksums, log } = this.options;
    if (!(await disk.exists(SNAPSHOTS_FILE))) return;
    try {
      const kept = decode(await disk.readSmall(SNAPSHOTS_FILE), checksums);
      const found = new Map([...kept, ...this.records].map((record) => [record.lsn, record]));
      this.records = [...found.values()].sort((left, right) => left.lsn - right.lsn);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.error(`snapshots that waited for the bucket are lost: ${error.message}`);
    }
  }
}

function encode(records: readonly SnapshotRecord[], checksums: Checksums): Uint8Array {
  const writer = new ByteWriter(HEAD_BYTES + RECORD_BYTES * records.length);
  writer.u32(records.length);
  for (const { lsn, snapshotLsn, wallMs, name } of records) {
    const text = Buffer.from(name);
    writer.u64(lsn);
    writer.u64(snapshotLsn);
    writer.u64(wallMs);
    writer.u8(text.length);
    writer.bytes(text);
    writer.zeros(SNAPSHOT_NAME_BYTES_MAX - text.length);
  }
  const body = writer.finish();
  const head = new ByteWriter(HEAD_BYTES);
  head.bytes(Buffer.from(MAGIC, 'latin1'));
  head.u32(checksums.crc32c(0, body, 0, body.length));
  return Buffer.concat([head.finish(), body]);
}

function decode(bytes: Uint8Array, checksums: Checksums): SnapshotRecord[] {
  const reader = new ByteReader(bytes, `file ${SNAPSHOTS_FILE}`);
  if (Buffer.from(reader.bytes(MAGIC.length)).toString('latin1') !== MAGIC) reader.fail('its magic is wrong');
  const crc = reader.u32();
  const at = bytes.length - reader.remainingBytes;
  if (checksums.crc32c(0, bytes, at, bytes.length) !== crc) reader.fail('its checksum is wrong');
  return Array.from({ length: reader.u32() }, () => {
    const [lsn, snapshotLsn, wallMs] = [reader.u64(), reader.u64(), reader.u64()];
    const length = reader.u8();
    const name = Buffer.from(reader.bytes(SNAPSHOT_NAME_BYTES_MAX).subarray(0, length)).toString('utf8');
    return { lsn, snapshotLsn, wallMs, name };
  });
}
