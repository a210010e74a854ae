/**
 * Which blocks of the image may differ from the bucket's newest recovery point, while the volume is tracked instead of
 * kept in the log (rounds.ts; remote.md, "When the buffer is too small for the outage").
 *
 *   offset size  sector i of the file `dirty` (little-endian)
 *        0  508  a bit per block 4064 i … 4064 i + 4063, the lowest first: 1 differs
 *      508    4  CRC-32C(le64(2^48 + i) || the 508 bytes)
 *
 * A sector of zeros was never written: none of its blocks differs. A rotten or unreadable one counts as all set, which is
 * always safe: a block that is sent once more does no harm. So bits are durable before the log lets go of what they stand
 * for, and may be cleared late.
 *
 * During a round the bits of before stand aside (`frozen`): in the file both count until the round is in the bucket.
 */
import { GatewayError } from '../base/errors.js';
import { MIB, SECTOR_BYTES, type BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { BlockSet, BLOCKS_PER_GROUP } from './block-set.js';
import { synced, written } from './disk-outcome.js';
import { isSoundSector, sectorCrc } from './sums-redo.js';

const DIRTY_FILE = 'dirty';
/** Sector numbers are seeded from here on, so that no sector of `sums` is taken for one of this file. */
const SEED = 2 ** 48;
const CHUNK_SECTORS = MIB / SECTOR_BYTES;

export class DirtyMap {
  private readonly disk: Disk;
  private readonly checksums: Checksums;
  private file: DiskFile | undefined;
  private bits = new BlockSet();
  private frozen: BlockSet | undefined;
  /** Groups of which the file's sector differs. */
  private readonly changed = new Set<number>();
  private readonly note = (group: number): void => void this.changed.add(group);

  constructor(disk: Disk, checksums: Checksums) {
    this.disk = disk;
    this.checksums = checksums;
  }

  /** Reads the file; without one every block below `end` counts. */
  async load(end: BlockNumber): Promise<void> {
    if (!(await this.disk.exists(DIRTY_FILE))) {
      this.add(0, end);
      return;
    }
    const file = await this.open();
    const buffer = new Uint8Array(CHUNK_SECTORS * SECTOR_BYTES);
    const sectors = Math.ceil(end / BLOCKS_PER_GROUP);
    for (let from = 0; from < sectors; from += CHUNK_SECTORS) {
      const count = Math.min(CHUNK_SECTORS, sectors - from);
      if ((await this.loadChunk(file, buffer, from, count)) < count * SECTOR_BYTES) return;
    }
  }

  /** Bytes that were there. */
  private async loadChunk(file: DiskFile, buffer: Uint8Array, from: number, count: number): Promise<number> {
    const wanted = count * SECTOR_BYTES;
    let length: number;
    try {
      length = await file.read(buffer, 0, wanted, from * SECTOR_BYTES);
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
      if (count === 1) {
        this.bits.setGroup(from, 'full');
        return wanted;
      }
      // One bad sector spoils no other.
      length = 0;
      for (let sector = from; sector < from + count; sector++) length += await this.loadChunk(file, buffer, sector, 1);
      return length;
    }
    for (let at = 0; at < length; at += SECTOR_BYTES) this.take(buffer, at, from + at / SECTOR_BYTES, length);
    return length;
  }

  private take(bytes: Uint8Array, at: number, sector: number, length: number): void {
    if (at + SECTOR_BYTES > length || !isSoundSector(bytes, at, SEED + sector, this.checksums)) {
      this.bits.setGroup(sector, 'full');
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
    this.bits.setGroup(
      sector,
      Uint32Array.from({ length: BLOCKS_PER_GROUP / 32 }, (_, word) => view.getUint32(4 * word, true)),
    );
  }

  add(first: BlockNumber, count: number): void {
    this.bits.add(first, count, this.note);
  }

  has(block: BlockNumber): boolean {
    return this.bits.has(block) || this.frozen?.has(block) === true;
  }

  countBelow(end: BlockNumber): number {
    if (this.frozen === undefined) return this.bits.countBelow(end);
    const all = this.bits.clone();
    all.addAll(this.frozen);
    return all.countBelow(end);
  }

  /** What differs stands aside for a round, and the bits begin anew. */
  freeze(): BlockSet {
    this.thaw();
    this.frozen = this.bits;
    this.bits = new BlockSet();
    return this.frozen;
  }

  /** The round is in the bucket: only what changed since it began differs from there. */
  committed(): void {
    for (const group of this.frozen?.groupNumbers() ?? []) this.changed.add(group);
    this.frozen = undefined;
  }

  /** The round was given up. */
  thaw(): void {
    if (this.frozen !== undefined) this.bits.addAll(this.frozen);
    this.frozen = undefined;
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
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, SECTOR_BYTES);
    const [bits, frozen] = [this.bits.group(sector), this.frozen?.group(sector)];
    for (let word = 0; word < BLOCKS_PER_GROUP / 32; word++)
      view.setUint32(4 * word, (bits?.[word] ?? 0) | (frozen?.[word] ?? 0), true);
    view.setUint32(SECTOR_BYTES - 4, sectorCrc(bytes, at, SEED + sector, this.checksums), true);
  }

  /** Nothing differs, and the file says so durably. */
  async clear(): Promise<void> {
    this.bits.clear();
    this.frozen = undefined;
    this.changed.clear();
    if (this.file === undefined && !(await this.disk.exists(DIRTY_FILE))) return;
    const file = await this.open();
    await written('clearing the dirty map', file.truncate(0));
    await synced('fdatasync of the dirty map', file.sync());
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
