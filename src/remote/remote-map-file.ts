/**
 * The file `map`: pages of map entries with their CRCs (docs/formats.md, "Remote map"; entries as in shard-map.ts).
 *
 *   offset  0  4096  header: magic "KGREMMAP" 8, format version 4, CRC-32C of the 4096 bytes with this field 0 4,
 *                    volume uuid 16, zeros 16 (reserved), position (segment-point.ts) 64, zeros
 *   offset 4096 + 266240 k   shard k (32768 blocks): a page of 64 page CRCs, then 64 pages of 512 entries
 *
 * A hole is a shard, or a page, whose blocks all read as zero: CRC 0 and only zero bytes. The header's position is the
 * recovery point that the pages show.
 *
 * Pages change together or not at all: `commit` first writes all of them to `map.redo`, fdatasyncs that, then writes them
 * in place; a redo file that is complete is applied again at the next opening. Redo records follow a header page like
 * the one above (magic "KGREDO01", records 8 and CRC of all record heads 4 in place of the reserved zeros):
 *
 *      0  8  page number, or first shard    8  4  page CRC, or shards    12  4  1: a page follows; 2: the shards are holes
 *
 * What of either is unsound or cannot be read gives rise to doubt (remote-map-header.ts). Failures to write pass as they are.
 */
import type { Disk, DiskFile } from '../ports/disk.js';
import { samePoint } from './chain.js';
import { decodeHeader, encodeHeader, MAP_MAGIC, MapDoubtError, readHeader, readOrDoubt } from './remote-map-header.js';
import type { MapFileOptions } from './remote-map-header.js';
import { completeRedo, MapChange, REDO_FILE, redoRecords } from './remote-map-redo.js';
import type { RedoRecord } from './remote-map-redo.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { MAP_PAGE_BYTES, mapPageSum, SHARD_BYTES, SHARD_PAGES } from './shard-map.js';
import type { MapShard } from './shard-map.js';

export const MAP_FILE = 'map';
const SHARD_SLOT_BYTES = MAP_PAGE_BYTES + SHARD_BYTES;
/** CRC pages kept in memory: 64 CRCs each. */
const SUM_PAGES_MAX = 8192;

export class MapFile {
  readonly #options: MapFileOptions;
  readonly #file: DiskFile;
  readonly #sums = new Map<number, Uint32Array>();
  #position: ChainPoint;
  #sizeBytes: number;
  /** Shards were put in place, and may not be durable yet. */
  #unsynced = false;

  private constructor(options: MapFileOptions, file: DiskFile, position: ChainPoint, sizeBytes: number) {
    this.#options = options;
    this.#file = file;
    this.#position = position;
    this.#sizeBytes = sizeBytes;
  }

  /**
   * Removes the map, in whatever state it is. First its pages, durably: they may show half of a change, and once map.redo
   * is gone nothing says so. Then map.redo, durably: it is not to be applied to the next map.
   */
  static async remove(disk: Disk): Promise<void> {
    for (const path of [MAP_FILE, REDO_FILE]) {
      if (!(await disk.exists(path))) continue;
      await disk.remove(path);
      await disk.syncDirectory('.');
    }
  }

  /** Makes an empty map, in place of any other; `position`: nowhere, if it is to be filled with `writeShard`. */
  static async create(options: MapFileOptions, position = chainOrigin): Promise<MapFile> {
    const { disk } = options;
    await MapFile.remove(disk);
    const file = await disk.open(MAP_FILE, { mode: 'write', create: true });
    await file.write([encodeHeader(MAP_MAGIC, options, position, 0, 0)], 0);
    await file.sync();
    await disk.syncDirectory('.');
    return new MapFile(options, file, position, MAP_PAGE_BYTES);
  }

  /** MapDoubtError when there is no sound map. */
  static async open(options: MapFileOptions): Promise<MapFile> {
    const { disk } = options;
    if (!(await disk.exists(MAP_FILE))) throw new MapDoubtError('there is no map');
    const file = await disk.open(MAP_FILE, { mode: 'write' });
    try {
      const head = decodeHeader(file.path, await readHeader(file), MAP_MAGIC, options);
      const map = new MapFile(options, file, head.position, await file.sizeBytes());
      await map.#redo();
      return map;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The recovery point that the pages show. */
  get position(): ChainPoint {
    return this.#position;
  }

  /** Reads pages of one shard, verified; MapDoubtError when one has rotted or cannot be read. */
  async readPages(first: number, count: number, target: Uint8Array, targetStart: number): Promise<void> {
    const sums = await this.#sumsOf(Math.floor(first / SHARD_PAGES));
    await this.#readOrZeros(target, targetStart, count * MAP_PAGE_BYTES, pagePosition(first));
    for (let at = 0; at < count; at++)
      this.#check(first + at, sums[(first + at) % SHARD_PAGES] ?? 0, target, targetStart + at * MAP_PAGE_BYTES);
  }

  /** A whole shard, verified, as it is sealed. */
  async readShard(shardIndex: number): Promise<MapShard> {
    const entries = new Uint8Array(SHARD_BYTES);
    await this.#readOrZeros(entries, 0, SHARD_BYTES, pagePosition(shardIndex * SHARD_PAGES));
    const pageSums = (await this.#sumsOf(shardIndex)).slice();
    for (let page = 0; page < SHARD_PAGES; page++) {
      const number = shardIndex * SHARD_PAGES + page;
      this.#check(number, pageSums[page] ?? 0, entries, page * MAP_PAGE_BYTES);
      pageSums[page] = mapPageSum(this.#options.checksums, number, entries, page * MAP_PAGE_BYTES);
    }
    return { shardIndex, entries, pageSums };
  }

  /** Shards that are not holes for certain, ascending. */
  async *shards(): AsyncGenerator<number, void, undefined> {
    const count = Math.ceil((this.#sizeBytes - MAP_PAGE_BYTES) / SHARD_SLOT_BYTES);
    for (let shard = 0; shard < count; shard++) {
      if ((await this.#sumsOf(shard)).some((sum) => sum !== 0)) yield shard;
    }
  }

  /** Puts a whole shard in place, while the map is being made: not atomic, and durable only with the next `commit`. */
  async writeShard(shard: MapShard): Promise<void> {
    this.#unsynced = true;
    const sums = new Uint8Array(MAP_PAGE_BYTES);
    encodeSums(sums, shard.pageSums);
    await this.#file.write([sums, shard.entries], pagePosition(shard.shardIndex * SHARD_PAGES) - MAP_PAGE_BYTES);
    this.#grow((shard.shardIndex + 1) * SHARD_PAGES);
    this.#remember(shard.shardIndex, shard.pageSums.slice());
  }

  /** Puts pages of one shard in place, and their CRCs: not atomic. */
  async #writePages({ first, pages, sums }: PageRun): Promise<void> {
    const shard = Math.floor(first / SHARD_PAGES);
    const all = (await this.#sumsOf(shard)).slice();
    all.set(sums, first % SHARD_PAGES);
    const sumBytes = new Uint8Array(SHARD_PAGES * 4);
    encodeSums(sumBytes, all);
    await this.#file.write(pages, pagePosition(first));
    await this.#file.write([sumBytes], pagePosition(shard * SHARD_PAGES) - MAP_PAGE_BYTES);
    this.#grow(first + pages.length);
    this.#remember(shard, all);
  }

  async #writeHoles(firstShard: number, count: number): Promise<void> {
    const start = pagePosition(firstShard * SHARD_PAGES) - MAP_PAGE_BYTES;
    const end = Math.min(this.#sizeBytes, start + count * SHARD_SLOT_BYTES);
    if (end > start) await this.#file.punch(start, end - start);
    for (const shard of this.#sums.keys())
      if (shard >= firstShard && shard < firstShard + count) this.#sums.delete(shard);
  }

  /** Begins a set of changes that leads to a new position. */
  async begin(): Promise<MapChange> {
    const { disk } = this.#options;
    if (await disk.exists(REDO_FILE)) await disk.remove(REDO_FILE);
    return new MapChange(this.#options, await disk.open(REDO_FILE, { mode: 'write', create: true }));
  }

  /** Makes a set of changes effective and durable. */
  async commit(change: MapChange, position: ChainPoint): Promise<void> {
    // Once it is sealed, an opening takes it for all that is missing for the position, whatever became of the shards.
    if (this.#unsynced) await this.#file.sync();
    this.#unsynced = false;
    await change.seal(position);
    await this.#options.disk.syncDirectory('.');
    await this.#redo();
    // Whoever goes on as if the pages showed it would count copies of blocks that are not there.
    if (!samePoint(this.#position, position)) throw new MapDoubtError('a sealed change was not applied');
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Applies a complete redo file; one that has no header yet was never decided. */
  async #redo(): Promise<void> {
    const { disk } = this.#options;
    if (!(await disk.exists(REDO_FILE))) return;
    const redo = await disk.open(REDO_FILE, { mode: 'read' });
    try {
      const head = await completeRedo(redo, this.#options);
      if (head !== undefined) {
        for await (const records of redoRecords(redo, head.records)) {
          for (const run of pageRuns(records)) {
            if ('pages' in run) await this.#writePages(run);
            else await this.#writeHoles(run.number, run.sum);
          }
        }
        await this.#file.sync();
        await this.#file.write([encodeHeader(MAP_MAGIC, this.#options, head.position, 0, 0)], 0);
        await this.#file.sync();
        this.#position = head.position;
      }
    } finally {
      await redo.close();
    }
    await disk.remove(REDO_FILE);
    await disk.syncDirectory('.');
  }

  async #sumsOf(shard: number): Promise<Uint32Array> {
    const known = this.#sums.get(shard);
    if (known !== undefined) return known;
    const bytes = new Uint8Array(SHARD_PAGES * 4);
    await this.#readOrZeros(bytes, 0, bytes.length, pagePosition(shard * SHARD_PAGES) - MAP_PAGE_BYTES);
    const view = new DataView(bytes.buffer);
    const sums = Uint32Array.from({ length: SHARD_PAGES }, (_, page) => view.getUint32(4 * page, true));
    this.#remember(shard, sums);
    return sums;
  }

  #remember(shard: number, sums: Uint32Array): void {
    if (this.#sums.size >= SUM_PAGES_MAX) this.#sums.clear();
    this.#sums.set(shard, sums);
  }

  async #readOrZeros(target: Uint8Array, start: number, lengthBytes: number, position: number): Promise<void> {
    // Of pages in the page cache, which compaction looks up one by one, a change of threads would cost twenty times the reading.
    if (this.#file.readNow(target, start, lengthBytes, position)) return;
    const got = position < this.#sizeBytes ? await readOrDoubt(this.#file, target, start, lengthBytes, position) : 0;
    target.fill(0, start + got, start + lengthBytes);
  }

  #check(page: number, sum: number, bytes: Uint8Array, start: number): void {
    const { checksums } = this.#options;
    if (sum === 0 && checksums.isZero(bytes, start, start + MAP_PAGE_BYTES)) return;
    if (mapPageSum(checksums, page, bytes, start) !== sum)
      throw new MapDoubtError(`page ${page} of the map has rotted`);
  }

  #grow(pages: number): void {
    this.#sizeBytes = Math.max(this.#sizeBytes, pagePosition(pages - 1) + MAP_PAGE_BYTES);
  }
}

/** Pages of one shard that follow each other. */
interface PageRun {
  readonly first: number;
  readonly pages: Uint8Array[];
  readonly sums: number[];
}

/** The records in their order, pages that belong together as one. */
function pageRuns(records: readonly RedoRecord[]): (PageRun | RedoRecord)[] {
  const runs: (PageRun | RedoRecord)[] = [];
  for (const record of records) {
    const { number, sum, page } = record;
    const last = runs.at(-1);
    if (page === undefined) runs.push(record);
    else if (
      last !== undefined &&
      'pages' in last &&
      number === last.first + last.pages.length &&
      number % SHARD_PAGES !== 0
    ) {
      last.pages.push(page);
      last.sums.push(sum);
    } else runs.push({ first: number, pages: [page], sums: [sum] });
  }
  return runs;
}

function pagePosition(page: number): number {
  const shard = Math.floor(page / SHARD_PAGES);
  return MAP_PAGE_BYTES + shard * SHARD_SLOT_BYTES + MAP_PAGE_BYTES * (1 + (page % SHARD_PAGES));
}

function encodeSums(target: Uint8Array, sums: Uint32Array): void {
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  sums.forEach((sum, at) => {
    view.setUint32(4 * at, sum, true);
  });
}
