/**
 * The sealed index of a segment (docs/formats.md, "Segment"):
 *
 *      0   1  role: 0 data, 1 staged, 2 apply, 3 compaction
 *      1   1  flags: 1 the group's last segment, 2 a takeover follows
 *      2   1  compression: 0 none
 *      3   1  zero
 *      4   4  payload blocks
 *      8   8  group id
 *     16   8  group's first segment number
 *     24   8  group's first LSN
 *     32   8  group's last LSN
 *     40   8  wall time in milliseconds of the group's last LSN
 *     48   8  volume size in bytes after the group
 *     56  32  link of the segment before (of the fence's last group for an epoch's first; zeros for the very first)
 *     88   8  epoch of the highest segment that its owner knew to be committed, 0: none
 *     96   8  number of that segment
 *    104   8  round that a staged or apply segment is of; else 0
 *    112   4  extents; 116 4 zero extents; 120 4 events; 124 4 frames
 *    128  80  takeover (segment-fence.ts), when flagged
 *          8  per extent: first block 6, blocks 2; payload follows in the order of extents
 *         16  per zero extent: first block 8, blocks 8
 *    13 + n   per event (segment-event.ts): kind 1, LSN 8, length 4, content
 *          4  per frame: where it ends, in bytes behind the index
 *          4  per payload block: its block sum (ports/checksum.ts)
 *             compaction: where the blocks were before (segment-moves.ts)
 *          …  zeros, so that the length depends on the payload's length alone (P8), whatever the role, as long as zero
 *             extents, events and sources are few
 *
 * A compaction or staged group changes nothing that can be read: it has no LSN of its own (its last LSN is the one before
 * its first), and the wall time and size of the group before it. What is staged takes effect with the apply group of its
 * round (staged.ts).
 *
 * Invariant: within one group no block stands twice, in extents or zero extents: order among them has no meaning.
 */
import { assert } from '../base/assert.js';
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { SegmentKey } from './name.js';
import { LINK_BYTES } from './seal.js';
import { EVENT_BYTES_MIN, readEvent, writeEvent } from './segment-event.js';
import type { SegmentEvent } from './segment-event.js';
import { FENCE_BYTES, readFence, writeFence } from './segment-fence.js';
import type { Fence } from './segment-fence.js';
import { readMoves, writeMoves } from './segment-moves.js';
import type { SegmentMoves } from './segment-moves.js';

export const roleNumbers = { data: 0, staged: 1, apply: 2, compaction: 3 } as const;
export const compressionNumbers = { none: 0 } as const;

export type SegmentRole = keyof typeof roleNumbers;

/** What a segment says about its group and its place in the chain. */
export interface SegmentFacts {
  readonly role: SegmentRole;
  readonly groupId: number;
  readonly groupFirstNumber: number;
  readonly groupEnd: boolean;
  readonly firstLsn: Lsn;
  readonly lastLsn: Lsn;
  readonly wallMs: number;
  readonly sizeBytes: number;
  readonly previousLink: Uint8Array;
  /** The highest segment that the owner knew to be committed; epoch 0: none. */
  readonly committed: SegmentKey;
  /** A random number; of a staged or apply segment, and only of one. */
  readonly round?: number;
  /** What a fence would have said; in an epoch's first segment where the store cannot fence. */
  readonly takeover?: Fence;
}

/** Columns, not objects: a segment of small writes has thousands of extents. */
export interface SegmentExtents {
  readonly count: number;
  readonly firstBlock: Float64Array;
  readonly blockCount: Uint32Array;
  /** Payload index of each extent's first block. */
  readonly payload: Uint32Array;
}

export interface ZeroExtents {
  readonly count: number;
  readonly firstBlock: Float64Array;
  readonly blockCount: Float64Array;
}

export interface SegmentIndex extends SegmentFacts {
  readonly payloadBlocks: number;
  readonly extents: SegmentExtents;
  readonly zeros: ZeroExtents;
  readonly events: readonly SegmentEvent[];
  /** Where each frame ends, in bytes behind the index. */
  readonly frameEnds: Uint32Array;
  /** Block sum of each payload block. */
  readonly sums: Uint32Array;
  /** Of a compaction segment, and only of one. */
  readonly moves?: SegmentMoves;
}

const FIXED_BYTES = 128;
const EXTENT_BYTES = 8;
const ZERO_EXTENT_BYTES = 16;
const FRAME_BYTES = 4;
const SUM_BYTES = 4;
/** Room that every index has for what a compaction segment says beside its blocks: its sources, and 2 bytes a block. */
const SOURCES_BYTES = 512;
const MOVE_BYTES = 2;
/** Blocks in one extent at most: 16 bits. */
export const EXTENT_BLOCKS_MAX = 0xffff;

const roles: ReadonlyMap<number, SegmentRole> = new Map([
  [roleNumbers.data, 'data'],
  [roleNumbers.staged, 'staged'],
  [roleNumbers.apply, 'apply'],
  [roleNumbers.compaction, 'compaction'],
]);

/** Such a group changes nothing that can be read. */
export function isWithoutEffect(role: SegmentRole): boolean {
  return role === 'compaction' || role === 'staged';
}

/** Such a segment belongs to a round. */
function isOfRound(role: SegmentRole): boolean {
  return role === 'staged' || role === 'apply';
}

const FLAG_GROUP_END = 1;
const FLAG_TAKEOVER = 2;

/** The plain index, padded. */
export function encodeSegmentIndex(index: SegmentIndex): Uint8Array<ArrayBuffer> {
  const { takeover, moves, round = 0 } = index;
  assert(isOfRound(index.role) === round > 0, 'staged and apply segments, and no others, are of a round');
  assert((index.role === 'compaction') === (moves !== undefined), 'compaction segments, and no others, move blocks');
  const writer = new ByteWriter(FIXED_BYTES + FENCE_BYTES + index.payloadBlocks * (EXTENT_BYTES + SUM_BYTES) + 4096);
  writer.u8(roleNumbers[index.role]);
  writer.u8((index.groupEnd ? FLAG_GROUP_END : 0) | (takeover === undefined ? 0 : FLAG_TAKEOVER));
  writer.u8(compressionNumbers.none);
  writer.u8(0);
  writer.u32(index.payloadBlocks);
  writer.u64(index.groupId);
  writer.u64(index.groupFirstNumber);
  writer.u64(index.firstLsn);
  writer.u64(index.lastLsn);
  writer.u64(index.wallMs);
  writer.u64(index.sizeBytes);
  writer.bytes(index.previousLink);
  writer.u64(index.committed.epoch);
  writer.u64(index.committed.number);
  writer.u64(round);
  writer.u32(index.extents.count);
  writer.u32(index.zeros.count);
  writer.u32(index.events.length);
  writer.u32(index.frameEnds.length);
  if (takeover !== undefined) writeFence(writer, takeover);
  for (let at = 0; at < index.extents.count; at++) {
    writer.u48(index.extents.firstBlock[at] ?? 0);
    writer.u16(index.extents.blockCount[at] ?? 0);
  }
  for (let at = 0; at < index.zeros.count; at++) {
    writer.u64(index.zeros.firstBlock[at] ?? 0);
    writer.u64(index.zeros.blockCount[at] ?? 0);
  }
  for (const event of index.events) writeEvent(writer, event);
  for (const end of index.frameEnds) writer.u32(end);
  for (const sum of index.sums) writer.u32(sum);
  if (moves !== undefined) writeMoves(writer, moves);
  const blockBytes = EXTENT_BYTES + SUM_BYTES + MOVE_BYTES;
  const evenBytes =
    FIXED_BYTES + SOURCES_BYTES + index.payloadBlocks * blockBytes + index.frameEnds.length * FRAME_BYTES;
  if (writer.lengthBytes < evenBytes) writer.zeros(evenBytes - writer.lengthBytes);
  return writer.finish();
}

/** `name` is the object's, for messages. object-damaged; format-newer for roles, events, compressions to come. */
export function decodeSegmentIndex(name: string, plain: Uint8Array): SegmentIndex {
  const reader = new ByteReader(plain, name);
  const roleNumber = reader.u8();
  const role = roles.get(roleNumber);
  if (role === undefined) throw newer(name, `a segment with role ${roleNumber}`);
  const flags = reader.u8();
  if ((flags & ~(FLAG_GROUP_END | FLAG_TAKEOVER)) !== 0) throw newer(name, `segment flags ${flags}`);
  const compression = reader.u8();
  if (compression !== compressionNumbers.none) throw newer(name, `compression ${compression}`);
  if (reader.u8() !== 0) throw newer(name, 'a reserved byte that is set');
  const payloadBlocks = reader.u32();
  const facts = {
    role,
    groupId: reader.u64(),
    groupFirstNumber: reader.u64(),
    groupEnd: (flags & FLAG_GROUP_END) !== 0,
    firstLsn: reader.u64(),
    lastLsn: reader.u64(),
    wallMs: reader.u64(),
    sizeBytes: reader.u64(),
    previousLink: reader.bytes(LINK_BYTES).slice(),
    committed: { epoch: reader.u64(), number: reader.u64() },
  };
  const round = reader.u64();
  if (isOfRound(role) !== round > 0) reader.fail('its role and its round disagree');
  const extentCount = reader.count(EXTENT_BYTES);
  const zeroCount = reader.count(ZERO_EXTENT_BYTES);
  const eventCount = reader.count(EVENT_BYTES_MIN);
  const frameCount = reader.count(FRAME_BYTES);
  const takeover = (flags & FLAG_TAKEOVER) === 0 ? {} : { takeover: readFence(reader) };
  const extents = readExtents(reader, extentCount, payloadBlocks);
  const zeros = readZeroExtents(reader, zeroCount);
  const events: SegmentEvent[] = [];
  for (let at = 0; at < eventCount; at++) events.push(readEvent(reader, facts.lastLsn, name));
  const frameEnds = readColumn(reader, frameCount);
  const sums = readColumn(reader, payloadBlocks);
  const moves = role === 'compaction' ? { moves: readMoves(reader, payloadBlocks) } : {};
  if (role === 'compaction' && zeroCount + eventCount > 0) reader.fail('a compaction segment changes what is read');
  if (role === 'staged' && eventCount > 0) reader.fail('a staged segment has an event');
  if (role === 'apply' && extentCount + zeroCount > 0) reader.fail('an apply segment has blocks of its own');
  reader.endOfZeros();
  const ofRound = round === 0 ? {} : { round };
  return { ...facts, ...ofRound, ...takeover, payloadBlocks, extents, zeros, events, frameEnds, sums, ...moves };
}

function readExtents(reader: ByteReader, count: number, payloadBlocks: number): SegmentExtents {
  const firstBlock = new Float64Array(count);
  const blockCount = new Uint32Array(count);
  const payload = new Uint32Array(count);
  let next = 0;
  for (let at = 0; at < count; at++) {
    firstBlock[at] = reader.u48();
    const blocks = reader.u16();
    if (blocks === 0) reader.fail('an extent is empty');
    blockCount[at] = blocks;
    payload[at] = next;
    next += blocks;
  }
  if (next !== payloadBlocks) reader.fail(`its extents hold ${next} blocks instead of ${payloadBlocks}`);
  return { count, firstBlock, blockCount, payload };
}

function readZeroExtents(reader: ByteReader, count: number): ZeroExtents {
  const firstBlock = new Float64Array(count);
  const blockCount = new Float64Array(count);
  for (let at = 0; at < count; at++) {
    firstBlock[at] = reader.u64();
    blockCount[at] = reader.u64();
    if (blockCount[at] === 0) reader.fail('a zero extent is empty');
  }
  return { count, firstBlock, blockCount };
}

function readColumn(reader: ByteReader, count: number): Uint32Array {
  if (count * 4 > reader.remainingBytes) reader.fail('a table is cut short');
  const column = new Uint32Array(count);
  for (let at = 0; at < count; at++) column[at] = reader.u32();
  return column;
}

function newer(name: string, what: string): GatewayError {
  return new GatewayError('format-newer', `${name}: ${what}, which this version does not know`, {
    context: { object: name },
  });
}
