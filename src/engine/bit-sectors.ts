/**
 * Sets of blocks in a file, a bit for each, in sectors of their own (docs/formats.md, "Dirty map"):
 *
 *   offset size  sector i (little-endian)
 *        0  508  a bit per block 4064 i … 4064 i + 4063, the lowest first
 *      508    4  CRC-32C(le64(seed + i) || the 508 bytes)
 *
 * A sector of zeros was never written: none of its blocks is in the set. The seed tells files of different kinds apart.
 */
import { GatewayError } from '../base/errors.js';
import { MIB, SECTOR_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { DiskFile } from '../ports/disk.js';
import { BLOCKS_PER_GROUP } from './block-set.js';
import { isSoundSector, sectorCrc } from './sums-redo.js';

const WORDS = BLOCKS_PER_GROUP / 32;
/** Sectors that are read or written at once. */
export const CHUNK_SECTORS = MIB / SECTOR_BYTES;

export interface SectorPlace {
  readonly checksums: Checksums;
  readonly seed: number;
  /** Where sector 0 is in the file. */
  readonly start: number;
}

export type SectorVisit = (sector: number, words: Uint32Array | 'bad') => void;

/** Puts a sector with these bits to bytes[at…]. */
export function encodeSector(
  sector: number,
  wordAt: (word: number) => number,
  bytes: Uint8Array,
  at: number,
  { checksums, seed }: Pick<SectorPlace, 'checksums' | 'seed'>,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
  for (let word = 0; word < WORDS; word++) view.setUint32(4 * word, wordAt(word), true);
  view.setUint32(SECTOR_BYTES - 4, sectorCrc(bytes, at, seed + sector, checksums), true);
}

/** Visits sectors 0 to `count` - 1, as many as there are; bad: it has rotted, or cannot be read. */
export async function readSectors(
  file: DiskFile,
  count: number,
  place: SectorPlace,
  visit: SectorVisit,
): Promise<void> {
  const buffer = new Uint8Array(CHUNK_SECTORS * SECTOR_BYTES);
  for (let from = 0; from < count; from += CHUNK_SECTORS) {
    const sectors = Math.min(CHUNK_SECTORS, count - from);
    if ((await readChunk(file, buffer, from, sectors, place, visit)) < sectors * SECTOR_BYTES) return;
  }
}

/** Bytes that were there. */
async function readChunk(
  file: DiskFile,
  buffer: Uint8Array,
  from: number,
  count: number,
  place: SectorPlace,
  visit: SectorVisit,
): Promise<number> {
  const wanted = count * SECTOR_BYTES;
  let length: number;
  try {
    length = await file.read(buffer, 0, wanted, place.start + from * SECTOR_BYTES);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
    if (count === 1) {
      visit(from, 'bad');
      return wanted;
    }
    // One bad sector spoils no other.
    length = 0;
    for (let sector = from; sector < from + count; sector++)
      length += await readChunk(file, buffer, sector, 1, place, visit);
    return length;
  }
  for (let at = 0; at < length; at += SECTOR_BYTES) {
    const sector = from + at / SECTOR_BYTES;
    const sound = at + SECTOR_BYTES <= length && isSoundSector(buffer, at, place.seed + sector, place.checksums);
    visit(sector, sound ? wordsOf(buffer, at) : 'bad');
  }
  return length;
}

function wordsOf(bytes: Uint8Array, at: number): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
  return Uint32Array.from({ length: WORDS }, (_, word) => view.getUint32(4 * word, true));
}
