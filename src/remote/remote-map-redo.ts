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
export const RECORD_HOLES = 2;

export interface RedoRecord {
  readonly number: number;
  readonly sum: number;
  readonly kind: number;
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
  await eachRecord(file, head.records, (record, page, recordHead) => {
    crc = checksums.crc32c(crc, recordHead, 0, RECORD_HEAD_BYTES);
    const zero = record.sum === 0 && checksums.isZero(page, 0, page.length);
    const sound = record.kind === RECORD_HOLES || zero || mapPageSum(checksums, record.number, page, 0) === record.sum;
    if (!sound) throw new MapDoubtError('a decided change of the map has rotted');
    return Promise.resolve();
  });
  if (crc !== head.headsCrc) throw new MapDoubtError('a decided change of the map has rotted');
  return head;
}

export async function eachRecord(
  file: DiskFile,
  records: number,
  visit: (record: RedoRecord, page: Uint8Array, head: Uint8Array) => Promise<void>,
): Promise<void> {
  const head = new Uint8Array(RECORD_HEAD_BYTES);
  const headView = new DataView(head.buffer);
  const page = new Uint8Array(MAP_PAGE_BYTES);
  let at = MAP_PAGE_BYTES;
  for (let record = 0; record < records; record++) {
    if ((await readOrDoubt(file, head, 0, RECORD_HEAD_BYTES, at)) !== RECORD_HEAD_BYTES)
      throw new MapDoubtError('a redo file is cut');
    const [number, sum, kind] = [getU64(headView, 0), headView.getUint32(8, true), headView.getUint32(12, true)];
    if (number === undefined || (kind !== RECORD_PAGE && kind !== RECORD_HOLES))
      throw new MapDoubtError('a redo record is none');
    const fields = { number, sum, kind };
    at += RECORD_HEAD_BYTES;
    if (fields.kind === RECORD_PAGE) {
      if ((await readOrDoubt(file, page, 0, MAP_PAGE_BYTES, at)) !== MAP_PAGE_BYTES)
        throw new MapDoubtError('a redo file is cut');
      at += MAP_PAGE_BYTES;
    }
    await visit(fields, page, head);
  }
}
