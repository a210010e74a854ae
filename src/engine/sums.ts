/**
 * The image's checksums: one block sum per block, in 512-byte sectors that carry a CRC of their own.
 *
 *   offset size  sector i of the file `sums` (little-endian)
 *        0  508  block sums of blocks 127 i … 127 i + 126 (ports/checksum.ts; 0 zero block, 1 remote only)
 *      508    4  CRC-32C(le64(i) || the 508 bytes)
 *
 * A sector of zeros (a hole) was never written: its blocks have the volume's default, zero or remote only. A rotten
 * sector's blocks count as remote only: they are fetched again or refused, never guessed (P3).
 *
 * Sums are kept in memory as pages of 64 sectors, at most limits.sumsCacheBytesMax of them; pages with changes stay
 * until `flush` wrote them. The destager alone changes them.
 */
import { assert } from '../base/assert.js';
import { limits } from '../base/limits.js';
import { SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { DiskFile } from '../ports/disk.js';

export const SUM_ZERO = 0;
export const SUM_REMOTE = 1;
export const SUMS_PER_SECTOR = 127;
const SECTORS_PER_PAGE = 64;
export const SUMS_PER_PAGE = SUMS_PER_SECTOR * SECTORS_PER_PAGE;
const PAGE_FILE_BYTES = SECTORS_PER_PAGE * SECTOR_BYTES;
const PAGES_MAX = Math.floor(limits.sumsCacheBytesMax / (SUMS_PER_PAGE * 4));

interface Page {
  readonly sums: Uint32Array;
  /** 1 for each sector that differs from the file, and how many those are. */
  readonly dirty: Uint8Array;
  dirtySectors: number;
  /** Set when looked at; cleared as the eviction hand passes. */
  recent: boolean;
}

export class Sums {
  private readonly file: DiskFile;
  private readonly checksums: Checksums;
  private readonly holeSum: number;
  private readonly pages = new Map<number, Page>();
  private readonly raw: Uint8Array;
  private readonly onRot: (sector: number) => void;
  private lastIndex = -1;
  private lastPage: Page | undefined;

  constructor(options: {
    readonly file: DiskFile;
    readonly checksums: Checksums;
    readonly holes: 'zero' | 'remote';
    readonly onRot: (sector: number) => void;
  }) {
    this.file = options.file;
    this.checksums = options.checksums;
    this.holeSum = options.holes === 'zero' ? SUM_ZERO : SUM_REMOTE;
    this.raw = options.checksums.alignedBuffer(PAGE_FILE_BYTES);
    this.onRot = options.onRot;
  }

  /** The page that holds a block's sum, if it is in memory or the page cache; index in it: block % SUMS_PER_PAGE. */
  pageNow(block: BlockNumber): Uint32Array | undefined {
    const index = Math.floor(block / SUMS_PER_PAGE);
    const page = this.lastIndex === index ? this.lastPage : this.pages.get(index);
    if (page !== undefined) {
      page.recent = true;
      this.lastIndex = index;
      this.lastPage = page;
      return page.sums;
    }
    if (!this.file.readNow(this.raw, 0, PAGE_FILE_BYTES, index * PAGE_FILE_BYTES)) return undefined;
    return this.insert(index, this.raw, PAGE_FILE_BYTES).sums;
  }

  /** As pageNow, reading the file when it must. */
  async page(block: BlockNumber): Promise<Uint32Array> {
    return this.pageNow(block) ?? (await this.load(Math.floor(block / SUMS_PER_PAGE))).sums;
  }

  /** Sets one block's sum; its page must be in memory (`page` was awaited and nothing awaited since). */
  set(block: BlockNumber, sum: number): void {
    const page = this.pages.get(Math.floor(block / SUMS_PER_PAGE));
    assert(page !== undefined, 'sums are set in a page that is in memory');
    const at = block % SUMS_PER_PAGE;
    page.sums[at] = sum;
    const sector = Math.floor(at / SUMS_PER_SECTOR);
    if (page.dirty[sector] === 1) return;
    page.dirty[sector] = 1;
    page.dirtySectors++;
  }

  /** Marks [first, first + count) as zero blocks: whole pages of a volume whose holes are zero are punched out. */
  async setZero(first: BlockNumber, count: number): Promise<void> {
    const end = first + count;
    for (let block = first; block < end;) {
      const index = Math.floor(block / SUMS_PER_PAGE);
      const start = index * SUMS_PER_PAGE;
      const wholePages = Math.floor((end - start) / SUMS_PER_PAGE);
      if (this.holeSum === SUM_ZERO && block === start && wholePages > 0) {
        this.forget(index, index + wholePages);
        await this.file.punch(index * PAGE_FILE_BYTES, wholePages * PAGE_FILE_BYTES);
        this.forget(index, index + wholePages);
        block = start + wholePages * SUMS_PER_PAGE;
        continue;
      }
      const sums = await this.page(block);
      const until = Math.min(end, start + SUMS_PER_PAGE);
      for (; block < until; block++) {
        if (sums[block - start] !== SUM_ZERO) this.set(block, SUM_ZERO);
      }
      if (this.dirtyPages() > PAGES_MAX / 2) await this.flush();
    }
  }

  /** Writes all changed sectors; durable after the file's next sync. */
  async flush(): Promise<void> {
    for (const [index, page] of this.pages) {
      if (page.dirtySectors === 0) continue;
      const dirty = page.dirty.slice();
      page.dirty.fill(0);
      page.dirtySectors = 0;
      for (let sector = 0; sector < SECTORS_PER_PAGE; sector++) {
        let end = sector;
        while (end < SECTORS_PER_PAGE && dirty[end] === 1) end++;
        if (end === sector) continue;
        const first = index * SECTORS_PER_PAGE + sector;
        await this.file.write([this.encode(page, first, sector, end)], first * SECTOR_BYTES);
        sector = end;
      }
    }
    this.evict();
  }

  async sync(): Promise<void> {
    await this.file.sync();
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private dirtyPages(): number {
    let count = 0;
    for (const page of this.pages.values()) if (page.dirtySectors > 0) count++;
    return count;
  }

  private encode(page: Page, firstSector: number, from: number, to: number): Uint8Array {
    const bytes = new Uint8Array((to - from) * SECTOR_BYTES);
    const view = new DataView(bytes.buffer);
    for (let s = from; s < to; s++) {
      const at = (s - from) * SECTOR_BYTES;
      for (let i = 0; i < SUMS_PER_SECTOR; i++)
        view.setUint32(at + 4 * i, page.sums[s * SUMS_PER_SECTOR + i] ?? 0, true);
      view.setUint32(at + 508, sectorCrc(bytes, at, firstSector + (s - from), this.checksums), true);
    }
    return bytes;
  }

  private async load(index: number): Promise<Page> {
    const raw = new Uint8Array(PAGE_FILE_BYTES);
    const length = await this.file.read(raw, 0, PAGE_FILE_BYTES, index * PAGE_FILE_BYTES);
    // Someone else may have loaded it meanwhile, and changed it: that one counts.
    return this.pages.get(index) ?? this.insert(index, raw, length);
  }

  private insert(index: number, raw: Uint8Array, length: number): Page {
    const sums = new Uint32Array(SUMS_PER_PAGE);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
    for (let sector = 0; sector < SECTORS_PER_PAGE; sector++) {
      const at = sector * SECTOR_BYTES;
      const start = sector * SUMS_PER_SECTOR;
      if (at >= length || this.checksums.isZero(raw, at, at + SECTOR_BYTES)) {
        sums.fill(this.holeSum, start, start + SUMS_PER_SECTOR);
        continue;
      }
      const number = index * SECTORS_PER_PAGE + sector;
      if (at + SECTOR_BYTES > length || sectorCrc(raw, at, number, this.checksums) !== view.getUint32(at + 508, true)) {
        sums.fill(SUM_REMOTE, start, start + SUMS_PER_SECTOR);
        this.onRot(number);
        continue;
      }
      for (let i = 0; i < SUMS_PER_SECTOR; i++) sums[start + i] = view.getUint32(at + 4 * i, true);
    }
    const page: Page = { sums, dirty: new Uint8Array(SECTORS_PER_PAGE), dirtySectors: 0, recent: true };
    this.evict();
    this.pages.set(index, page);
    return page;
  }

  /** Second chance: the oldest page goes unless it changed or was looked at since the hand last passed. */
  private evict(): void {
    let tries = this.pages.size;
    while (this.pages.size >= PAGES_MAX && tries-- > 0) {
      const oldest = this.pages.entries().next();
      if (oldest.done === true) return;
      const [index, page] = oldest.value;
      this.pages.delete(index);
      if (page.dirtySectors > 0 || page.recent) {
        page.recent = false;
        this.pages.set(index, page);
      } else {
        this.forget(index, index + 1);
      }
    }
  }

  private forget(from: number, to: number): void {
    if (this.lastIndex >= from && this.lastIndex < to) {
      this.lastIndex = -1;
      this.lastPage = undefined;
    }
    if (to - from < this.pages.size) {
      for (let index = from; index < to; index++) this.pages.delete(index);
    } else {
      for (const index of [...this.pages.keys()]) if (index >= from && index < to) this.pages.delete(index);
    }
  }
}

const seed = new Uint8Array(8);
const seedView = new DataView(seed.buffer);

function sectorCrc(bytes: Uint8Array, at: number, sector: number, checksums: Checksums): number {
  seedView.setUint32(0, sector >>> 0, true);
  seedView.setUint32(4, Math.floor(sector / 0x1_0000_0000), true);
  return checksums.crc32c(checksums.crc32c(0, seed, 0, 8), bytes, at, at + 508);
}
