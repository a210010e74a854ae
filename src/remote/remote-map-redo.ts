/**
 * The file `map.redo`: a change of the map on its way (layout in remote-map-file.ts). It is written and read here; who
 * applies it is MapFile.
 */
import { ByteWriter } from '../base/bytes.js';
import { MIB } from '../base/units.js';
import { getU64 } from '../engine/log-format.js';
import type { DiskFile } from '../ports/disk.js';
import { decodeHeader, encodeHeader, MapDoubtError, readHeader, readOrDoubt, REDO_MAGIC } from './remote-map-header.js';
import type { MapFileOptions, MapHeader } from './remote-map-header.js';
import type { ChainPoint } from './segment-point.js';
import { MAP_PAGE_BYTES, mapPageSum } from './shard-map.js';

export const REDO_FILE = 'map.redo';
const RECORD_HEAD_BYTES = 16;
const RECORD_PAGE = 1;
const RECORD_HOLES = 2;

/** A page with its CRC; or, without a page, `sum` shards from `number` on that are holes. */
export interface RedoRecord {
  readonly number: number;
  readonly sum: number;
  readonly head: Uint8Array;
  readonly page: Uint8Array | undefined;
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

/**
 * The header of a redo file whose every record is there; undefined for one that was not finished. The header is written
 * last, so that nothing was decided as long as it is zero. One that is anything else, or cannot be read, may have been
 * decided, and half of it applied.
 */
export async function completeRedo(file: DiskFile, options: MapFileOptions): Promise<MapHeader | undefined> {
  const { checksums } = options;
  const bytes = await readHeader(file);
  if (checksums.isZero(bytes, 0, bytes.length)) return undefined;
  const head = decodeHeader(file.path, bytes, REDO_MAGIC, options);
  let crc = 0;
  for await (const records of redoRecords(file, head.records)) {
    for (const { number, sum, head: recordHead, page } of records) {
      crc = checksums.crc32c(crc, recordHead, 0, RECORD_HEAD_BYTES);
      if (page === undefined || (sum === 0 && checksums.isZero(page, 0, page.length))) continue;
      if (mapPageSum(checksums, number, page, 0) !== sum)
        throw new MapDoubtError('a decided change of the map has rotted');
    }
  }
  if (crc !== head.headsCrc) throw new MapDoubtError('a decided change of the map has rotted');
  return head;
}

/** As many at a time as a buffer holds, which is used again for the next. */
export async function* redoRecords(
  file: DiskFile,
  count: number,
): AsyncGenerator<readonly RedoRecord[], void, undefined> {
  const buffer = new Uint8Array(Math.min(MIB, count * (RECORD_HEAD_BYTES + MAP_PAGE_BYTES)));
  let at = MAP_PAGE_BYTES;
  for (let left = count; left > 0;) {
    const records: RedoRecord[] = [];
    let used = 0;
    const got = await readOrDoubt(file, buffer, 0, buffer.length, at);
    while (records.length < left) {
      const record = recordAt(buffer.subarray(used, got));
      if (record === undefined) break;
      records.push(record);
      used += RECORD_HEAD_BYTES + (record.page?.length ?? 0);
    }
    if (records.length === 0) throw new MapDoubtError('a redo file is cut');
    yield records;
    left -= records.length;
    at += used;
  }
}

/** undefined: not all of it is there. */
function recordAt(bytes: Uint8Array): RedoRecord | undefined {
  if (bytes.length < RECORD_HEAD_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_HEAD_BYTES);
  const [number, sum, kind] = [getU64(view, 0), view.getUint32(8, true), view.getUint32(12, true)];
  if (number === undefined || (kind !== RECORD_PAGE && kind !== RECORD_HOLES))
    throw new MapDoubtError('a redo record is none');
  const head = bytes.subarray(0, RECORD_HEAD_BYTES);
  if (kind === RECORD_HOLES) return { number, sum, head, page: undefined };
  if (bytes.length < RECORD_HEAD_BYTES + MAP_PAGE_BYTES) return undefined;
  return { number, sum, head, page: bytes.subarray(RECORD_HEAD_BYTES, RECORD_HEAD_BYTES + MAP_PAGE_BYTES) };
}
