/**
 * The segment table: what a reader must know of a segment to fetch one frame of it with a single ranged GET. It is
 * sharded by segment number, 1024 numbers each; a shard is an immutable object (docs/formats.md, "Table shard"). Index:
 *
 *      0   8  table index: it holds numbers [1024 index, 1024 index + 1024)
 *      8   4  rows
 *     12  32  SHA-256 of the body
 *
 * Body, one row of 64 bytes per segment, ascending numbers:
 *
 *      0   8  segment number
 *      8   4  epoch
 *     12   4  length of the sealed index
 *     16   4  payload blocks
 *     20   1  compression: 0 none (frame ends follow from the payload blocks; else they will follow the rows)
 *     21   3  zero
 *     24   8  last LSN of its group
 *     32  32  salt
 *
 * How many of its blocks are live changes with every write and stands in the checkpoint root.
 */
import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter, equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Lsn } from '../base/units.js';
import type { SegmentKey, ShardKey } from './name.js';
import { SALT_BYTES, sealedObjectBytes, TAG_BYTES } from './seal-header.js';
import { contentHash } from './seal.js';
import type { FrameOpener, ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';
import { compressionNumbers } from './segment-index.js';
import type { OpenedSegment } from './segment-reader.js';
import { segmentIdentity } from './segment-writer.js';
import type { SealedSegment } from './segment-writer.js';

export const TABLE_SHARD_NUMBERS = 1024;
export const ROW_BYTES = 64;
const HASH_BYTES = 32;

export interface SegmentRow extends SegmentKey {
  readonly indexSealedBytes: number;
  readonly payloadBlocks: number;
  readonly lastLsn: Lsn;
  readonly salt: Uint8Array;
}

/** How a checkpoint names a shard of the table, and what changes of it. */
export interface TableShardReference extends ShardKey {
  readonly tableIndex: number;
  readonly link: Uint8Array;
  /** Live payload blocks of segment 1024 tableIndex + i; 1024 of them. */
  readonly live: Uint16Array;
}

/** The row of a segment that was just sealed, or opened. */
export function segmentRow(
  key: SegmentKey,
  segment: Pick<SealedSegment | OpenedSegment, 'header' | 'index'>,
): SegmentRow {
  return {
    epoch: key.epoch,
    number: key.number,
    indexSealedBytes: segment.header.indexSealedBytes,
    payloadBlocks: segment.index.payloadBlocks,
    lastLsn: segment.index.lastLsn,
    salt: segment.header.salt,
  };
}

/** Whether an object is the row's segment. The salt too: a number says which one it should be, the salt says that it is. */
export function isOfRow(row: SegmentRow, { key, header }: Pick<OpenedSegment, 'key' | 'header'>): boolean {
  return key.number === row.number && equalBytes(header.salt, row.salt);
}

/** Whether blocks live in a segment whose row is in this shard. */
export function livesIn({ live }: Pick<TableShardReference, 'live'>, { number }: Pick<SegmentRow, 'number'>): boolean {
  return (live[number % live.length] ?? 0) > 0;
}

/** Opens frames of a segment by its row, without its index (the row vouches for the clear header). */
export function framesOfRow(sealer: ObjectSealer, row: SegmentRow): FrameOpener {
  return sealer.frames(segmentIdentity(sealer, row), {
    kind: 'segment',
    indexSealedBytes: row.indexSealedBytes,
    objectBytes: sealedObjectBytes(row.indexSealedBytes - TAG_BYTES, row.payloadBlocks * BLOCK_BYTES),
    keyId: sealer.keyId,
    salt: row.salt,
  });
}

export function tableIndexOf(number: number): number {
  return Math.floor(number / TABLE_SHARD_NUMBERS);
}

/** `rows` ascend and belong to tableIndex. */
export function sealTableShard(
  sealer: ObjectSealer,
  key: ShardKey,
  tableIndex: number,
  rows: readonly SegmentRow[],
): SealedObject {
  const body = new ByteWriter(rows.length * ROW_BYTES);
  let previous = -1;
  for (const row of rows) {
    assert(row.number > previous && tableIndexOf(row.number) === tableIndex, 'table rows ascend inside their shard');
    previous = row.number;
    writeRow(body, row);
  }
  const plain = body.finish();
  const index = new ByteWriter(64);
  index.u64(tableIndex);
  index.u32(rows.length);
  index.bytes(contentHash(plain));
  return sealer.seal(tableShardIdentity(sealer, key), index.finish(), plain);
}

/** The rows; object-damaged when it is not the shard that the checkpoint names. */
export function openTableShard(
  sealer: ObjectSealer,
  reference: Omit<TableShardReference, 'live'>,
  bytes: Uint8Array,
): readonly SegmentRow[] {
  const identity = tableShardIdentity(sealer, reference);
  const { index, body, link } = sealer.openNamed(identity, bytes);
  const reader = new ByteReader(index, identity.name);
  const tableIndex = reader.u64();
  const count = reader.u32();
  const hash = reader.bytes(HASH_BYTES);
  reader.endOfZeros();
  if (tableIndex !== reference.tableIndex || !equalBytes(link, reference.link)) {
    reader.fail('it is not the shard that the checkpoint names');
  }
  if (!equalBytes(hash, contentHash(body))) reader.fail('its content differs from its index');
  if (count > TABLE_SHARD_NUMBERS || body.length !== count * ROW_BYTES) reader.fail('its rows are cut short');
  const rowReader = new ByteReader(body, identity.name);
  const rows: SegmentRow[] = [];
  let previous = -1;
  for (let at = 0; at < count; at++) {
    const row = readRow(rowReader, identity.name);
    if (row.number <= previous || tableIndexOf(row.number) !== tableIndex) reader.fail('its rows are out of order');
    previous = row.number;
    rows.push(row);
  }
  return rows;
}

export function writeRow(writer: ByteWriter, row: SegmentRow): void {
  writer.u64(row.number);
  writer.u32(row.epoch);
  writer.u32(row.indexSealedBytes);
  writer.u32(row.payloadBlocks);
  writer.u8(compressionNumbers.none);
  writer.zeros(3);
  writer.u64(row.lastLsn);
  writer.bytes(row.salt);
}

export function readRow(reader: ByteReader, name: string): SegmentRow {
  const number = reader.u64();
  const epoch = reader.u32();
  const indexSealedBytes = reader.u32();
  const payloadBlocks = reader.u32();
  if (reader.u32() !== compressionNumbers.none) {
    throw new GatewayError('format-newer', `${name}: segment ${number} is compressed`, { context: { object: name } });
  }
  const lastLsn = reader.u64();
  const salt = reader.bytes(SALT_BYTES).slice();
  return { epoch, number, indexSealedBytes, payloadBlocks, lastLsn, salt };
}

function tableShardIdentity(sealer: ObjectSealer, key: ShardKey): ObjectIdentity {
  const { epoch, number, part } = key;
  return { kind: 'tableShard', name: sealer.names.shard(key), epoch, number, part };
}
