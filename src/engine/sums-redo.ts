/**
 * What the file `sums` is about to be overwritten with, durable before it is: a sector that is being written when the
 * power goes may be lost, and with it the checksums of blocks that nobody wrote, which the log cannot give back (P1).
 *
 *   offset size  file `sums.redo` (little-endian)
 *        0    8  magic "KGSREDO1"
 *        8    4  sectors n, at most REDO_SECTORS_MAX
 *       12    4  CRC-32C of the sector numbers
 *       16   8n  sector numbers
 *     4096+      the sectors, 512 bytes each, as sums.ts describes them
 *
 * A copy is used only where the sector in its place is bad. Then it is the newest one: the redo file is complete before
 * the sectors are written, and is not written again before they are durable.
 */
import { SECTOR_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { synced, written } from './disk-outcome.js';
import { getU64, putU64 } from './log-format.js';

export const REDO_FILE = 'sums.redo';
const MAGIC = 'KGSREDO1';
const TABLE_AT = 16;
const HEADER_BYTES = 65536;
export const REDO_SECTORS_MAX = (HEADER_BYTES - TABLE_AT) / 8;
export const REDO_FILE_BYTES = HEADER_BYTES + REDO_SECTORS_MAX * SECTOR_BYTES;

const seed = new Uint8Array(8);
const seedView = new DataView(seed.buffer);

/** CRC-32C(le64(sector) || the first 508 bytes at `at`). */
export function sectorCrc(bytes: Uint8Array, at: number, sector: number, checksums: Checksums): number {
  putU64(seedView, 0, sector);
  return checksums.crc32c(checksums.crc32c(0, seed, 0, 8), bytes, at, at + SECTOR_BYTES - 4);
}

/** Whether 512 bytes are a sector that was never written, or one that is whole. */
export function isSoundSector(bytes: Uint8Array, at: number, sector: number, checksums: Checksums): boolean {
  if (checksums.isZero(bytes, at, at + SECTOR_BYTES)) return true;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
  return view.getUint32(SECTOR_BYTES - 4, true) === sectorCrc(bytes, at, sector, checksums);
}

export class SumsRedo {
  private readonly file: DiskFile;
  private readonly checksums: Checksums;

  private constructor(file: DiskFile, checksums: Checksums) {
    this.file = file;
    this.checksums = checksums;
  }

  static async open(disk: Disk, checksums: Checksums): Promise<SumsRedo> {
    const create = !(await disk.exists(REDO_FILE));
    const file = await disk.open(REDO_FILE, { mode: 'write', create, lane: 'sums' });
    if (create) await disk.syncDirectory('.');
    return new SumsRedo(file, checksums);
  }

  /** Makes copies durable of the sectors that will be written; `bytes` holds them one after another. */
  async write(sectors: readonly number[], bytes: Uint8Array): Promise<void> {
    const header = new Uint8Array(HEADER_BYTES);
    const view = new DataView(header.buffer);
    header.set(Buffer.from(MAGIC, 'latin1'));
    view.setUint32(8, sectors.length, true);
    sectors.forEach((sector, i) => putU64(view, TABLE_AT + 8 * i, sector));
    view.setUint32(12, this.checksums.crc32c(0, header, TABLE_AT, TABLE_AT + 8 * sectors.length), true);
    const payload = bytes.subarray(0, sectors.length * SECTOR_BYTES);
    await written('copying checksums', this.file.write([header, payload], 0));
    await synced('fdatasync of the copied checksums', this.file.sync());
  }

  /** Puts back what a power loss tore, durably; how many sectors those were. */
  async repair(sums: DiskFile): Promise<number> {
    const header = new Uint8Array(HEADER_BYTES);
    const view = new DataView(header.buffer);
    const got = await readOr0(this.file, header, 0);
    const count = view.getUint32(8, true);
    const sound =
      got === HEADER_BYTES &&
      Buffer.from(header.subarray(0, 8)).toString('latin1') === MAGIC &&
      count <= REDO_SECTORS_MAX &&
      this.checksums.crc32c(0, header, TABLE_AT, TABLE_AT + 8 * count) === view.getUint32(12, true);
    if (!sound) return 0;
    let repaired = 0;
    const [copy, there] = [new Uint8Array(SECTOR_BYTES), new Uint8Array(SECTOR_BYTES)];
    for (let i = 0; i < count; i++) {
      const sector = getU64(view, TABLE_AT + 8 * i);
      if (sector === undefined) continue;
      const found = await readOr0(sums, there, sector * SECTOR_BYTES);
      if (found === SECTOR_BYTES && isSoundSector(there, 0, sector, this.checksums)) continue;
      const kept = await readOr0(this.file, copy, HEADER_BYTES + i * SECTOR_BYTES);
      if (kept !== SECTOR_BYTES || !isSoundSector(copy, 0, sector, this.checksums)) continue;
      await sums.write([copy.slice()], sector * SECTOR_BYTES);
      repaired++;
    }
    if (repaired > 0) await sums.sync();
    return repaired;
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** Fills `target` from `position`; what cannot be read, or lies beyond the end, counts as nothing read. */
async function readOr0(file: DiskFile, target: Uint8Array, position: number): Promise<number> {
  try {
    return await file.read(target, 0, target.length, position);
  } catch {
    return 0;
  }
}
