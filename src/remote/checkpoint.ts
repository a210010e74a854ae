/**
 * A checkpoint root: the remote map at a recovery point. It names immutable shards, which it shares with roots before
 * it; small changes travel in a delta. docs/formats.md, "Checkpoint". Index:
 *
 *      0   8  volume size in bytes
 *      8   8  wall time in milliseconds when it was made
 *     16  64  recovery point: the group's end that it includes (segment-point.ts)
 *     80  24  six counts of 4 bytes: epochs, receipts, map shards, table shards, tail rows, delta extents
 *    104   4  snapshots
 *    108  32  SHA-256 of the body
 *    140  24  staged segments that wait (staged.ts): round 8, first segment number 8, payload blocks 8; else zeros
 *
 * Body, tables one after another:
 *
 *     48  per epoch: epoch 8, first segment number 8, link of that segment 32
 *     64  per receipt issued (segment-point.ts)
 *     60  per map shard: shard index 8, name (epoch 8, number 8, part 4), link 32
 *   2108  per table shard: table index 8, name 20, link 32, live blocks of its 1024 numbers 2 each
 *     66  per tail row, a segment not yet in a table shard: row 64 (shard-table.ts), live blocks 2
 *     18  per delta extent: first block 6, blocks 4, segment number 6 (0: zeros), payload index of the first block 2
 *    192  per snapshot, oldest first: its point 64 (segment-point.ts), LSN of its record 8, volume size in bytes 8, root: epoch
 *         8, link 32 (zeros: this very checkpoint), mapped blocks 8; length of its name 1, name 63
 *
 * Delta extents ascend, are disjoint, and override the shards; a block in neither reads as zero.
 */
import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter, equalBytes } from '../base/bytes.js';
import type { SegmentKey, ShardKey } from './name.js';
import { contentHash, LINK_BYTES } from './seal.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';
import { CHAIN_POINT_BYTES, readPoint, writePoint } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import type { MapShardReference } from './shard-map.js';
import { readRow, ROW_BYTES, TABLE_SHARD_NUMBERS, writeRow } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import type { Snapshot } from './snapshots.js';
import type { StagedRound } from './staged.js';

const INDEX_BYTES = 164;
const HASH_BYTES = 32;
const EPOCH_BYTES = 16 + LINK_BYTES;
const REFERENCE_BYTES = 28 + LINK_BYTES;
const LIVE_BYTES = 2;
const TABLE_REFERENCE_BYTES = REFERENCE_BYTES + TABLE_SHARD_NUMBERS * LIVE_BYTES;
const DELTA_BYTES = 18;
const SNAPSHOT_NAME_BYTES = 63;
const SNAPSHOT_BYTES = CHAIN_POINT_BYTES + 32 + LINK_BYTES + 1 + SNAPSHOT_NAME_BYTES;
/** Blocks in one delta extent at most (32 bits). */
export const DELTA_BLOCKS_MAX = 0xffff_ffff;

/** The first segment of an epoch: receipts of that epoch are proved from here on. */
export interface EpochStart {
  readonly epoch: number;
  readonly firstNumber: number;
  readonly link: Uint8Array;
}

/** Of the epochs that the valid history has segments of, the one that a segment number is of. */
export function epochOf(epochs: readonly EpochStart[], number: number): number {
  const epoch = epochs.findLast(({ firstNumber }) => firstNumber <= number)?.epoch;
  assert(epoch !== undefined, 'a segment is of an epoch');
  return epoch;
}

export interface TailRow {
  readonly row: SegmentRow;
  readonly liveBlocks: number;
}

/** Columns: a delta may have a hundred thousand extents. */
export interface MapDelta {
  readonly count: number;
  readonly firstBlock: Float64Array;
  readonly blockCount: Uint32Array;
  /** 0: the blocks read as zero. */
  readonly segment: Float64Array;
  readonly payload: Uint16Array;
}

export interface Checkpoint {
  readonly sizeBytes: number;
  readonly wallMs: number;
  readonly recoveryPoint: ChainPoint;
  readonly epochs: readonly EpochStart[];
  readonly receipts: readonly ChainPoint[];
  readonly mapShards: readonly MapShardReference[];
  readonly tableShards: readonly TableShardReference[];
  readonly tail: readonly TailRow[];
  readonly delta: MapDelta;
  /** Each has a root. The root of one whose point is this recovery point is this checkpoint: sealed with any link. */
  readonly snapshots: readonly Snapshot[];
  /** Of a round that is not applied. */
  readonly staged?: StagedRound;
}

export const emptyDelta: MapDelta = {
  count: 0,
  firstBlock: new Float64Array(0),
  blockCount: new Uint32Array(0),
  segment: new Float64Array(0),
  payload: new Uint16Array(0),
};

/** `key` is the recovery point's segment number, and the epoch that makes the checkpoint. */
export function sealCheckpoint(sealer: ObjectSealer, key: SegmentKey, checkpoint: Checkpoint): SealedObject {
  const body = encodeBody(key, checkpoint);
  const writer = new ByteWriter(INDEX_BYTES);
  writer.u64(checkpoint.sizeBytes);
  writer.u64(checkpoint.wallMs);
  writePoint(writer, checkpoint.recoveryPoint);
  writer.u32(checkpoint.epochs.length);
  writer.u32(checkpoint.receipts.length);
  writer.u32(checkpoint.mapShards.length);
  writer.u32(checkpoint.tableShards.length);
  writer.u32(checkpoint.tail.length);
  writer.u32(checkpoint.delta.count);
  writer.u32(checkpoint.snapshots.length);
  writer.bytes(contentHash(body));
  const { round, firstNumber, blocks } = checkpoint.staged ?? { round: 0, firstNumber: 0, blocks: 0 };
  for (const field of [round, firstNumber, blocks]) writer.u64(field);
  return sealer.seal(checkpointIdentity(sealer, key), writer.finish(), body);
}

/** object-damaged. */
export function openCheckpoint(sealer: ObjectSealer, key: SegmentKey, bytes: Uint8Array): Checkpoint {
  const identity = checkpointIdentity(sealer, key);
  const { index, body, link } = sealer.openWhole(identity, bytes);
  const reader = new ByteReader(index, identity.name);
  const sizeBytes = reader.u64();
  const wallMs = reader.u64();
  const recoveryPoint = readPoint(reader);
  const counts = Array.from({ length: 7 }, () => reader.u32());
  const hash = reader.bytes(HASH_BYTES);
  const waits = { round: reader.u64(), firstNumber: reader.u64(), blocks: reader.u64() };
  const staged = waits.round === 0 ? {} : { staged: waits };
  reader.endOfZeros();
  if (!equalBytes(hash, contentHash(body))) reader.fail('its content differs from its index');
  const tables = decodeBody(new ByteReader(body, identity.name), identity.name, counts, { ...key, link });
  return { sizeBytes, wallMs, recoveryPoint, ...staged, ...tables };
}

function encodeBody(key: SegmentKey, checkpoint: Checkpoint): Uint8Array {
  const writer = new ByteWriter(64 * 1024);
  for (const { epoch, firstNumber, link } of checkpoint.epochs) {
    writer.u64(epoch);
    writer.u64(firstNumber);
    writer.bytes(link);
  }
  for (const receipt of checkpoint.receipts) writePoint(writer, receipt);
  for (const shard of checkpoint.mapShards) writeReference(writer, shard.shardIndex, shard, shard.link);
  for (const shard of checkpoint.tableShards) {
    assert(shard.live.length === TABLE_SHARD_NUMBERS, 'a table shard has one live count per number');
    writeReference(writer, shard.tableIndex, shard, shard.link);
    for (const live of shard.live) writer.u16(live);
  }
  for (const { row, liveBlocks } of checkpoint.tail) {
    writeRow(writer, row);
    writer.u16(liveBlocks);
  }
  const { delta } = checkpoint;
  for (let at = 0; at < delta.count; at++) {
    writer.u48(delta.firstBlock[at] ?? 0);
    writer.u32(delta.blockCount[at] ?? 0);
    writer.u48(delta.segment[at] ?? 0);
    writer.u16(delta.payload[at] ?? 0);
  }
  for (const snapshot of checkpoint.snapshots) writeSnapshot(writer, key, snapshot);
  return writer.finish();
}

type Tables = Pick<Checkpoint, 'epochs' | 'receipts' | 'mapShards' | 'tableShards' | 'tail' | 'delta' | 'snapshots'>;
/** The checkpoint that is read. */
type Own = SegmentKey & { readonly link: Uint8Array };

function decodeBody(reader: ByteReader, name: string, counts: readonly number[], own: Own): Tables {
  const sizes = [
    EPOCH_BYTES,
    CHAIN_POINT_BYTES,
    REFERENCE_BYTES,
    TABLE_REFERENCE_BYTES,
    ROW_BYTES + LIVE_BYTES,
    DELTA_BYTES,
    SNAPSHOT_BYTES,
  ];
  const expected = sizes.reduce((sum, size, at) => sum + size * (counts[at] ?? 0), 0);
  if (expected !== reader.remainingBytes)
    reader.fail(`its tables have ${reader.remainingBytes} bytes, not ${expected}`);
  const [epochs = 0, receipts = 0, mapShards = 0, tableShards = 0, tail = 0, delta = 0, snapshots = 0] = counts;
  return {
    epochs: repeat(epochs, () => ({
      epoch: reader.u64(),
      firstNumber: reader.u64(),
      link: reader.bytes(LINK_BYTES).slice(),
    })),
    receipts: repeat(receipts, () => readPoint(reader)),
    mapShards: repeat(mapShards, () => ({ shardIndex: reader.u64(), ...readReference(reader) })),
    tableShards: repeat(tableShards, () => {
      const tableIndex = reader.u64();
      const reference = readReference(reader);
      const live = new Uint16Array(TABLE_SHARD_NUMBERS);
      for (let at = 0; at < live.length; at++) live[at] = reader.u16();
      return { tableIndex, ...reference, live };
    }),
    tail: repeat(tail, () => ({ row: readRow(reader, name), liveBlocks: reader.u16() })),
    delta: readDelta(reader, delta),
    snapshots: repeat(snapshots, () => readSnapshot(reader, own)),
  };
}

function isOwnRoot(own: SegmentKey, { point, root }: Snapshot): boolean {
  return root?.epoch === own.epoch && point.number === own.number;
}

function writeSnapshot(writer: ByteWriter, own: SegmentKey, snapshot: Snapshot): void {
  const { point, lsn, sizeBytes, root } = snapshot;
  const name = new TextEncoder().encode(snapshot.name);
  assert(root !== undefined, 'a checkpoint names snapshots whose roots are written');
  assert(name.length > 0 && name.length <= SNAPSHOT_NAME_BYTES, 'a snapshot has a name of at most 63 bytes');
  writePoint(writer, point);
  writer.u64(lsn);
  writer.u64(sizeBytes);
  writer.u64(root.epoch);
  if (isOwnRoot(own, snapshot)) writer.zeros(LINK_BYTES);
  else writer.bytes(root.link);
  writer.u64(root.mappedBlocks);
  writer.u8(name.length);
  writer.bytes(name);
  writer.zeros(SNAPSHOT_NAME_BYTES - name.length);
}

function readSnapshot(reader: ByteReader, own: Own): Snapshot {
  const point = readPoint(reader);
  const lsn = reader.u64();
  const sizeBytes = reader.u64();
  const root = { epoch: reader.u64(), link: reader.bytes(LINK_BYTES).slice(), mappedBlocks: reader.u64() };
  const nameBytes = reader.u8();
  const name = reader.bytes(SNAPSHOT_NAME_BYTES);
  if (nameBytes === 0 || nameBytes > SNAPSHOT_NAME_BYTES) reader.fail('a snapshot has no name');
  const snapshot = { name: new TextDecoder().decode(name.subarray(0, nameBytes)), lsn, point, sizeBytes, root };
  return isOwnRoot(own, snapshot) ? { ...snapshot, root: { ...root, link: own.link } } : snapshot;
}

function readDelta(reader: ByteReader, count: number): MapDelta {
  const delta = {
    count,
    firstBlock: new Float64Array(count),
    blockCount: new Uint32Array(count),
    segment: new Float64Array(count),
    payload: new Uint16Array(count),
  };
  let end = 0;
  for (let at = 0; at < count; at++) {
    const first = reader.u48();
    const blocks = reader.u32();
    if (first < end || blocks === 0) reader.fail('its delta is out of order');
    delta.firstBlock[at] = first;
    delta.blockCount[at] = blocks;
    delta.segment[at] = reader.u48();
    delta.payload[at] = reader.u16();
    end = first + blocks;
  }
  return delta;
}

function writeReference(writer: ByteWriter, index: number, key: ShardKey, link: Uint8Array): void {
  writer.u64(index);
  writer.u64(key.epoch);
  writer.u64(key.number);
  writer.u32(key.part);
  writer.bytes(link);
}

function readReference(reader: ByteReader): ShardKey & { readonly link: Uint8Array } {
  return { epoch: reader.u64(), number: reader.u64(), part: reader.u32(), link: reader.bytes(LINK_BYTES).slice() };
}

function repeat<Item>(count: number, read: () => Item): Item[] {
  return Array.from({ length: count }, read);
}

function checkpointIdentity(sealer: ObjectSealer, key: SegmentKey): ObjectIdentity {
  return { kind: 'checkpoint', name: sealer.names.checkpoint(key), epoch: key.epoch, number: key.number, part: 0 };
}
