/**
 * The bytes of a log batch. These constants are disk format (docs/formats.md, "Log batch"); golden-byte tests hold them.
 *
 * A batch is whole 4096-byte pages: header pages, then payload blocks. It is valid as a whole or not at all.
 *
 *   offset size  header page (little-endian)
 *        0    4  magic "KGLB"
 *        4    2  format version, 1
 *        6    2  header pages
 *        8    8  log epoch
 *       16    8  LSN of the first record; record i has LSN first + i
 *       24    8  durable-through LSN: a sync that covered it had returned before this batch was made
 *       32    8  wall time, milliseconds since 1970 (informative)
 *       40    4  records
 *       44    4  payload blocks
 *       48    4  CRC of the batch before (the chain)
 *       52    8  reserved, 0
 *       60    4  CRC-32C of all header pages with this field 0: the chain value of the next batch
 *       64  32n  record descriptors
 *   64+32n   4p  log sum of each payload block (ports/checksum.ts); of a snapshot's batch, which has no other record: its
 *                name, UTF-8
 *
 *   offset size  record descriptor
 *        0    1  kind
 *        1    1  flags: 1 = keep allocated (zero)
 *        2    2  reserved, 0
 *        4    4  payload blocks
 *        8    8  first block; epoch: the epoch before; snapshot: 0, or the LSN of the snapshot that is deleted
 *       16    8  block count; resize: new size in bytes; snapshot: length of the name in bytes
 *       24    8  reserved, 0
 */
import { assert } from '../base/assert.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, roundUp, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { LogCursor } from '../ports/replication.js';

export const LOG_MAGIC = 0x424c_474b;
export const LOG_VERSION = 1;
export const BATCH_HEADER_BYTES = 64;
export const DESCRIPTOR_BYTES = 32;
const CRC_AT = 60;

/** Most header pages that a batch can have. */
export const HEADER_PAGES_MAX = headerPages(limits.batchRecordsMax, limits.batchPayloadBytesMax / BLOCK_BYTES);
/** Longest batch, in bytes. */
export const BATCH_BYTES_MAX = HEADER_PAGES_MAX * BLOCK_BYTES + limits.batchPayloadBytesMax;

export const recordKinds = { write: 1, trim: 2, zero: 3, resize: 4, snapshot: 5, epoch: 6, mark: 7 } as const;
export type RecordKind = keyof typeof recordKinds;
const kindNames = new Map<number, RecordKind>(
  Object.entries(recordKinds).map(([name, code]) => [code, name as RecordKind]),
);

export const FLAG_KEEP_ALLOCATED = 1;
/** A name stands in its batch's first header page. */
export const SNAPSHOT_NAME_BYTES_MAX = 63;

const decoder = new TextDecoder();

export interface LogRecord {
  readonly kind: RecordKind;
  readonly lsn: Lsn;
  readonly keepAllocated: boolean;
  readonly firstBlock: number;
  readonly blockCount: number;
  /** Byte position in the log file of a write's first block. */
  readonly payloadPosition: number;
  /** Index of its first log sum in the batch's sums. */
  readonly sumsStart: number;
  /** resize: the new size in bytes. */
  readonly sizeBytes: number;
  /** snapshot: its name. */
  readonly name: string;
  /** snapshot: 0, or the LSN of the snapshot that ends here. */
  readonly snapshotLsn: Lsn;
}

/** A snapshot, or the end of the one with LSN `snapshotLsn` (0: a snapshot). */
export interface SnapshotRecord {
  readonly lsn: Lsn;
  readonly name: string;
  readonly snapshotLsn: Lsn;
  readonly wallMs: number;
}

export interface LogBatch {
  readonly file: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly durableThrough: Lsn;
  readonly wallMs: number;
  readonly records: readonly LogRecord[];
  /** One log sum per payload block. */
  readonly sums: Uint32Array;
  readonly next: LogCursor;
}

/** How many header pages a batch of so many records and payload blocks has. */
export function headerPages(records: number, payloadBlocks: number): number {
  return roundUp(BATCH_HEADER_BYTES + records * DESCRIPTOR_BYTES + payloadBlocks * 4, BLOCK_BYTES) / BLOCK_BYTES;
}

/** A header being written; the view spans the longest header. */
export interface BatchHeader {
  readonly epoch: string;
  readonly firstLsn: Lsn;
  readonly durableThrough: Lsn;
  readonly wallMs: number;
  readonly records: number;
  readonly payloadBlocks: number;
  readonly chain: number;
}

export function putDescriptor(
  view: DataView,
  index: number,
  kind: number,
  flags: number,
  payloadBlocks: number,
  firstBlock: bigint | number,
  blockCount: number,
): void {
  const at = BATCH_HEADER_BYTES + index * DESCRIPTOR_BYTES;
  view.setUint32(at, kind | (flags << 8), true);
  view.setUint32(at + 4, payloadBlocks, true);
  if (typeof firstBlock === 'bigint') view.setBigUint64(at + 8, firstBlock, true);
  else putU64(view, at + 8, firstBlock);
  putU64(view, at + 16, blockCount);
  putU64(view, at + 24, 0);
}

/**
 * Writes the fixed fields, the sum table (or a snapshot's name) and the CRC of a batch whose descriptors stand in `view`
 * already. Returns the chain value for the next batch. The bytes behind that up to the page's end are set to 0.
 */
export function sealHeader(
  bytes: Uint8Array,
  view: DataView,
  header: BatchHeader,
  sums: Uint32Array,
  checksums: Checksums,
  name?: Uint8Array,
): { lengthBytes: number; chain: number } {
  const pages = headerPages(header.records, header.payloadBlocks);
  view.setUint32(0, LOG_MAGIC, true);
  view.setUint16(4, LOG_VERSION, true);
  view.setUint16(6, pages, true);
  view.setBigUint64(8, BigInt(`0x${header.epoch}`), true);
  putU64(view, 16, header.firstLsn);
  putU64(view, 24, header.durableThrough);
  putU64(view, 32, header.wallMs);
  view.setUint32(40, header.records, true);
  view.setUint32(44, header.payloadBlocks, true);
  view.setUint32(48, header.chain, true);
  putU64(view, 52, 0);
  view.setUint32(CRC_AT, 0, true);
  let at = BATCH_HEADER_BYTES + header.records * DESCRIPTOR_BYTES;
  for (let i = 0; i < header.payloadBlocks; i++, at += 4) view.setUint32(at, sums[i] ?? 0, true);
  if (name !== undefined) {
    bytes.set(name, at);
    at += name.length;
  }
  const lengthBytes = pages * BLOCK_BYTES;
  bytes.fill(0, at, lengthBytes);
  const chain = checksums.crc32c(0, bytes, 0, lengthBytes);
  view.setUint32(CRC_AT, chain, true);
  return { lengthBytes, chain };
}

/** What a header page says of itself, before anything is believed. */
export interface BatchClaim {
  readonly pages: number;
  readonly lengthBytes: number;
  readonly epoch: string;
  /** The epoch before, when the batch begins with an epoch record. */
  readonly epochBefore: string | undefined;
  readonly firstLsn: Lsn;
  readonly durableThrough: Lsn;
  readonly chain: number;
  readonly ownCrc: number;
}

/** How long the batch at `at` says it is, before its header is checked; undefined when it cannot be one. */
export function claimedBytes(bytes: Uint8Array, at: number): number | undefined {
  if (bytes.length - at < BLOCK_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, BLOCK_BYTES);
  if (view.getUint32(0, true) !== LOG_MAGIC) return undefined;
  const length = (view.getUint16(6, true) + view.getUint32(44, true)) * BLOCK_BYTES;
  return length <= BATCH_BYTES_MAX ? length : undefined;
}

/**
 * Checks one header by itself: magic, version, bounds, CRC. `bytes` from `at` on must hold the whole header, or
 * undefined is answered as for any other damage.
 */
export function readClaim(bytes: Uint8Array, at: number, checksums: Checksums): BatchClaim | undefined {
  if (bytes.length - at < BLOCK_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  if (view.getUint32(0, true) !== LOG_MAGIC || view.getUint16(4, true) !== LOG_VERSION) return undefined;
  const pages = view.getUint16(6, true);
  const records = view.getUint32(40, true);
  const payloadBlocks = view.getUint32(44, true);
  if (records === 0 || records > limits.batchRecordsMax) return undefined;
  if (payloadBlocks > limits.batchPayloadBytesMax / BLOCK_BYTES) return undefined;
  if (pages !== headerPages(records, payloadBlocks) || bytes.length - at < pages * BLOCK_BYTES) return undefined;
  const ownCrc = view.getUint32(CRC_AT, true);
  if (headerCrc(bytes, at, pages * BLOCK_BYTES, checksums) !== ownCrc) return undefined;
  const firstLsn = getU64(view, 16);
  const durableThrough = getU64(view, 24);
  if (firstLsn === undefined || durableThrough === undefined) return undefined;
  const isEpoch = view.getUint8(BATCH_HEADER_BYTES) === recordKinds.epoch;
  return {
    pages,
    lengthBytes: (pages + payloadBlocks) * BLOCK_BYTES,
    epoch: epochText(view.getBigUint64(8, true)),
    epochBefore: isEpoch ? epochText(view.getBigUint64(BATCH_HEADER_BYTES + 8, true)) : undefined,
    firstLsn,
    durableThrough,
    chain: view.getUint32(48, true),
    ownCrc,
  };
}

/** Whether a batch is the one that follows `cursor`: same epoch (or the record that begins the next), chained, no LSN skipped. */
export function follows(claim: BatchClaim, cursor: LogCursor): boolean {
  if (claim.chain !== cursor.chain) return false;
  if (claim.epochBefore !== undefined) return claim.epochBefore === cursor.epoch && claim.firstLsn >= cursor.lsn;
  return claim.epoch === cursor.epoch && claim.firstLsn === cursor.lsn;
}

/** Decodes a batch whose claim was read at `at` and follows its cursor; undefined when its descriptors contradict each other. */
export function decodeBatch(
  bytes: Uint8Array,
  at: number,
  claim: BatchClaim,
  file: number,
  offset: number,
): LogBatch | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
  const count = view.getUint32(40, true);
  const payloadBlocks = view.getUint32(44, true);
  const records: LogRecord[] = [];
  let payload = 0;
  for (let i = 0; i < count; i++) {
    const d = BATCH_HEADER_BYTES + i * DESCRIPTOR_BYTES;
    const kind = kindNames.get(view.getUint8(d));
    const blocks = view.getUint32(d + 4, true);
    const isEpoch = kind === 'epoch';
    const firstBlock = isEpoch ? 0 : getU64(view, d + 8);
    const amount = getU64(view, d + 16);
    if (kind === undefined || firstBlock === undefined || amount === undefined) return undefined;
    if (kind === 'write' ? blocks !== amount || blocks === 0 : blocks !== 0) return undefined;
    if (kind === 'snapshot' && (count !== 1 || amount > SNAPSHOT_NAME_BYTES_MAX)) return undefined;
    records.push({
      kind,
      lsn: claim.firstLsn + i,
      keepAllocated: (view.getUint8(d + 1) & FLAG_KEEP_ALLOCATED) !== 0,
      firstBlock: kind === 'snapshot' ? 0 : firstBlock,
      blockCount: kind === 'write' || kind === 'trim' || kind === 'zero' ? amount : 0,
      payloadPosition: offset + (claim.pages + payload) * BLOCK_BYTES,
      sumsStart: payload,
      sizeBytes: kind === 'resize' ? amount : 0,
      name: kind === 'snapshot' ? textAt(bytes, at + BATCH_HEADER_BYTES + DESCRIPTOR_BYTES, amount) : '',
      snapshotLsn: kind === 'snapshot' ? firstBlock : 0,
    });
    payload += blocks;
  }
  if (payload !== payloadBlocks) return undefined;
  const sums = new Uint32Array(payloadBlocks);
  const table = BATCH_HEADER_BYTES + count * DESCRIPTOR_BYTES;
  for (let i = 0; i < payloadBlocks; i++) sums[i] = view.getUint32(table + 4 * i, true);
  const lastLsn = claim.firstLsn + count - 1;
  return {
    file,
    offset,
    lengthBytes: claim.lengthBytes,
    firstLsn: claim.firstLsn,
    lastLsn,
    durableThrough: claim.durableThrough,
    wallMs: getU64(view, 32) ?? 0,
    records,
    sums,
    next: { file, offset: offset + claim.lengthBytes, lsn: lastLsn + 1, chain: claim.ownCrc, epoch: claim.epoch },
  };
}

function textAt(bytes: Uint8Array, at: number, lengthBytes: number): string {
  return decoder.decode(bytes.subarray(at, at + lengthBytes));
}

export function epochText(epoch: bigint): string {
  return epoch.toString(16).padStart(16, '0');
}

/** Stores a non-negative safe integer in 8 bytes. */
export function putU64(view: DataView, at: number, value: number): void {
  assert(Number.isSafeInteger(value) && value >= 0, 'a 64-bit field holds a non-negative safe integer');
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
}

/** Reads 8 bytes as a safe integer; undefined when it is none. */
export function getU64(view: DataView, at: number): number | undefined {
  const high = view.getUint32(at + 4, true);
  return high > 0x1f_ffff ? undefined : high * 0x1_0000_0000 + view.getUint32(at, true);
}

const zeroCrc = new Uint8Array(4);

function headerCrc(bytes: Uint8Array, at: number, length: number, checksums: Checksums): number {
  const before = checksums.crc32c(0, bytes, at, at + CRC_AT);
  return checksums.crc32c(checksums.crc32c(before, zeroCrc, 0, 4), bytes, at + CRC_AT + 4, at + length);
}
