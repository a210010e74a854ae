/**
 * A copy of the batches that a recovery writes again, durable before it touches them.
 *
 * Writing them again is needed because, after a failed fsync, the page cache may show what the disk does not have. But
 * most of them are on the disk, perhaps flushed and acknowledged; and a sector that is being written when the power goes
 * may be lost (P1). The copy gives it back.
 *
 * They are written again a piece at a time, each copied before: so that the room of one piece, which an earlier opening has
 * reserved, is enough on a disk that is full. A copy that the next one was about to replace does no harm, in whatever
 * mixture with that: what it says of a place in the log is what stands there, until the next superblock.
 *
 *   file `log/copy`: for each batch a page of 4096 bytes and then the batch; at the end a page with length 0
 *
 *   offset size  page (little-endian)
 *        0    8  magic "KGLCOPY1"
 *        8    4  CRC-32C of the page with this field 0
 *       12    4  CRC-32C of the batch
 *       16    8  generation of the superblock that recovery began with
 *       24    8  log file
 *       32    8  byte offset in it
 *       40    8  length in bytes; 0: the end, the copy is complete
 *
 * It counts while no newer superblock than that one is there: nothing else is written to the log before the next one. An older
 * one may be all that can be read, when the newest was torn as it was written again.
 */
import { BLOCK_BYTES, MIB } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { synced } from './disk-outcome.js';
import { getU64, putU64 } from './log-format.js';
import type { LogFiles } from './log-files.js';
import { LOG_DIRECTORY } from './volume-directory-format.js';

const COPY_FILE = `${LOG_DIRECTORY}/copy`;
const MAGIC = 'KGLCOPY1';
const CRC_AT = 8;
/** Of a copy: a few batches of the largest kind. */
export const COPY_BYTES = 4 * MIB;

interface Entry {
  readonly file: number;
  readonly offset: number;
  readonly lengthBytes: number;
  readonly crc: number;
}

interface FoundEntry extends Entry {
  readonly generation: number;
}

export class LogCopy {
  private readonly file: DiskFile;
  private readonly checksums: Checksums;
  private readonly generation: number;
  private at = 0;

  private constructor(file: DiskFile, checksums: Checksums, generation: number) {
    this.file = file;
    this.checksums = checksums;
    this.generation = generation;
  }

  static async create(disk: Disk, checksums: Checksums, generation: number): Promise<LogCopy> {
    const create = !(await disk.exists(COPY_FILE));
    const file = await disk.open(COPY_FILE, { mode: 'write', create, lane: 'log' });
    if (create) await disk.syncDirectory(LOG_DIRECTORY);
    return new LogCopy(file, checksums, generation);
  }

  /** Makes room for one, for an opening on a disk that is full by then. disk-full: an opening then needs room. */
  static async reserve(disk: Disk): Promise<void> {
    const create = !(await disk.exists(COPY_FILE));
    const file = await disk.open(COPY_FILE, { mode: 'write', create, lane: 'log' });
    try {
      await file.allocate(0, COPY_BYTES);
      if (create) await synced('fsync of the log directory', disk.syncDirectory(LOG_DIRECTORY));
    } finally {
      await file.close();
    }
  }

  /** Whether one more batch keeps it within what is reserved; the first always fits. */
  hasRoomFor(batchBytes: number): boolean {
    return this.at === 0 || this.at + BLOCK_BYTES + batchBytes + BLOCK_BYTES <= COPY_BYTES;
  }

  /** The next piece takes the place of this one, which is durable in the log by now. */
  begin(): void {
    this.at = 0;
  }

  async add(file: number, offset: number, batch: Uint8Array): Promise<void> {
    const crc = this.checksums.crc32c(0, batch, 0, batch.length);
    await this.file.write([this.page({ file, offset, lengthBytes: batch.length, crc }), batch], this.at);
    this.at += BLOCK_BYTES + batch.length;
  }

  /** Complete and durable from here on. */
  async finish(): Promise<void> {
    await this.file.write([this.page({ file: 0, offset: 0, lengthBytes: 0, crc: 0 })], this.at);
    await this.file.sync();
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private page({ file, offset, lengthBytes, crc }: Entry): Uint8Array {
    const bytes = new Uint8Array(BLOCK_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(Buffer.from(MAGIC, 'latin1'));
    view.setUint32(12, crc, true);
    putU64(view, 16, this.generation);
    putU64(view, 24, file);
    putU64(view, 32, offset);
    putU64(view, 40, lengthBytes);
    view.setUint32(CRC_AT, this.checksums.crc32c(0, bytes, 0, BLOCK_BYTES), true);
    return bytes;
  }
}

/** Puts back, durably, what a recovery was writing again when it was cut off; how many batches those were. */
export async function repairFromCopy(
  disk: Disk,
  checksums: Checksums,
  generation: number,
  files: LogFiles,
): Promise<number> {
  if (!(await disk.exists(COPY_FILE))) return 0;
  const copy = await disk.open(COPY_FILE, { mode: 'write', lane: 'log' });
  try {
    const entries: { readonly entry: FoundEntry; readonly at: number }[] = [];
    for (let at = 0; ;) {
      const entry = await readEntry(copy, at, checksums);
      if (entry === undefined || entry.generation < generation) return 0;
      if (entry.generation !== (entries[0]?.entry.generation ?? entry.generation)) return 0;
      if (entry.lengthBytes === 0) break;
      entries.push({ entry, at: at + BLOCK_BYTES });
      at += BLOCK_BYTES + entry.lengthBytes;
    }
    // Whoever made it may have been killed before it was durable.
    if (entries.length > 0) await copy.sync();
    const touched = new Set<number>();
    for (const { entry, at } of entries) {
      const batch = new Uint8Array(entry.lengthBytes);
      // A copy that another one was about to replace may be torn: then what is in the log is sound.
      const got = await copy.read(batch, 0, batch.length, at).catch(() => 0);
      if (got !== batch.length || checksums.crc32c(0, batch, 0, got) !== entry.crc) continue;
      await files.handle(entry.file).write([batch], entry.offset);
      touched.add(entry.file);
    }
    await Promise.all([...touched].map((file) => files.handle(file).sync()));
    return entries.length;
  } finally {
    await copy.close();
  }
}

async function readEntry(copy: DiskFile, at: number, checksums: Checksums): Promise<FoundEntry | undefined> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const view = new DataView(bytes.buffer);
  // What cannot be read was being written, so that nothing in the log had been touched yet.
  const got = await copy.read(bytes, 0, BLOCK_BYTES, at).catch(() => 0);
  if (got !== BLOCK_BYTES || Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== MAGIC) return undefined;
  const own = view.getUint32(CRC_AT, true);
  view.setUint32(CRC_AT, 0, true);
  const generation = getU64(view, 16);
  if (checksums.crc32c(0, bytes, 0, BLOCK_BYTES) !== own || generation === undefined) return undefined;
  const [file, offset, lengthBytes] = [getU64(view, 24), getU64(view, 32), getU64(view, 40)];
  if (file === undefined || offset === undefined || lengthBytes === undefined) return undefined;
  return { file, offset, lengthBytes, crc: view.getUint32(12, true), generation };
}
