/**
 * Which groups this directory has sent, durably noted before the segment that completes one is put: whatever complete group
 * lies in the bucket behind the head that the directory knows is its own exactly if it stands here. While the log holds
 * what was sent, the log itself tells (group-compare.ts); once it was let go, nothing else can.
 *
 * Links cannot be guessed or made twice, so a clone of the directory knows only what both had sent before they parted.
 *
 *   offset size  entry k of the file `sent`, at 512 k (little-endian)
 *        0    8  magic "KGSENT02"
 *        8    8  epoch
 *       16    8  number of the group's last segment
 *       24   32  link of that segment
 *       56    4  zeros
 *       60    4  CRC-32C of the 60 bytes before
 *       64  448  zeros
 *
 * An entry has a sector of its own: where the power is lost while one is written, only that one is lost.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, SECTOR_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import type { SegmentKey } from './name.js';
import { LINK_BYTES } from './seal.js';

const SENT_FILE = 'sent';
const MAGIC = 'KGSENT02';
const ENTRY_BYTES = SECTOR_BYTES;
const CRC_AT = 60;
/** Entries in the file at most, and how many of the newest stay then: far more than can be in flight or not yet in a superblock. */
const ENTRIES_MAX = 4096;
const ENTRIES_KEPT = 1024;

interface Entry extends SegmentKey {
  readonly link: Uint8Array;
}

export class SentGroups {
  readonly #disk: Disk;
  readonly #checksums: Checksums;
  #file: DiskFile;
  #entries: Entry[];
  /** Where the next entry goes. */
  #slots: number;
  #last: Promise<void> = Promise.resolve();

  private constructor(disk: Disk, checksums: Checksums, file: DiskFile, entries: Entry[], slots: number) {
    this.#disk = disk;
    this.#checksums = checksums;
    this.#file = file;
    this.#entries = entries;
    this.#slots = slots;
  }

  static async open(disk: Disk, checksums: Checksums): Promise<SentGroups> {
    const create = !(await disk.exists(SENT_FILE));
    const file = await disk.open(SENT_FILE, { mode: 'write', create, lane: 'sent' });
    if (create) await disk.syncDirectory('.');
    const bytes = new Uint8Array(await file.sizeBytes());
    await readWhole(file, bytes);
    const entries: Entry[] = [];
    for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
      const entry = decode(bytes.subarray(at, at + ENTRY_BYTES), checksums);
      // One that was torn had not completed its group.
      if (entry !== undefined) entries.push(entry);
    }
    return new SentGroups(disk, checksums, file, entries, Math.ceil(bytes.length / ENTRY_BYTES));
  }

  has(group: Entry): boolean {
    return this.#entries.some(
      ({ epoch, number, link }) => number === group.number && epoch === group.epoch && equalBytes(link, group.link),
    );
  }

  /** Resolves once the group is noted durably; only then may the segment that completes it be put. */
  add(group: Entry): Promise<void> {
    const { epoch, number } = group;
    const entry = { epoch, number, link: Uint8Array.from(group.link) };
    this.#last = this.#last.then(() => this.#write(entry));
    return this.#last;
  }

  async #write(entry: Entry): Promise<void> {
    if (this.#slots >= ENTRIES_MAX) await this.#shorten();
    await this.#file.write([encode(entry, this.#checksums)], this.#slots * ENTRY_BYTES);
    await this.#file.sync();
    this.#slots++;
    this.#entries.push(entry);
  }

  async #shorten(): Promise<void> {
    const kept = this.#entries.slice(-ENTRIES_KEPT);
    await this.#file.close();
    await this.#disk.writeSmall(SENT_FILE, Buffer.concat(kept.map((entry) => encode(entry, this.#checksums))));
    this.#file = await this.#disk.open(SENT_FILE, { mode: 'write', lane: 'sent' });
    this.#entries = kept;
    this.#slots = kept.length;
  }

  async close(): Promise<void> {
    await this.#last.catch(() => undefined);
    await this.#file.close();
  }
}

/** What cannot be read stays zeros: an entry of it is missed only by a group that nobody else knows of. */
async function readWhole(file: DiskFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES) {
    const end = Math.min(at + BLOCK_BYTES, bytes.length);
    if (await isRead(file, bytes, at, end)) continue;
    // One sector of it may be what cannot be read.
    for (let start = at; start < end; start += SECTOR_BYTES) {
      const until = Math.min(start + SECTOR_BYTES, end);
      if (!(await isRead(file, bytes, start, until))) bytes.fill(0, start, until);
    }
  }
}

async function isRead(file: DiskFile, bytes: Uint8Array, from: number, to: number): Promise<boolean> {
  try {
    await file.read(bytes, from, to - from, from);
    return true;
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'disk-failed') return false;
    throw error;
  }
}

function encode({ epoch, number, link }: Entry, checksums: Checksums): Uint8Array {
  const bytes = new Uint8Array(ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(Buffer.from(MAGIC, 'latin1'), 0);
  view.setBigUint64(8, BigInt(epoch), true);
  view.setBigUint64(16, BigInt(number), true);
  bytes.set(link, 24);
  view.setUint32(CRC_AT, checksums.crc32c(0, bytes, 0, CRC_AT), true);
  return bytes;
}

function decode(bytes: Uint8Array, checksums: Checksums): Entry | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, ENTRY_BYTES);
  if (Buffer.from(bytes.subarray(0, 8)).toString('latin1') !== MAGIC) return undefined;
  if (checksums.crc32c(0, bytes, 0, CRC_AT) !== view.getUint32(CRC_AT, true)) return undefined;
  const [epoch, number] = [view.getBigUint64(8, true), view.getBigUint64(16, true)];
  return { epoch: Number(epoch), number: Number(number), link: bytes.slice(24, 24 + LINK_BYTES) };
}
