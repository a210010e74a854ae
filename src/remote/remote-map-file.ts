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
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { MIB } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { samePoint } from './chain.js';
import { uuidBytes } from './seal.js';
import { chainOrigin, readPoint, writePoint } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { MAP_PAGE_BYTES, mapPageSum, SHARD_BYTES, SHARD_PAGES } from './shard-map.js';
import type { MapShard } from './shard-map.js';

export const MAP_FILE = 'map';
const REDO_FILE = 'map.redo';
const MAP_MAGIC = 'KGREMMAP';
const REDO_MAGIC = 'KGREDO01';
const VERSION = 1;
const CRC_AT = 12;
const SHARD_SLOT_BYTES = MAP_PAGE_BYTES + SHARD_BYTES;
const RECORD_HEAD_BYTES = 16;
const RECORD_PAGE = 1;
const RECORD_HOLES = 2;
/** CRC pages kept in memory: 64 CRCs each. */
const SUM_PAGES_MAX = 8192;

export interface MapFileOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly uuid: string;
}

/** Not there, of another volume, or damaged: it is made again from a checkpoint. */
export class MapDoubtError extends Error {
  override readonly name = 'MapDoubtError';
}

export class MapFile {
  readonly #options: MapFileOptions;
  readonly #file: DiskFile;
  readonly #sums = new Map<number, Uint32Array>();
  #position: ChainPoint;
  #sizeBytes: number;

  private constructor(options: MapFileOptions, file: DiskFile, position: ChainPoint, sizeBytes: number) {
    this.#options = options;
    this.#file = file;
    this.#position = position;
    this.#sizeBytes = sizeBytes;
  }

  /** Makes an empty map, in place of any other. */
  static async create(options: MapFileOptions): Promise<MapFile> {
    const { disk } = options;
    for (const path of [REDO_FILE, MAP_FILE]) if (await disk.exists(path)) await disk.remove(path);
    const file = await disk.open(MAP_FILE, { mode: 'write', create: true });
    await file.write([encodeHeader(MAP_MAGIC, options, chainOrigin, 0, 0)], 0);
    await file.sync();
    await disk.syncDirectory('.');
    return new MapFile(options, file, chainOrigin, MAP_PAGE_BYTES);
  }

  /** MapDoubtError when there is no sound map. */
  static async open(options: MapFileOptions): Promise<MapFile> {
    const { disk } = options;
    if (!(await disk.exists(MAP_FILE))) throw new MapDoubtError('there is no map');
    const file = await disk.open(MAP_FILE, { mode: 'write' });
    try {
      const head = await readHeader(file, MAP_MAGIC, options);
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

  /** Reads a page, verified; MapDoubtError when it has rotted. */
  async readPage(page: number, target: Uint8Array, targetStart: number): Promise<void> {
    const shard = Math.floor(page / SHARD_PAGES);
    const sum = (await this.#sumsOf(shard))[page % SHARD_PAGES] ?? 0;
    await this.#readOrZeros(target, targetStart, MAP_PAGE_BYTES, pagePosition(page));
    this.#check(page, sum, target, targetStart);
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

  /** Puts a whole shard in place, while the map is being made: not atomic. */
  async writeShard(shard: MapShard): Promise<void> {
    const sums = new Uint8Array(MAP_PAGE_BYTES);
    encodeSums(sums, shard.pageSums);
    await this.#file.write([sums, shard.entries], pagePosition(shard.shardIndex * SHARD_PAGES) - MAP_PAGE_BYTES);
    this.#grow((shard.shardIndex + 1) * SHARD_PAGES);
    this.#remember(shard.shardIndex, shard.pageSums.slice());
  }

  /** Puts a page in place, while the map is being made: not atomic. Its CRC follows with `writeSums`. */
  async #writePage(page: number, sum: number, bytes: Uint8Array, start: number): Promise<void> {
    const shard = Math.floor(page / SHARD_PAGES);
    const sums = (await this.#sumsOf(shard)).slice();
    sums[page % SHARD_PAGES] = sum;
    const sumBytes = new Uint8Array(SHARD_PAGES * 4);
    encodeSums(sumBytes, sums);
    await this.#file.write([bytes.subarray(start, start + MAP_PAGE_BYTES)], pagePosition(page));
    await this.#file.write([sumBytes], pagePosition(shard * SHARD_PAGES) - MAP_PAGE_BYTES);
    this.#grow(page + 1);
    this.#remember(shard, sums);
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
    await change.seal(position);
    await this.#options.disk.syncDirectory('.');
    await this.#redo();
    // Whoever goes on as if the pages showed it would count copies of blocks that are not there.
    if (!samePoint(this.#position, position)) throw new MapDoubtError('a sealed change was not applied');
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** Applies a complete redo file; anything else there was never decided. */
  async #redo(): Promise<void> {
    const { disk } = this.#options;
    if (!(await disk.exists(REDO_FILE))) return;
    const redo = await disk.open(REDO_FILE, { mode: 'read' });
    try {
      const head = await completeRedo(redo, this.#options);
      if (head !== undefined) {
        await eachRecord(redo, head.records, async (record, page) => {
          if (record.kind === RECORD_HOLES) await this.#writeHoles(record.number, record.sum);
          else await this.#writePage(record.number, record.sum, page, 0);
        });
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
    const got = position < this.#sizeBytes ? await this.#file.read(target, start, lengthBytes, position) : 0;
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

/** Changes on their way to the redo file. */
export class MapChange {
  readonly #options: MapFileOptions;
  readonly #file: DiskFile;
  #writer = new ByteWriter(MIB);
  #at = MAP_PAGE_BYTES;
  #records = 0;
  #headsCrc = 0;

  constructor(options: MapFileOptions, file: DiskFile) {
    this.#options = options;
    this.#file = file;
  }

  async page(number: number, bytes: Uint8Array, start: number): Promise<void> {
    const zero = this.#options.checksums.isZero(bytes, start, start + MAP_PAGE_BYTES);
    const sum = zero ? 0 : mapPageSum(this.#options.checksums, number, bytes, start);
    this.#head(number, sum, RECORD_PAGE);
    this.#writer.bytes(bytes.subarray(start, start + MAP_PAGE_BYTES));
    if (this.#writer.lengthBytes >= MIB) await this.#write();
  }

  holes(firstShard: number, count: number): void {
    this.#head(firstShard, count, RECORD_HOLES);
  }

  /** Complete and durable: from here on the change will be applied. */
  async seal(position: ChainPoint): Promise<void> {
    await this.#write();
    await this.#file.sync();
    await this.#file.write([encodeHeader(REDO_MAGIC, this.#options, position, this.#records, this.#headsCrc)], 0);
    await this.#file.sync();
    await this.#file.close();
  }

  /** Gives the change up; an unsealed redo file is ignored. */
  async discard(): Promise<void> {
    await this.#file.close();
  }

  #head(number: number, sum: number, kind: number): void {
    const head = new ByteWriter(RECORD_HEAD_BYTES);
    head.u64(number);
    head.u32(sum);
    head.u32(kind);
    const bytes = head.finish();
    this.#headsCrc = this.#options.checksums.crc32c(this.#headsCrc, bytes, 0, bytes.length);
    this.#writer.bytes(bytes);
    this.#records++;
  }

  async #write(): Promise<void> {
    const bytes = this.#writer.finish();
    this.#writer = new ByteWriter(MIB + 2 * MAP_PAGE_BYTES);
    await this.#file.write([bytes], this.#at);
    this.#at += bytes.length;
  }
}

interface Head {
  readonly position: ChainPoint;
  readonly records: number;
  readonly headsCrc: number;
}

interface RedoRecord {
  readonly number: number;
  readonly sum: number;
  readonly kind: number;
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

function encodeHeader(
  magic: string,
  options: MapFileOptions,
  position: ChainPoint,
  records: number,
  headsCrc: number,
): Uint8Array {
  const writer = new ByteWriter(MAP_PAGE_BYTES);
  writer.bytes(new TextEncoder().encode(magic));
  writer.u32(VERSION);
  writer.u32(0);
  writer.bytes(uuidBytes(options.uuid));
  writer.u64(records);
  writer.u32(headsCrc);
  writer.u32(0);
  writePoint(writer, position);
  writer.zeros(MAP_PAGE_BYTES - writer.lengthBytes);
  const bytes = writer.finish();
  const crc = options.checksums.crc32c(0, bytes, 0, MAP_PAGE_BYTES);
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(CRC_AT, crc, true);
  return bytes;
}

async function readHeader(file: DiskFile, magic: string, options: MapFileOptions): Promise<Head> {
  const bytes = new Uint8Array(MAP_PAGE_BYTES);
  const got = await file.read(bytes, 0, MAP_PAGE_BYTES, 0);
  const view = new DataView(bytes.buffer);
  const found = new TextDecoder().decode(bytes.subarray(0, 8));
  const version = view.getUint32(8, true);
  if (found === magic && version > VERSION) {
    throw new GatewayError('format-newer', `${file.path} has format version ${version}; this program reads ${VERSION}`);
  }
  // Before anything is made of the numbers: those of a torn page may be none.
  const crc = view.getUint32(CRC_AT, true);
  view.setUint32(CRC_AT, 0, true);
  const sound = got === MAP_PAGE_BYTES && options.checksums.crc32c(0, bytes, 0, MAP_PAGE_BYTES) === crc;
  if (!sound || found !== magic) throw new MapDoubtError(`${file.path} has no sound header`);
  const reader = new ByteReader(bytes.subarray(CRC_AT + 4), file.path);
  const uuid = Buffer.from(reader.bytes(16));
  const records = reader.u64();
  const headsCrc = reader.u32();
  reader.u32();
  const position = readPoint(reader);
  if (!uuid.equals(uuidBytes(options.uuid))) throw new MapDoubtError(`${file.path} is another volume’s`);
  return { position, records, headsCrc };
}

/** The header of a redo file whose every record is there; undefined for one that was not finished. */
async function completeRedo(file: DiskFile, options: MapFileOptions): Promise<Head | undefined> {
  let head: Head;
  try {
    head = await readHeader(file, REDO_MAGIC, options);
  } catch (error) {
    // A torn or missing header page: the change was never decided. One that cannot be read says nothing.
    if (!(error instanceof MapDoubtError)) throw error;
    return undefined;
  }
  const { checksums } = options;
  let crc = 0;
  await eachRecord(file, head.records, (record, page, bytes) => {
    crc = checksums.crc32c(crc, bytes, 0, RECORD_HEAD_BYTES);
    const zero = record.sum === 0 && checksums.isZero(page, 0, page.length);
    const sound = record.kind === RECORD_HOLES || zero || mapPageSum(checksums, record.number, page, 0) === record.sum;
    if (!sound) throw new MapDoubtError('a decided change of the map has rotted');
    return Promise.resolve();
  });
  if (crc !== head.headsCrc) throw new MapDoubtError('a decided change of the map has rotted');
  return head;
}

async function eachRecord(
  file: DiskFile,
  records: number,
  visit: (record: RedoRecord, page: Uint8Array, head: Uint8Array) => Promise<void>,
): Promise<void> {
  const head = new Uint8Array(RECORD_HEAD_BYTES);
  const page = new Uint8Array(MAP_PAGE_BYTES);
  let at = MAP_PAGE_BYTES;
  for (let record = 0; record < records; record++) {
    if ((await file.read(head, 0, RECORD_HEAD_BYTES, at)) !== RECORD_HEAD_BYTES)
      throw new MapDoubtError('a redo file is cut');
    const reader = new ByteReader(head, file.path);
    const fields = { number: reader.u64(), sum: reader.u32(), kind: reader.u32() };
    if (fields.kind !== RECORD_PAGE && fields.kind !== RECORD_HOLES)
      throw new MapDoubtError('a redo record has no known kind');
    at += RECORD_HEAD_BYTES;
    if (fields.kind === RECORD_PAGE) {
      if ((await file.read(page, 0, MAP_PAGE_BYTES, at)) !== MAP_PAGE_BYTES)
        throw new MapDoubtError('a redo file is cut');
      at += MAP_PAGE_BYTES;
    }
    await visit(fields, page, head);
  }
}
