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
 * until `flush` has written them. The destager alone changes them.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { DiskFile } from '../ports/disk.js';
import { synced, written } from './disk-outcome.js';
import { isSoundSector, REDO_SECTORS_MAX, sectorCrc, type SumsRedo } from './sums-redo.js';

export const SUM_ZERO = 0;
export const SUM_REMOTE = 1;
export const SUMS_PER_SECTOR = 127;
const SECTORS_PER_PAGE = 64;
export const SUMS_PER_PAGE = SUMS_PER_SECTOR * SECTORS_PER_PAGE;
const PAGE_FILE_BYTES = SECTORS_PER_PAGE * SECTOR_BYTES;
const PAGES_MAX = Math.floor(limits.sumsCacheBytesMax / (SUMS_PER_PAGE * 4));

/** Of the file, for a volume of this size. */
export function sumsFileBytes(volumeBytes: number): number {
  return Math.ceil(volumeBytes / BLOCK_BYTES / SUMS_PER_PAGE) * PAGE_FILE_BYTES;
}

interface Page {
  readonly sums: Uint32Array;
  /** 1 for each sector that differs from the file, and how many those are. */
  readonly dirty: Uint8Array;
  dirtySectors: number;
  /** Some of its sectors are on their way into the file: until they are there, that holds older ones. */
  writing: boolean;
  /** Set when looked at; cleared as the eviction hand passes. */
  recent: boolean;
}

/** A sector of a page, and its number in the file. */
interface DirtySector {
  readonly page: Page;
  readonly sector: number;
  readonly number: number;
}

export class Sums {
  readonly file: DiskFile;
  private readonly redo: SumsRedo | undefined;
  private readonly checksums: Checksums;
  private readonly holeSum: number;
  /** Holes from this block on are zero all the same. */
  private readonly holesEndBlock: number;
  private readonly pages = new Map<number, Page>();
  private readonly raw: Uint8Array;
  private readonly onRot: (sector: number) => void;
  /** How often the file was changed: what was read before may be older than what it holds. */
  private changes = 0;
  private lastIndex = -1;
  private lastPage: Page | undefined;

  constructor(options: {
    readonly file: DiskFile;
    /** undefined: for files that count only once they are complete. */
    readonly redo?: SumsRedo;
    readonly checksums: Checksums;
    readonly holes: 'zero' | 'remote';
    /** Where holes are remote: the volume's end when it was restored; what it has grown by since is zero. */
    readonly holesEndBlock?: BlockNumber;
    readonly onRot: (sector: number) => void;
  }) {
    this.file = options.file;
    this.redo = options.redo;
    this.checksums = options.checksums;
    this.holeSum = options.holes === 'zero' ? SUM_ZERO : SUM_REMOTE;
    this.holesEndBlock = options.holesEndBlock ?? Infinity;
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
    markDirty(page, sector);
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
        await written('freeing checksums', this.file.punch(index * PAGE_FILE_BYTES, wholePages * PAGE_FILE_BYTES));
        this.changes++;
        this.forget(index, index + wholePages);
        block = start + wholePages * SUMS_PER_PAGE;
        continue;
      }
      const sums = await this.page(block);
      const until = Math.min(end, start + SUMS_PER_PAGE);
      for (; block < until; block++) {
        if (sums[block - start] !== SUM_ZERO) this.set(block, SUM_ZERO);
      }
      if (this.isCrowded) await this.flush();
    }
  }

  /**
   * Writes all changed sectors; durable after the file's next sync. With a redo file each share is in there first, and
   * durable in its place before the next share.
   */
  async flush(): Promise<void> {
    const taken = this.takeDirty();
    const rest = [...taken];
    try {
      while (rest.length > 0) {
        await this.writeShare(rest.slice(0, REDO_SECTORS_MAX));
        rest.splice(0, REDO_SECTORS_MAX);
      }
    } catch (error) {
      // Without space it is tried again: what is not in the file must stay marked, or it would never get there.
      for (const { page, sector } of rest) markDirty(page, sector);
      throw error;
    } finally {
      this.changes++;
      for (const { page } of taken) page.writing = false;
    }
    this.evict();
  }

  private async writeShare(share: readonly DirtySector[]): Promise<void> {
    const bytes = new Uint8Array(share.length * SECTOR_BYTES);
    share.forEach(({ page, sector, number }, i) => this.encode(page, sector, number, bytes, i * SECTOR_BYTES));
    const numbers = share.map(({ number }) => number);
    await this.redo?.write(numbers, bytes);
    for (let first = 0; first < numbers.length;) {
      let end = first + 1;
      while (end < numbers.length && numbers[end] === (numbers[end - 1] ?? 0) + 1) end++;
      const run = bytes.subarray(first * SECTOR_BYTES, end * SECTOR_BYTES);
      await written('writing checksums', this.file.write([run], (numbers[first] ?? 0) * SECTOR_BYTES));
      first = end;
    }
    if (this.redo !== undefined) await this.sync();
  }

  async sync(): Promise<void> {
    await synced('fdatasync of the checksums', this.file.sync());
  }

  async close(): Promise<void> {
    await Promise.all([this.file.close(), this.redo?.close()]);
  }

  /** Whether pages with changes take so much memory that they should be flushed. */
  get isCrowded(): boolean {
    return this.dirtyPages() > PAGES_MAX / 2;
  }

  private dirtyPages(): number {
    let count = 0;
    for (const page of this.pages.values()) if (page.dirtySectors > 0) count++;
    return count;
  }

  /** The changed sectors, ascending; they count as written from now on. */
  private takeDirty(): DirtySector[] {
    const taken: DirtySector[] = [];
    for (const [index, page] of this.pages) {
      if (page.dirtySectors === 0) continue;
      for (let sector = 0; sector < SECTORS_PER_PAGE; sector++)
        if (page.dirty[sector] === 1) taken.push({ page, sector, number: index * SECTORS_PER_PAGE + sector });
      page.dirty.fill(0);
      page.dirtySectors = 0;
      page.writing = true;
    }
    return taken.sort((left, right) => left.number - right.number);
  }

  private encode(page: Page, sector: number, number: number, bytes: Uint8Array, at: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
    for (let i = 0; i < SUMS_PER_SECTOR; i++) view.setUint32(4 * i, page.sums[sector * SUMS_PER_SECTOR + i] ?? 0, true);
    view.setUint32(508, sectorCrc(bytes, at, number, this.checksums), true);
  }

  private async load(index: number): Promise<Page> {
    const raw = new Uint8Array(PAGE_FILE_BYTES);
    for (;;) {
      const { changes } = this;
      const length = await this.readPage(raw, index);
      // Someone else may have loaded it meanwhile, and changed it: that one counts; or have changed the file and let it go.
      const page = this.pages.get(index);
      if (page !== undefined) return page;
      if (changes === this.changes) return this.insert(index, raw, length);
    }
  }

  /** A sector that cannot be read is as bad as a rotten one, and takes no other with it. */
  private async readPage(raw: Uint8Array, index: number): Promise<number> {
    const position = index * PAGE_FILE_BYTES;
    try {
      return await this.file.read(raw, 0, PAGE_FILE_BYTES, position);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
    }
    let length = 0;
    for (let at = 0; at < PAGE_FILE_BYTES && length === at; at += SECTOR_BYTES) {
      try {
        length += await this.file.read(raw, at, SECTOR_BYTES, position + at);
      } catch (error) {
        if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
        raw.fill(0xff, at, at + SECTOR_BYTES);
        length += SECTOR_BYTES;
      }
    }
    return length;
  }

  private insert(index: number, raw: Uint8Array, length: number): Page {
    const sums = new Uint32Array(SUMS_PER_PAGE);
    const view = new DataView(raw.buffer, raw.byteOffset, raw.length);
    for (let sector = 0; sector < SECTORS_PER_PAGE; sector++) {
      const at = sector * SECTOR_BYTES;
      const start = sector * SUMS_PER_SECTOR;
      if (at >= length || this.checksums.isZero(raw, at, at + SECTOR_BYTES)) {
        const holes = Math.max(0, Math.min(SUMS_PER_SECTOR, this.holesEndBlock - index * SUMS_PER_PAGE - start));
        sums.fill(this.holeSum, start, start + holes);
        continue;
      }
      const number = index * SECTORS_PER_PAGE + sector;
      if (at + SECTOR_BYTES > length || !isSoundSector(raw, at, number, this.checksums)) {
        sums.fill(SUM_REMOTE, start, start + SUMS_PER_SECTOR);
        this.onRot(number);
        continue;
      }
      for (let i = 0; i < SUMS_PER_SECTOR; i++) sums[start + i] = view.getUint32(at + 4 * i, true);
    }
    const page: Page = { sums, dirty: new Uint8Array(SECTORS_PER_PAGE), dirtySectors: 0, writing: false, recent: true };
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
      if (page.dirtySectors > 0 || page.writing || page.recent) {
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

function markDirty(page: Page, sector: number): void {
  if (page.dirty[sector] === 1) return;
  page.dirty[sector] = 1;
  page.dirtySectors++;
}
