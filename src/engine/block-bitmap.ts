/**
 * A durable set of blocks that only grows, in two files of the same content (docs/formats.md, "Overwritten blocks"):
 *
 *   offset size  sector i of either file (little-endian)
 *        0  508  a bit for each of the blocks 4064 i … 4064 i + 4063, the lowest bit of a byte first
 *      508    4  CRC-32C(le64(i) || the 508 bytes)
 *
 * A hole, and what lies behind the end, is empty. The second file is written once the first is durable, so that a sector
 * lost with the power is whole in one of them; of two that are whole, the union counts. A sector that is whole in neither
 * reads as all set.
 */
import { SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { synced, written } from './disk-outcome.js';
import { isSoundSector, sectorCrc } from './sums-redo.js';

const SECTOR_DATA_BYTES = SECTOR_BYTES - 4;
const SECTOR_BLOCKS = SECTOR_DATA_BYTES * 8;
const SECTORS_PER_PAGE = 64;
const PAGE_BYTES = SECTORS_PER_PAGE * SECTOR_DATA_BYTES;
const PAGE_FILE_BYTES = SECTORS_PER_PAGE * SECTOR_BYTES;
const PAGE_BLOCKS = SECTORS_PER_PAGE * SECTOR_BLOCKS;
/** 8 MiB, which are 254 GiB of volume; pages with changes stay. */
const PAGES_MAX = 256;

interface Page {
  readonly bits: Uint8Array;
  readonly dirty: Set<number>;
}

export class BlockBitmap {
  private readonly files: readonly DiskFile[];
  private readonly checksums: Checksums;
  private readonly onRot: (sector: number) => void;
  private readonly pages = new Map<number, Page>();

  private constructor(files: readonly DiskFile[], checksums: Checksums, onRot: (sector: number) => void) {
    this.files = files;
    this.checksums = checksums;
    this.onRot = onRot;
  }

  /** Makes both files, empty. The directory is not synced. */
  static async create(disk: Disk, name: string): Promise<void> {
    for (const path of pathsOf(name)) {
      const file = await disk.open(path, { mode: 'write', create: true });
      await file.sync();
      await file.close();
    }
  }

  static async open(
    disk: Disk,
    name: string,
    checksums: Checksums,
    onRot: (sector: number) => void,
  ): Promise<BlockBitmap> {
    const files: DiskFile[] = [];
    for (const path of pathsOf(name)) files.push(await disk.open(path, { mode: 'write', lane: 'sums' }));
    return new BlockBitmap(files, checksums, onRot);
  }

  static async remove(disk: Disk, name: string): Promise<void> {
    for (const path of pathsOf(name)) if (await disk.exists(path)) await disk.remove(path);
  }

  async has(block: BlockNumber): Promise<boolean> {
    const page = await this.page(Math.floor(block / PAGE_BLOCKS));
    const at = block % PAGE_BLOCKS;
    return ((page.bits[at >>> 3] ?? 0) & (1 << (at & 7))) !== 0;
  }

  /** Whether any block of [first, first + count) is in the set. */
  async hasAny(first: BlockNumber, count: number): Promise<boolean> {
    for (let block = first; block < first + count;) {
      const index = Math.floor(block / PAGE_BLOCKS);
      const { bits } = await this.page(index);
      const end = Math.min(first + count, (index + 1) * PAGE_BLOCKS);
      while (block < end) {
        const at = block - index * PAGE_BLOCKS;
        const byte = bits[at >>> 3] ?? 0;
        if (byte === 0) block += 8 - (at & 7);
        else if ((byte & (1 << (at & 7))) !== 0) return true;
        else block++;
      }
    }
    return false;
  }

  /** Adds blocks in memory: durable with the next `flush`. */
  async add(first: BlockNumber, count: number): Promise<void> {
    for (let block = first; block < first + count;) {
      const index = Math.floor(block / PAGE_BLOCKS);
      await this.page(index);
      const page = this.pages.get(index);
      if (page === undefined) continue; // it had to go for another one in the same moment
      const end = Math.min(first + count, (index + 1) * PAGE_BLOCKS);
      for (; block < end; block++) {
        const at = block - index * PAGE_BLOCKS;
        const before = page.bits[at >>> 3] ?? 0;
        const after = before | (1 << (at & 7));
        if (after === before) continue;
        page.bits[at >>> 3] = after;
        page.dirty.add(Math.floor(at / SECTOR_BLOCKS));
      }
      if (this.dirtyPages() > PAGES_MAX / 2) await this.flush();
    }
  }

  /** Makes everything that was added durable. */
  async flush(): Promise<void> {
    const changed: { readonly index: number; readonly page: Page; readonly sectors: readonly number[] }[] = [];
    for (const [index, page] of this.pages) {
      if (page.dirty.size > 0) changed.push({ index, page, sectors: [...page.dirty].sort((a, b) => a - b) });
    }
    if (changed.length === 0) return;
    // What is added while this runs is marked anew. Encoded once: the second file must not say more than the first.
    const writes: { readonly bytes: Uint8Array; readonly position: number }[] = [];
    for (const { index, page, sectors } of changed) {
      for (const sector of sectors) {
        const number = index * SECTORS_PER_PAGE + sector;
        writes.push({ bytes: this.encode(page, sector, number), position: number * SECTOR_BYTES });
      }
      page.dirty.clear();
    }
    try {
      for (const file of this.files) {
        for (const { bytes, position } of writes) await written('noting written blocks', file.write([bytes], position));
        await synced('fdatasync of the written blocks', file.sync());
      }
    } catch (error) {
      // Without space it is tried again.
      for (const { page, sectors } of changed) for (const sector of sectors) page.dirty.add(sector);
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map((file) => file.close()));
  }

  private dirtyPages(): number {
    let count = 0;
    for (const { dirty } of this.pages.values()) if (dirty.size > 0) count++;
    return count;
  }

  private encode(page: Page, sector: number, number: number): Uint8Array {
    const bytes = new Uint8Array(SECTOR_BYTES);
    bytes.set(page.bits.subarray(sector * SECTOR_DATA_BYTES, (sector + 1) * SECTOR_DATA_BYTES));
    const crc = sectorCrc(bytes, 0, number, this.checksums);
    new DataView(bytes.buffer).setUint32(SECTOR_DATA_BYTES, crc, true);
    return bytes;
  }

  private async page(index: number): Promise<Page> {
    const known = this.pages.get(index);
    if (known !== undefined) return known;
    const copies = await Promise.all(this.files.map((file) => readSectors(file, index * PAGE_FILE_BYTES)));
    // Someone else may have loaded it meanwhile, and changed it: that one counts.
    const loaded = this.pages.get(index);
    if (loaded !== undefined) return loaded;
    const bits = new Uint8Array(PAGE_BYTES);
    for (let sector = 0; sector < SECTORS_PER_PAGE; sector++) {
      const number = index * SECTORS_PER_PAGE + sector;
      const sound = copies.filter((copy) => isSoundSector(copy, sector * SECTOR_BYTES, number, this.checksums));
      const target = bits.subarray(sector * SECTOR_DATA_BYTES, (sector + 1) * SECTOR_DATA_BYTES);
      for (const copy of sound) unite(target, copy, sector * SECTOR_BYTES);
      if (sound.length > 0) continue;
      target.fill(0xff);
      this.onRot(number);
    }
    const page = { bits, dirty: new Set<number>() };
    this.evict();
    this.pages.set(index, page);
    return page;
  }

  private evict(): void {
    if (this.pages.size < PAGES_MAX) return;
    for (const [index, { dirty }] of this.pages) {
      if (dirty.size > 0) continue;
      this.pages.delete(index);
      return;
    }
  }
}

function pathsOf(name: string): readonly string[] {
  return [`${name}.0`, `${name}.1`];
}

function unite(target: Uint8Array, bytes: Uint8Array, start: number): void {
  for (let i = 0; i < target.length; i++) target[i] = (target[i] ?? 0) | (bytes[start + i] ?? 0);
}

/** One page of a file; a sector that cannot be read is as bad as a rotten one. */
async function readSectors(file: DiskFile, position: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(PAGE_FILE_BYTES);
  try {
    await file.read(bytes, 0, PAGE_FILE_BYTES, position);
    return bytes;
  } catch {
    bytes.fill(0);
  }
  for (let at = 0; at < PAGE_FILE_BYTES; at += SECTOR_BYTES) {
    try {
      await file.read(bytes, at, SECTOR_BYTES, position + at);
    } catch {
      bytes.fill(0xff, at, at + SECTOR_BYTES);
    }
  }
  return bytes;
}
