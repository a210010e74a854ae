/**
 * The file `frozen`: what a round is to send, and as of when. Written once, before a superblock names the round, and never
 * changed while one does (docs/formats.md, "Frozen blocks"):
 *
 *   offset size  (little-endian)
 *        0    8  magic "KGFROZE1"
 *        8    4  format version, 1
 *       12    4  CRC-32C of the 4096 bytes of this page with this field 0
 *       16    8  round
 *       24   40  cursor (superblock.ts): the state of the volume before the batch there is what goes up
 *       64    8  size of the volume then
 *       72    8  wall time then
 *       80    4  CRC-32C of the sectors that have a bit set, one after another
 *       84       zeros
 *     4096       bits, in sectors (bit-sectors.ts)
 *
 * A round goes on after a restart only if all of this is as it was written: with a bit too many it would send what the
 * image has now. For the dirty map every bit counts that cannot be ruled out.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import type { LogCursor } from '../ports/replication.js';
import { CHUNK_SECTORS, encodeSector, readSectors } from './bit-sectors.js';
import { BLOCKS_PER_GROUP, BlockSet } from './block-set.js';
import { synced, written } from './disk-outcome.js';
import { getU64, putU64 } from './log-format.js';
import { CURSOR_BYTES, getCursor, putCursor } from './superblock.js';

const FROZEN_FILE = 'frozen';
const MAGIC = 'KGFROZE1';
const VERSION = 1;
const CRC_AT = 12;
const CURSOR_AT = 24;
const SIZE_AT = CURSOR_AT + CURSOR_BYTES;
const HEADER_BYTES = BLOCK_BYTES;
const SEED = 2 ** 49;

/** When a round is of, and its number. */
export interface RoundMoment {
  readonly round: number;
  readonly cursor: LogCursor;
  readonly sizeBytes: number;
  readonly wallMs: number;
}

export interface FrozenRound extends RoundMoment {
  readonly blocks: BlockSet;
}

/** Resolves once it is durable; disk-full. */
export async function writeFrozen(disk: Disk, checksums: Checksums, frozen: FrozenRound): Promise<void> {
  const create = !(await disk.exists(FROZEN_FILE));
  const file = await written('making the frozen map', disk.open(FROZEN_FILE, { mode: 'write', create, lane: 'sums' }));
  try {
    if (create) await synced('fsync of the volume directory', disk.syncDirectory('.'));
    await written('emptying the frozen map', file.truncate(0));
    const crc = await writeBits(file, checksums, frozen.blocks);
    await written('writing the frozen map', file.write([encodeHeader(frozen, crc, checksums)], 0));
    await synced('fdatasync of the frozen map', file.sync());
  } finally {
    await file.close();
  }
}

/** The CRC of the sectors. */
async function writeBits(file: DiskFile, checksums: Checksums, blocks: BlockSet): Promise<number> {
  const sectors = [...blocks.groupNumbers()].sort((left, right) => left - right);
  let crc = 0;
  for (let from = 0; from < sectors.length;) {
    const first = sectors[from] ?? 0;
    let count = 1;
    while (count < CHUNK_SECTORS && sectors[from + count] === first + count) count++;
    const bytes = new Uint8Array(count * SECTOR_BYTES);
    for (let i = 0; i < count; i++) {
      const words = blocks.group(first + i);
      encodeSector(first + i, (word) => words?.[word] ?? 0, bytes, i * SECTOR_BYTES, { checksums, seed: SEED });
    }
    crc = checksums.crc32c(crc, bytes, 0, bytes.length);
    await written('writing the frozen map', file.write([bytes], HEADER_BYTES + first * SECTOR_BYTES));
    from += count;
  }
  return crc;
}

/** The round of that number, exactly as it was written; undefined: it is not certain. */
export async function readFrozen(disk: Disk, checksums: Checksums, round: number): Promise<FrozenRound | undefined> {
  return withFile(disk, async (file) => {
    const header = await readHeader(file, checksums);
    if (header?.moment.round !== round) return undefined;
    const blocks = new BlockSet();
    const bytes = new Uint8Array(SECTOR_BYTES);
    const found = { crc: 0, bad: 0 };
    await readBits(file, checksums, header.moment.sizeBytes, (sector, words) => {
      if (words === 'bad') found.bad++;
      else if (words.some((word) => word !== 0)) {
        blocks.setGroup(sector, words);
        encodeSector(sector, (word) => words[word] ?? 0, bytes, 0, { checksums, seed: SEED });
        found.crc = checksums.crc32c(found.crc, bytes, 0, SECTOR_BYTES);
      }
    });
    return found.bad === 0 && found.crc === header.crc ? { ...header.moment, blocks } : undefined;
  });
}

/** Every block of [0, end) that may stand in the file. */
export async function addFrozen(disk: Disk, checksums: Checksums, end: BlockNumber, blocks: BlockSet): Promise<void> {
  await withFile(disk, (file) =>
    readBits(file, checksums, end * BLOCK_BYTES, (sector, words) => {
      if (words === 'bad') blocks.add(sector * BLOCKS_PER_GROUP, BLOCKS_PER_GROUP);
      else blocks.addGroup(sector, words);
    }),
  );
}

/** Durably empty. */
export async function clearFrozen(disk: Disk): Promise<void> {
  await withFile(disk, async (file) => {
    if ((await file.sizeBytes()) === 0) return;
    await written('emptying the frozen map', file.truncate(0));
    await synced('fdatasync of the frozen map', file.sync());
  });
}

async function withFile<T>(disk: Disk, work: (file: DiskFile) => Promise<T>): Promise<T | undefined> {
  if (!(await disk.exists(FROZEN_FILE))) return undefined;
  const file = await disk.open(FROZEN_FILE, { mode: 'write', lane: 'sums' });
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

function readBits(
  file: DiskFile,
  checksums: Checksums,
  sizeBytes: number,
  visit: Parameters<typeof readSectors>[3],
): Promise<void> {
  const count = Math.ceil(sizeBytes / BLOCK_BYTES / BLOCKS_PER_GROUP);
  return readSectors(file, count, { checksums, seed: SEED, start: HEADER_BYTES }, visit);
}

function encodeHeader(moment: RoundMoment, crc: number, checksums: Checksums): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(Buffer.from(MAGIC, 'latin1'), 0);
  view.setUint32(8, VERSION, true);
  putU64(view, 16, moment.round);
  putCursor(view, CURSOR_AT, moment.cursor);
  putU64(view, SIZE_AT, moment.sizeBytes);
  putU64(view, SIZE_AT + 8, moment.wallMs);
  view.setUint32(SIZE_AT + 16, crc, true);
  view.setUint32(CRC_AT, checksums.crc32c(0, bytes, 0, HEADER_BYTES), true);
  return bytes;
}

async function readHeader(
  file: DiskFile,
  checksums: Checksums,
): Promise<{ readonly moment: RoundMoment; readonly crc: number } | undefined> {
  const bytes = new Uint8Array(HEADER_BYTES);
  try {
    if ((await file.read(bytes, 0, HEADER_BYTES, 0)) < HEADER_BYTES) return undefined;
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'disk-failed') return undefined;
    throw error;
  }
  if (Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== MAGIC) return undefined;
  const view = new DataView(bytes.buffer);
  const crc = view.getUint32(CRC_AT, true);
  view.setUint32(CRC_AT, 0, true);
  if (checksums.crc32c(0, bytes, 0, HEADER_BYTES) !== crc) return undefined;
  if (view.getUint32(8, true) !== VERSION) return undefined;
  const round = getU64(view, 16);
  const sizeBytes = getU64(view, SIZE_AT);
  const wallMs = getU64(view, SIZE_AT + 8);
  const cursor = getCursor(view, CURSOR_AT);
  if (round === undefined || sizeBytes === undefined || wallMs === undefined || cursor === undefined) return undefined;
  return { moment: { round, cursor, sizeBytes, wallMs }, crc: view.getUint32(SIZE_AT + 16, true) };
}
