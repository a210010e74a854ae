/**
 * Which blocks of the image may differ from the bucket's newest recovery point, while the volume is tracked instead of
 * kept in the log (rounds.ts; remote.md, "When the buffer is too small for the outage").
 *
 * In the file `dirty`, in sectors (bit-sectors.ts). A rotten or unreadable one counts as all set, which is always safe: a
 * block that is sent once more does no harm. So bits are durable before the log lets go of what they stand for, and may be
 * cleared late.
 *
 * During a round the bits of before stand aside in a file of their own (frozen-file.ts), and both count. Without a round,
 * what stands there may be left from one, and counts too.
 */
import { SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { CHUNK_SECTORS, encodeSector, readSectors } from './bit-sectors.js';
import { BlockSet, BLOCKS_PER_GROUP } from './block-set.js';
import { isDiskFull, synced, written } from './disk-outcome.js';
import { addFrozen, clearFrozen, writeFrozen } from './frozen-file.js';
import type { RoundMoment } from './frozen-file.js';

const DIRTY_FILE = 'dirty';
/** Sector numbers are seeded from here on, so that no sector of `sums` is taken for one of this file. */
const SEED = 2 ** 48;

export class DirtyMap {
  private readonly disk: Disk;
  private readonly checksums: Checksums;
  private file: DiskFile | undefined;
  private bits = new BlockSet();
  private frozen: BlockSet | undefined;
  /** `frozen` stands in its own file, and not in this one. */
  private frozenInFile = false;
  /** Groups of which the file's sector differs. */
  private readonly changed = new Set<number>();
  private readonly note = (group: number): void => void this.changed.add(group);

  constructor(disk: Disk, checksums: Checksums) {
    this.disk = disk;
    this.checksums = checksums;
  }

  /**
   * Reads the file; without one every block below `end` counts. All that is found is written again with the next flush: a
   * process that was killed may have left it in the page cache only.
   */
  async load(end: BlockNumber): Promise<void> {
    if (!(await this.disk.exists(DIRTY_FILE))) {
      this.add(0, end);
      return;
    }
    const place = { checksums: this.checksums, seed: SEED, start: 0 };
    await readSectors(await this.open(), Math.ceil(end / BLOCKS_PER_GROUP), place, (sector, words) =>
      this.bits.setGroup(sector, words === 'bad' ? 'full' : words),
    );
    for (const group of this.bits.groupNumbers()) this.changed.add(group);
  }

  /** A round of before goes on; its bits stand in their file. */
  adopt(frozen: BlockSet): void {
    this.frozen = frozen;
    this.frozenInFile = true;
  }

  /** No round goes on: what one may have left counts. */
  async unite(end: BlockNumber): Promise<void> {
    await addFrozen(this.disk, this.checksums, end, this.bits);
    for (const group of this.bits.groupNumbers()) this.changed.add(group);
  }

  add(first: BlockNumber, count: number): void {
    this.bits.add(first, count, this.note);
  }

  has(block: BlockNumber): boolean {
    return this.bits.has(block) || this.frozen?.has(block) === true;
  }

  countBelow(end: BlockNumber): number {
    return this.bits.countBelow(end, this.frozen);
  }

  /**
   * What differs stands aside for a round, and the bits begin anew. `durable`: in the file of its own, so that the round can
   * go on after a restart; where there is no space for it, all bits stay in the one file.
   */
  async freeze(moment: RoundMoment): Promise<{ readonly blocks: BlockSet; readonly durable: boolean }> {
    this.thaw();
    await this.flush();
    const blocks = this.bits;
    this.frozen = blocks;
    this.bits = new BlockSet();
    try {
      await writeFrozen(this.disk, this.checksums, { ...moment, blocks });
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      return { blocks, durable: false };
    }
    await this.empty();
    this.frozenInFile = true;
    return { blocks, durable: true };
  }

  /** The round is in the bucket: only what changed since it began differs from there. */
  async committed(): Promise<void> {
    if (!this.frozenInFile) for (const group of this.frozen?.groupNumbers() ?? []) this.changed.add(group);
    this.frozen = undefined;
    this.frozenInFile = false;
    await clearFrozen(this.disk);
  }

  /** The round was given up. */
  thaw(): void {
    for (const group of this.frozen?.groupNumbers() ?? []) this.changed.add(group);
    if (this.frozen !== undefined) this.bits.addAll(this.frozen);
    this.frozen = undefined;
    this.frozenInFile = false;
  }

  /** Makes the file durable as the bits are. */
  async flush(): Promise<void> {
    if (this.changed.size === 0) return;
    const sectors = [...this.changed].sort((left, right) => left - right);
    const file = await this.open();
    const write = async (first: number, count: number): Promise<void> => {
      const bytes = new Uint8Array(count * SECTOR_BYTES);
      for (let i = 0; i < count; i++) this.encode(first + i, bytes, i * SECTOR_BYTES);
      await written('writing the dirty map', file.write([bytes], first * SECTOR_BYTES));
    };
    for (let from = 0; from < sectors.length;) {
      const first = sectors[from] ?? 0;
      let to = from + 1;
      while (to < sectors.length && to - from < CHUNK_SECTORS && sectors[to] === first + to - from) to++;
      await write(first, to - from);
      from = to;
    }
    await synced('fdatasync of the dirty map', file.sync());
    // Where space was missing, all is tried again.
    for (const sector of sectors) this.changed.delete(sector);
  }

  private encode(sector: number, bytes: Uint8Array, at: number): void {
    const bits = this.bits.group(sector);
    const frozen = this.frozenInFile ? undefined : this.frozen?.group(sector);
    const wordAt = (word: number): number => (bits?.[word] ?? 0) | (frozen?.[word] ?? 0);
    encodeSector(sector, wordAt, bytes, at, { checksums: this.checksums, seed: SEED });
  }

  /** Nothing differs, and the files say so durably. */
  async clear(): Promise<void> {
    this.bits.clear();
    this.frozen = undefined;
    this.frozenInFile = false;
    this.changed.clear();
    await clearFrozen(this.disk);
    if (this.file === undefined && !(await this.disk.exists(DIRTY_FILE))) return;
    await this.empty();
  }

  private async empty(): Promise<void> {
    const file = await this.open();
    await written('clearing the dirty map', file.truncate(0));
    await synced('fdatasync of the dirty map', file.sync());
    this.changed.clear();
  }

  async close(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
  }

  private async open(): Promise<DiskFile> {
    if (this.file !== undefined) return this.file;
    const create = !(await this.disk.exists(DIRTY_FILE));
    const file = await this.disk.open(DIRTY_FILE, { mode: 'write', create, lane: 'sums' });
    this.file = file;
    if (create) await synced('fsync of the volume directory', this.disk.syncDirectory('.'));
    return file;
  }
}
