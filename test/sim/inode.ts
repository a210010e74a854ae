/**
 * One file of the simulated disk, in two states: what programs read (the page cache) and what a power loss leaves (the
 * platter). Pages are shared between the two and between captures until one of them changes.
 */
import type { SeededRandom } from '../fake/random.js';

export const PAGE_BYTES = 4096;
export const SECTOR_BYTES = 512;
const SECTORS = PAGE_BYTES / SECTOR_BYTES;

interface Page {
  readonly bytes: Uint8Array;
  /** Part of the platter or of a capture as well: copied before it is written. */
  shared: boolean;
}

const zeroPage: Page = { bytes: new Uint8Array(PAGE_BYTES), shared: true };

/** What a sync took with it when it was called. */
export interface Capture {
  readonly pages: readonly { readonly index: number; readonly page: Page; readonly mask: number }[];
  readonly sizeBytes: number;
}

export class Inode {
  sizeBytes = 0;
  private durableSizeBytes = 0;
  private readonly cache = new Map<number, Page>();
  private readonly platter = new Map<number, Page>();
  /** Per page, the sectors (bits) that were written and not synced. */
  private readonly dirty = new Map<number, number>();
  /** Sectors that cannot be read until they are written again. */
  readonly unreadable = new Set<number>();

  /** Copies what is there into target; returns the number of bytes before the file's end. */
  read(target: Uint8Array, start: number, lengthBytes: number, position: number): number {
    const end = Math.min(position + lengthBytes, this.sizeBytes);
    for (let at = position; at < end;) {
      const index = Math.floor(at / PAGE_BYTES);
      const from = at - index * PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - from, end - at);
      const page = this.cache.get(index) ?? zeroPage;
      target.set(page.bytes.subarray(from, from + count), start + at - position);
      at += count;
    }
    return Math.max(0, end - position);
  }

  write(bytes: Uint8Array, position: number): void {
    const end = position + bytes.length;
    for (let at = position; at < end;) {
      const index = Math.floor(at / PAGE_BYTES);
      const from = at - index * PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - from, end - at);
      this.writable(index, count === PAGE_BYTES).set(bytes.subarray(at - position, at - position + count), from);
      this.soil(index, from, from + count);
      at += count;
    }
    if (end > this.sizeBytes) this.sizeBytes = end;
  }

  /** Makes a range zero (a punched hole); beyond the end nothing happens. */
  zero(position: number, lengthBytes: number): void {
    const end = Math.min(position + lengthBytes, this.sizeBytes);
    for (let at = position; at < end;) {
      const index = Math.floor(at / PAGE_BYTES);
      const from = at - index * PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - from, end - at);
      if (count === PAGE_BYTES) this.cache.set(index, zeroPage);
      else if (this.cache.has(index)) this.writable(index, false).fill(0, from, from + count);
      if (this.cache.has(index)) this.soil(index, from, from + count);
      at += count;
    }
  }

  resize(sizeBytes: number): void {
    if (sizeBytes < this.sizeBytes) this.zero(sizeBytes, this.sizeBytes - sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  hasUnreadable(position: number, lengthBytes: number): boolean {
    if (this.unreadable.size === 0) return false;
    const end = Math.min(position + lengthBytes, this.sizeBytes);
    for (let s = Math.floor(position / SECTOR_BYTES); s * SECTOR_BYTES < end; s++)
      if (this.unreadable.has(s)) return true;
    return false;
  }

  /** Whether the platter has what programs read there. */
  isDurable(position: number, lengthBytes: number): boolean {
    if (position + lengthBytes > this.durableSizeBytes) return false;
    for (let index = Math.floor(position / PAGE_BYTES); index * PAGE_BYTES < position + lengthBytes; index++) {
      const page = this.cache.get(index) ?? zeroPage;
      const below = this.platter.get(index) ?? zeroPage;
      if (this.dirty.has(index)) return false;
      if (page !== below && Buffer.compare(page.bytes, below.bytes) !== 0) return false;
    }
    return true;
  }

  /** Begins a sync: it covers what was written before. */
  capture(): Capture {
    const pages = [...this.dirty].map(([index, mask]) => {
      const page = this.cache.get(index) ?? zeroPage;
      page.shared = true;
      return { index, page, mask };
    });
    return { pages, sizeBytes: this.sizeBytes };
  }

  /** Ends a sync: what it captured is on the platter. */
  commit(capture: Capture): void {
    for (const { index, page, mask } of capture.pages) {
      this.persist(index, page, mask);
      if (this.cache.get(index) === page || (page === zeroPage && !this.cache.has(index))) this.clean(index, mask);
    }
    this.durableSizeBytes = Math.max(capture.sizeBytes, 0);
  }

  /**
   * A sync that failed: the kernel gives its pages up as clean. Of each sector at random the platter has the new
   * content or still the old one; the page cache goes on showing the new one until it is `evict`ed.
   */
  commitFailed(capture: Capture, random: SeededRandom): void {
    for (const { index, page, mask } of capture.pages) {
      let kept = 0;
      for (let s = 0; s < SECTORS; s++) if ((mask & (1 << s)) !== 0 && random.fraction() < 0.5) kept |= 1 << s;
      this.persist(index, page, kept);
      if (this.cache.get(index) === page) this.clean(index, mask);
    }
    this.durableSizeBytes = capture.sizeBytes;
  }

  /** Background write-out: some dirty sectors reach the platter although nobody asked. */
  writeOut(random: SeededRandom, share: number): void {
    for (const [index, mask] of [...this.dirty]) {
      if (random.fraction() >= share) continue;
      const page = this.cache.get(index) ?? zeroPage;
      page.shared = true;
      this.persist(index, page, mask);
      this.clean(index, mask);
    }
  }

  /** Forgets clean pages of the cache: they are read from the platter again. */
  evict(random: SeededRandom, share: number): void {
    for (const index of [...this.cache.keys()]) {
      if (this.dirty.has(index) || random.fraction() >= share) continue;
      this.reload(index);
    }
  }

  /** Power loss: of each unsynced sector the old content, the new one, garbage, or one that cannot be read. */
  settle(random: SeededRandom): void {
    for (const [index, mask] of [...this.dirty]) {
      const page = this.cache.get(index) ?? zeroPage;
      // Whole pages mostly go together; what is mixed, is mixed by sectors.
      const together = random.fraction();
      let kept = together < 0.3 ? mask : 0;
      for (let s = 0; s < SECTORS && together >= 0.6; s++) {
        if ((mask & (1 << s)) === 0) continue;
        const fate = random.fraction();
        if (fate < 0.4) kept |= 1 << s;
        else if (fate > 0.9) this.garble(index, s, random);
        else if (fate > 0.8) this.unreadable.add(index * SECTORS + s);
      }
      this.persist(index, page, kept);
    }
    this.dirty.clear();
    if (random.fraction() < 0.5) this.sizeBytes = this.durableSizeBytes;
    else this.durableSizeBytes = this.sizeBytes;
    for (const index of new Set([...this.cache.keys(), ...this.platter.keys()])) this.reload(index);
  }

  /** Pages that were written and not synced. */
  get unsyncedPages(): number[] {
    return [...this.dirty.keys()];
  }

  /** Power loss of which is decided, page by page, what reached the platter. */
  settleKeeping(keeps: (page: number) => boolean): void {
    for (const [index, mask] of [...this.dirty]) {
      if (keeps(index)) this.persist(index, this.cache.get(index) ?? zeroPage, mask);
    }
    this.dirty.clear();
    this.durableSizeBytes = this.sizeBytes;
    for (const index of new Set([...this.cache.keys(), ...this.platter.keys()])) this.reload(index);
  }

  /** Flips one bit on the platter and in the cache: rot, or a writer that went astray. */
  flip(position: number, bit: number): void {
    const index = Math.floor(position / PAGE_BYTES);
    for (const pages of [this.cache, this.platter]) {
      const page = pages.get(index);
      if (page === undefined) continue;
      const bytes = page.bytes.slice();
      bytes[position % PAGE_BYTES]! ^= 1 << bit;
      pages.set(index, { bytes, shared: true });
    }
  }

  /** A copy as the platter has it, for a machine that is cloned while it is off. */
  clone(): Inode {
    const copy = new Inode();
    copy.sizeBytes = this.durableSizeBytes;
    copy.durableSizeBytes = this.durableSizeBytes;
    for (const [index, page] of this.platter) {
      page.shared = true;
      copy.platter.set(index, page);
      copy.cache.set(index, page);
    }
    for (const sector of this.unreadable) copy.unreadable.add(sector);
    return copy;
  }

  /** Positions of pages that hold something. */
  get pageIndexes(): number[] {
    return [...this.cache.keys()];
  }

  /** Everything, as programs read it. */
  contents(): Uint8Array {
    const bytes = new Uint8Array(this.sizeBytes);
    this.read(bytes, 0, this.sizeBytes, 0);
    return bytes;
  }

  private writable(index: number, whole: boolean): Uint8Array {
    const page = this.cache.get(index);
    if (page !== undefined && !page.shared) return page.bytes;
    const bytes = new Uint8Array(PAGE_BYTES);
    if (!whole && page !== undefined) bytes.set(page.bytes);
    this.cache.set(index, { bytes, shared: false });
    return bytes;
  }

  private soil(index: number, from: number, to: number): void {
    let mask = this.dirty.get(index) ?? 0;
    for (let s = Math.floor(from / SECTOR_BYTES); s * SECTOR_BYTES < to; s++) {
      mask |= 1 << s;
      if (this.unreadable.size > 0 && from <= s * SECTOR_BYTES && to >= (s + 1) * SECTOR_BYTES)
        this.unreadable.delete(index * SECTORS + s);
    }
    this.dirty.set(index, mask);
  }

  private clean(index: number, mask: number): void {
    const left = (this.dirty.get(index) ?? 0) & ~mask;
    if (left === 0) this.dirty.delete(index);
    else this.dirty.set(index, left);
  }

  private persist(index: number, page: Page, mask: number): void {
    if (mask === 0) return;
    page.shared = true;
    const old = this.platter.get(index);
    // The sectors that are not dirty are the same in both.
    if (mask === 0xff || (old === undefined && page === zeroPage)) {
      this.platter.set(index, page);
      return;
    }
    const bytes = (old ?? zeroPage).bytes.slice();
    for (let s = 0; s < SECTORS; s++) {
      if ((mask & (1 << s)) === 0) continue;
      bytes.set(page.bytes.subarray(s * SECTOR_BYTES, (s + 1) * SECTOR_BYTES), s * SECTOR_BYTES);
    }
    this.platter.set(index, { bytes, shared: true });
  }

  private garble(index: number, sector: number, random: SeededRandom): void {
    const bytes = (this.platter.get(index) ?? zeroPage).bytes.slice();
    for (let i = 0; i < SECTOR_BYTES; i += 4) {
      const word = random.below(2 ** 32);
      for (let k = 0; k < 4; k++) bytes[sector * SECTOR_BYTES + i + k] = (word >>> (8 * k)) & 0xff;
    }
    this.platter.set(index, { bytes, shared: true });
  }

  private reload(index: number): void {
    const page = this.platter.get(index);
    if (page === undefined) this.cache.delete(index);
    else this.cache.set(index, page);
    if (page !== undefined) page.shared = true;
  }
}
