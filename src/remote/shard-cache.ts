/**
 * Map shards that were fetched for a restored volume, on its own disk, so that each comes from the bucket once (file
 * `restore-map`, docs/formats.md, "Shard cache"). Slot k, of 512 + 262144 bytes, is for shard k:
 *
 *      0   8  magic "KGRESMAP"
 *      8   4  format version
 *     12   4  CRC32C(le64(k) || these 512 bytes with this field 0)
 *     16  32  link of the shard (shard-map.ts)
 *     48 256  CRC of each of its 64 pages
 *    304      zeros
 *    512      64 pages of entries
 *
 * It is a cache and nothing else: a slot counts only for whoever asks for the very link that it names, a page only with
 * the CRC that came with the shard. Anything else, after a crash too, is a miss; nothing here is ever synced.
 */
import { ByteWriter, equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { LINK_BYTES } from './seal.js';
import { MAP_PAGE_BYTES, mapPageSum, SHARD_BYTES, SHARD_PAGES } from './shard-map.js';
import type { MapShard } from './shard-map.js';

export const SHARD_CACHE_FILE = 'restore-map';
const MAGIC = new TextEncoder().encode('KGRESMAP');
const VERSION = 1;
const CRC_AT = 12;
const LINK_AT = 16;
const SUMS_AT = LINK_AT + LINK_BYTES;
const HEAD_BYTES = 512;
const SLOT_BYTES = HEAD_BYTES + SHARD_BYTES;
/** Heads that are kept in memory. */
const HEADS_MAX = 16_384;

interface Head {
  readonly link: Uint8Array;
  readonly pageSums: Uint32Array;
}

export class ShardCache {
  readonly #checksums: Checksums;
  /** undefined: the disk does not let us have one, and everything is a miss. */
  readonly #file: DiskFile | undefined;
  /** undefined: the slot holds nothing. */
  readonly #heads = new Map<number, Head | undefined>();
  #closed = false;
  readonly #running = new Set<Promise<unknown>>();

  private constructor(checksums: Checksums, file: DiskFile | undefined) {
    this.#checksums = checksums;
    this.#file = file;
  }

  /** Takes over what is there already. On a full disk it keeps nothing: reads of what is in the bucket only need no space. */
  static async open(disk: Disk, checksums: Checksums): Promise<ShardCache> {
    try {
      const create = !(await disk.exists(SHARD_CACHE_FILE));
      return new ShardCache(checksums, await disk.open(SHARD_CACHE_FILE, { mode: 'write', create }));
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'disk-full') throw error;
      return new ShardCache(checksums, undefined);
    }
  }

  static async remove(disk: Disk): Promise<void> {
    if (await disk.exists(SHARD_CACHE_FILE)) await disk.remove(SHARD_CACHE_FILE);
  }

  /** Page `page` of the whole map, as the shard with that link has it; false: it is not here. */
  async readPage(link: Uint8Array, page: number, target: Uint8Array): Promise<boolean> {
    const shard = Math.floor(page / SHARD_PAGES);
    const at = page % SHARD_PAGES;
    const head = await this.#head(shard);
    if (this.#closed || head === undefined || !equalBytes(head.link, link)) return false;
    const position = shard * SLOT_BYTES + HEAD_BYTES + at * MAP_PAGE_BYTES;
    if (!(await this.#read(target, position)) || mapPageSum(this.#checksums, page, target, 0) !== head.pageSums[at]) {
      this.#heads.set(shard, undefined);
      return false;
    }
    return true;
  }

  /** False: the disk does not let us keep it. */
  async write(link: Uint8Array, { shardIndex, entries, pageSums }: MapShard): Promise<boolean> {
    const head = this.#encode(shardIndex, { link, pageSums });
    this.#remember(shardIndex, undefined);
    if (this.#closed || this.#file === undefined) return false;
    try {
      await this.#track(this.#file.write([head, entries], shardIndex * SLOT_BYTES));
    } catch (error) {
      if (error instanceof GatewayError) return false;
      throw error;
    }
    this.#remember(shardIndex, { link, pageSums });
    return true;
  }

  /** From now on everything is a miss. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#running);
    await this.#file?.close();
  }

  async #head(shard: number): Promise<Head | undefined> {
    if (this.#heads.has(shard)) return this.#heads.get(shard);
    const bytes = new Uint8Array(HEAD_BYTES);
    const head = (await this.#read(bytes, shard * SLOT_BYTES)) ? this.#decode(shard, bytes) : undefined;
    this.#remember(shard, head);
    return head;
  }

  #remember(shard: number, head: Head | undefined): void {
    if (this.#heads.size >= HEADS_MAX) this.#heads.clear();
    this.#heads.set(shard, head);
  }

  /** False: it cannot be read, or the file ends before. */
  async #read(target: Uint8Array, position: number): Promise<boolean> {
    if (this.#closed || this.#file === undefined) return false;
    if (this.#file.readNow(target, 0, target.length, position)) return true;
    try {
      return (await this.#track(this.#file.read(target, 0, target.length, position))) === target.length;
    } catch (error) {
      if (error instanceof GatewayError) return false;
      throw error;
    }
  }

  #track<Result>(work: Promise<Result>): Promise<Result> {
    this.#running.add(work);
    const over = (): void => void this.#running.delete(work);
    work.then(over, over);
    return work;
  }

  #encode(shard: number, { link, pageSums }: Head): Uint8Array {
    const writer = new ByteWriter(HEAD_BYTES);
    writer.bytes(MAGIC);
    writer.u32(VERSION);
    writer.u32(0);
    writer.bytes(link);
    for (const sum of pageSums) writer.u32(sum);
    writer.zeros(HEAD_BYTES - writer.lengthBytes);
    const bytes = writer.finish();
    new DataView(bytes.buffer, bytes.byteOffset).setUint32(CRC_AT, this.#crcOf(shard, bytes), true);
    return bytes;
  }

  #decode(shard: number, bytes: Uint8Array): Head | undefined {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const crc = view.getUint32(CRC_AT, true);
    view.setUint32(CRC_AT, 0, true);
    if (!equalBytes(bytes.subarray(0, MAGIC.length), MAGIC) || view.getUint32(MAGIC.length, true) !== VERSION) {
      return undefined;
    }
    if (this.#crcOf(shard, bytes) !== crc) return undefined;
    const pageSums = Uint32Array.from({ length: SHARD_PAGES }, (_, page) => view.getUint32(SUMS_AT + 4 * page, true));
    return { link: bytes.slice(LINK_AT, SUMS_AT), pageSums };
  }

  #crcOf(shard: number, head: Uint8Array): number {
    const seed = new Uint8Array(8);
    new DataView(seed.buffer).setBigUint64(0, BigInt(shard), true);
    return this.#checksums.crc32c(this.#checksums.crc32c(0, seed, 0, 8), head, 0, HEAD_BYTES);
  }
}
