/**
 * The first page of `map` and of `map.redo` (remote-map-file.ts), and how both are read: they are a cache of the bucket, so
 * that what of them is unsound, or what the disk cannot read, gives rise to doubt, never to an error of the disk.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { LINK_BYTES, uuidBytes } from './seal.js';
import { readPoint, writePoint } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { MAP_PAGE_BYTES } from './shard-map.js';

export const MAP_MAGIC = 'KGREMMAP';
export const REDO_MAGIC = 'KGREDO01';
const VERSION = 1;
const CRC_AT = 12;

export interface MapFileOptions {
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly uuid: string;
}

/** Not there, of another volume, damaged or unreadable: it is made again from a checkpoint. */
export class MapDoubtError extends Error {
  override readonly name = 'MapDoubtError';
}

export interface MapHeader {
  readonly position: ChainPoint;
  readonly records: number;
  readonly headsCrc: number;
}

/** What the disk cannot read is in the bucket as well. */
export async function readOrDoubt(
  file: DiskFile,
  target: Uint8Array,
  start: number,
  lengthBytes: number,
  position: number,
): Promise<number> {
  try {
    return await file.read(target, start, lengthBytes, position);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'disk-failed') throw error;
    throw new MapDoubtError(`the map cannot be read: ${error.message}`, { cause: error });
  }
}

/** The header page of a file; zeros where it is shorter. */
export async function readHeader(file: DiskFile): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(MAP_PAGE_BYTES);
  await readOrDoubt(file, bytes, 0, MAP_PAGE_BYTES, 0);
  return bytes;
}

/** MapDoubtError unless it is sound and this volume’s; format-newer. */
export function decodeHeader(
  path: string,
  bytes: Uint8Array<ArrayBuffer>,
  magic: string,
  options: MapFileOptions,
): MapHeader {
  const view = new DataView(bytes.buffer);
  const found = new TextDecoder().decode(bytes.subarray(0, 8));
  // Before anything is made of the numbers: those of a torn page may be none, and a newer version a bit that flipped.
  const crc = view.getUint32(CRC_AT, true);
  view.setUint32(CRC_AT, 0, true);
  const sound = options.checksums.crc32c(0, bytes, 0, MAP_PAGE_BYTES) === crc;
  if (!sound || found !== magic) throw new MapDoubtError(`${path} has no sound header`);
  const version = view.getUint32(8, true);
  if (version > VERSION) {
    throw new GatewayError('format-newer', `${path} has format version ${version}; this program reads ${VERSION}`);
  }
  const reader = new ByteReader(bytes.subarray(CRC_AT + 4), path);
  const uuid = Buffer.from(reader.bytes(16));
  const records = reader.u64();
  const headsCrc = reader.u32();
  reader.u32();
  const position = readPoint(reader);
  if (!uuid.equals(uuidBytes(options.uuid))) throw new MapDoubtError(`${path} is another volume’s`);
  return { position, records, headsCrc };
}

/** The position of a map that shows no recovery point: no checkpoint has it. */
export function nowhere(fold = 0): ChainPoint {
  return { epoch: 0, number: 0, link: new Uint8Array(LINK_BYTES).fill(0xff), lsn: fold, wallMs: 0 };
}

export function encodeHeader(
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
