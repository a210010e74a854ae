/**
 * The two alternating superblocks: super.0 and super.1, 4096 bytes each, the newer generation counts.
 *
 *   offset size  (little-endian)
 *        0    8  magic "KGSUPER1"
 *        8    4  format version, 1
 *       12    4  CRC-32C of the 4096 bytes with this field 0
 *       16    8  generation
 *       24   16  volume uuid
 *       40   16  boot id
 *       56    8  size in bytes
 *       64   40  tail: the log cursor that recovery begins at
 *      104   40  destage cursor: the batch there is the first that is not in the image
 *      144   40  replication cursor
 *      184    8  durable LSN
 *      192    8  destaged LSN
 *      200    8  replicated LSN
 *      208    8  remote epoch
 *      216    8  segment number
 *      224   32  chain head (link of the newest committed segment)
 *      256    8  map applied through segment number
 *      264    4  flags: 1 clean, 2 fenced
 *      268    4  what replication goes by: 0 the log (draining), 1 the dirty map (tracking)
 *      272    8  round whose blocks stand in `frozen` (frozen-file.ts), 0: none
 *      280       zeros
 *
 *   cursor: 8 file, 8 offset, 8 LSN, 8 epoch, 4 chain, 4 zero
 *
 * Invariant (P4): a log file may go only when both superblocks' tails lie behind it, so that either one alone suffices.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type Lsn } from '../base/units.js';
import { uuidBytes, uuidText } from '../base/uuid.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import type { LogCursor, ReplicationState } from '../ports/replication.js';
import { synced, written } from './disk-outcome.js';
import { epochText, getU64, putU64 } from './log-format.js';

/** Of a cursor, here and elsewhere. */
export const CURSOR_BYTES = 40;
const MAGIC = 'KGSUPER1';
export const SUPERBLOCK_VERSION = 1;
const CRC_AT = 12;
const FLAG_CLEAN = 1;
const FLAG_FENCED = 2;
const KEEPINGS = ['draining', 'tracking'] as const;

export interface Superblock {
  readonly generation: number;
  readonly volumeUuid: string;
  readonly bootId: string;
  readonly sizeBytes: number;
  readonly tail: LogCursor;
  readonly destageCursor: LogCursor;
  readonly durableLsn: Lsn;
  readonly destagedLsn: Lsn;
  readonly replication: ReplicationState;
  /** That goes on after a restart; 0: none does. */
  readonly round: number;
  readonly clean: boolean;
}

export function encodeSuperblock(value: Superblock, checksums: Checksums): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(Buffer.from(MAGIC, 'latin1'), 0);
  view.setUint32(8, SUPERBLOCK_VERSION, true);
  putU64(view, 16, value.generation);
  bytes.set(uuidBytes(value.volumeUuid), 24);
  bytes.set(uuidBytes(value.bootId), 40);
  putU64(view, 56, value.sizeBytes);
  putCursor(view, 64, value.tail);
  putCursor(view, 104, value.destageCursor);
  putCursor(view, 144, value.replication.cursor);
  putU64(view, 184, value.durableLsn);
  putU64(view, 192, value.destagedLsn);
  putU64(view, 200, value.replication.replicatedLsn);
  putU64(view, 208, value.replication.remoteEpoch);
  putU64(view, 216, value.replication.segmentNumber);
  bytes.set(value.replication.chainHead, 224);
  putU64(view, 256, value.replication.mapAppliedThrough);
  view.setUint32(264, (value.clean ? FLAG_CLEAN : 0) | (value.replication.fenced ? FLAG_FENCED : 0), true);
  view.setUint32(268, KEEPINGS.indexOf(value.replication.keeping), true);
  putU64(view, 272, value.round);
  view.setUint32(CRC_AT, checksums.crc32c(0, bytes, 0, BLOCK_BYTES), true);
  return bytes;
}

/** undefined: damaged or empty. Throws format-newer for a version that this program does not know. */
export function decodeSuperblock(bytes: Uint8Array, checksums: Checksums, path: string): Superblock | undefined {
  if (bytes.length < BLOCK_BYTES || Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== MAGIC) return undefined;
  const copy = bytes.slice(0, BLOCK_BYTES);
  const view = new DataView(copy.buffer);
  const crc = view.getUint32(CRC_AT, true);
  view.setUint32(CRC_AT, 0, true);
  if (checksums.crc32c(0, copy, 0, BLOCK_BYTES) !== crc) return undefined;
  const version = view.getUint32(8, true);
  if (version !== SUPERBLOCK_VERSION) {
    throw new GatewayError(
      'format-newer',
      `${path} has format version ${version}, this version knows ${SUPERBLOCK_VERSION}`,
    );
  }
  const u64 = (at: number): number => {
    const value = getU64(view, at);
    if (value === undefined)
      throw new GatewayError('format-unknown', `${path} holds a number beyond 2^53 at byte ${at}`);
    return value;
  };
  const cursor = (at: number): LogCursor => {
    const value = getCursor(view, at);
    if (value === undefined)
      throw new GatewayError('format-unknown', `${path} holds a number beyond 2^53 at byte ${at}`);
    return value;
  };
  const flags = view.getUint32(264, true);
  const keeping = KEEPINGS[view.getUint32(268, true)];
  if (keeping === undefined)
    throw new GatewayError('format-newer', `${path} has a replication mode that this version does not know`);
  return {
    generation: u64(16),
    volumeUuid: uuidText(copy.subarray(24, 40)),
    bootId: uuidText(copy.subarray(40, 56)),
    sizeBytes: u64(56),
    tail: cursor(64),
    destageCursor: cursor(104),
    durableLsn: u64(184),
    destagedLsn: u64(192),
    replication: {
      keeping,
      replicatedLsn: u64(200),
      cursor: cursor(144),
      remoteEpoch: u64(208),
      segmentNumber: u64(216),
      chainHead: copy.slice(224, 256),
      mapAppliedThrough: u64(256),
      fenced: (flags & FLAG_FENCED) !== 0,
    },
    round: u64(272),
    clean: (flags & FLAG_CLEAN) !== 0,
  };
}

/** Writes generations in turn to super.0 and super.1, each made durable before the next. */
export class SuperblockWriter {
  private readonly files: readonly [DiskFile, DiskFile];
  private readonly checksums: Checksums;
  private generation: number;
  /** The log file of each superblock's tail; recycling looks at the smaller. */
  private readonly tails: [number, number];
  /** The newest committed segment that each superblock knows. */
  private readonly segments: [number, number];

  private constructor(
    files: readonly [DiskFile, DiskFile],
    checksums: Checksums,
    generation: number,
    tails: [number, number],
    segments: [number, number],
  ) {
    this.files = files;
    this.checksums = checksums;
    this.generation = generation;
    this.tails = tails;
    this.segments = segments;
  }

  /** Opens both and finds the newest valid one; superblock-damaged when there is none. */
  static async open(disk: Disk, checksums: Checksums): Promise<{ writer: SuperblockWriter; newest: Superblock }> {
    const files = [
      await disk.open('super.0', { mode: 'write', lane: 'super' }),
      await disk.open('super.1', { mode: 'write', lane: 'super' }),
    ] as const;
    const found: (Superblock | undefined)[] = [];
    for (const file of files) {
      const bytes = new Uint8Array(BLOCK_BYTES);
      const length = await readOrNothing(file, bytes);
      found.push(decodeSuperblock(bytes.subarray(0, length), checksums, file.path));
    }
    const [a, b] = found;
    const newest = a !== undefined && (b === undefined || a.generation > b.generation) ? a : b;
    if (newest === undefined) {
      await Promise.all(files.map((file) => file.close()));
      throw new GatewayError('superblock-damaged', 'neither super.0 nor super.1 can be read');
    }
    // It may be in the page cache only, left by a process that was killed before its sync, or whose sync failed: before
    // the other slot is written it must be on the disk, and as long as it is not, the other one suffices. Where the other
    // one is damaged, this one was on the disk before the write that tore it began, and writing over it would risk the last.
    const slot = newest === a ? 0 : 1;
    if (found[1 - slot] !== undefined)
      await written('writing a superblock', files[slot].write([encodeSuperblock(newest, checksums)], 0));
    await synced('fdatasync of a superblock', files[slot].sync());
    // The slot of a damaged superblock is written first, and until then it holds no log file back: its tail counts as the newest one's.
    const tails: [number, number] = [a?.tail.file ?? newest.tail.file, b?.tail.file ?? newest.tail.file];
    const numberOf = (found: Superblock = newest): number => found.replication.segmentNumber;
    const segments: [number, number] = [numberOf(a), numberOf(b)];
    const writer = new SuperblockWriter(files, checksums, newest.generation, tails, segments);
    return { writer, newest };
  }

  /** Makes the next generation durable; calls must not overlap. */
  async write(value: Omit<Superblock, 'generation'>): Promise<void> {
    const generation = this.generation + 1;
    const slot = generation % 2 === 0 ? 0 : 1;
    const bytes = encodeSuperblock({ ...value, generation }, this.checksums);
    await written('writing a superblock', this.files[slot].write([bytes], 0));
    await synced('fdatasync of a superblock', this.files[slot].sync());
    this.generation = generation;
    this.tails[slot] = value.tail.file;
    this.segments[slot] = value.replication.segmentNumber;
  }

  /** Whichever superblock the next opening finds, it knows this segment to be committed, or a later one. */
  get segmentRecorded(): number {
    return Math.min(...this.segments);
  }

  /** Log files below this one are needed by neither superblock. */
  get oldestFileNeeded(): number {
    return Math.min(...this.tails);
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }
}

/** A new volume's superblocks, both equal but for the generation. */
export async function createSuperblocks(
  disk: Disk,
  checksums: Checksums,
  value: Omit<Superblock, 'generation'>,
): Promise<void> {
  for (const generation of [0, 1]) {
    const file = await disk.open(`super.${generation}`, { mode: 'write', create: true });
    await file.write([encodeSuperblock({ ...value, generation }, checksums)], 0);
    await file.sync();
    await file.close();
  }
}

/** A superblock that cannot be read is as good as damaged: the other one counts. */
async function readOrNothing(file: DiskFile, target: Uint8Array): Promise<number> {
  try {
    return await file.read(target, 0, BLOCK_BYTES, 0);
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'disk-failed') return 0;
    throw error;
  }
}

/** undefined: it holds a number beyond 2^53. */
export function getCursor(view: DataView, at: number): LogCursor | undefined {
  const [file, offset, lsn] = [getU64(view, at), getU64(view, at + 8), getU64(view, at + 16)];
  if (file === undefined || offset === undefined || lsn === undefined) return undefined;
  const epoch = epochText(view.getBigUint64(at + 24, true));
  return { file, offset, lsn, epoch, chain: view.getUint32(at + 32, true) };
}

export function putCursor(view: DataView, at: number, cursor: LogCursor): void {
  putU64(view, at, cursor.file);
  putU64(view, at + 8, cursor.offset);
  putU64(view, at + 16, cursor.lsn);
  view.setBigUint64(at + 24, BigInt(`0x${cursor.epoch}`), true);
  view.setUint32(at + 32, cursor.chain, true);
}
