/**
 * The clear header that every object begins with, and the frames behind it (docs/formats.md, "Sealed objects").
 *
 *      0   8  magic "KEEPGATE"
 *      8   2  format version
 *     10   1  kind
 *     11   1  zero
 *     12   4  length of the sealed index, its tag included
 *     16   8  length of the whole object
 *     24  16  key id: which key the object's own key derives from
 *     40  32  salt
 *     72      sealed index (frame 0), then data frames 1, 2, … of FRAME_PLAIN_BYTES each, the last one shorter;
 *             each frame is ciphertext and a tag of 16 bytes
 *
 * The header is authenticated by every frame (its SHA-256 is in the associated data). Until a frame was opened, what it
 * says is only a claim. Constants here are wire format.
 */
import { ByteReader, ByteWriter, equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';

export const FORMAT_VERSION = 1;
export const HEADER_BYTES = 72;
export const TAG_BYTES = 16;
export const SALT_BYTES = 32;
export const KEY_ID_BYTES = 16;
/** 64 blocks: what one ranged GET of a data frame yields at most. */
export const FRAME_PLAIN_BYTES = 64 * 4096;
export const FRAME_SEALED_BYTES = FRAME_PLAIN_BYTES + TAG_BYTES;
/** An index is never larger: a reader allocates no more on a provider's word. */
export const INDEX_SEALED_BYTES_MAX = 4 * 1024 * 1024;
/** No object is larger. */
export const OBJECT_BYTES_MAX = 1024 * 1024 * 1024;

/** Kind numbers; 11 to 31 are free. A staged or an apply segment is a `segment`: its role is sealed (segment-index.ts). */
export const objectKinds = {
  volume: 1,
  wrappedKey: 2,
  epoch: 3,
  segment: 4,
  fence: 5,
  checkpoint: 6,
  mapShard: 7,
  tableShard: 8,
  /** Reserved: a reader's or snapshot's protection. */
  pin: 9,
  /** Reserved: a checkpoint that is kept under a name. */
  snapshot: 10,
} as const;
export type ObjectKind = keyof typeof objectKinds;

const kindNames = new Map<number, ObjectKind>(
  (Object.keys(objectKinds) as ObjectKind[]).map((kind) => [objectKinds[kind], kind]),
);
const magic = new TextEncoder().encode('KEEPGATE');

export interface ClearHeader {
  readonly kind: ObjectKind;
  readonly indexSealedBytes: number;
  readonly objectBytes: number;
  readonly keyId: Uint8Array;
  readonly salt: Uint8Array;
}

export function encodeHeader(header: ClearHeader): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter(HEADER_BYTES);
  writer.bytes(magic);
  writer.u16(FORMAT_VERSION);
  writer.u8(objectKinds[header.kind]);
  writer.u8(0);
  writer.u32(header.indexSealedBytes);
  writer.u64(header.objectBytes);
  writer.bytes(header.keyId);
  writer.bytes(header.salt);
  return writer.finish();
}

/** `bytes` begins with the header; `name` is the object's, for messages. object-damaged, format-newer. */
export function decodeHeader(name: string, bytes: Uint8Array): ClearHeader {
  const reader = new ByteReader(bytes, name);
  if (!equalBytes(reader.bytes(magic.length), magic)) reader.fail('this is not a Keepgate object');
  const version = reader.u16();
  if (version > FORMAT_VERSION) {
    throw new GatewayError('format-newer', `${name}: format version ${version}; this program reads ${FORMAT_VERSION}`);
  }
  if (version === 0) reader.fail('format version 0');
  const kind = kindNames.get(reader.u8());
  if (kind === undefined) return reader.fail('unknown kind of object');
  if (reader.u8() !== 0) reader.fail('a reserved byte is set');
  const indexSealedBytes = reader.u32();
  const objectBytes = reader.u64();
  if (indexSealedBytes < TAG_BYTES || indexSealedBytes > INDEX_SEALED_BYTES_MAX)
    reader.fail('its index length is out of range');
  const bodyBytes = objectBytes - HEADER_BYTES - indexSealedBytes;
  if (bodyBytes < 0 || objectBytes > OBJECT_BYTES_MAX) reader.fail('its length is out of range');
  const lastFrameBytes = bodyBytes % FRAME_SEALED_BYTES;
  if (lastFrameBytes !== 0 && lastFrameBytes <= TAG_BYTES) reader.fail('its length does not end with a frame');
  const keyId = reader.bytes(KEY_ID_BYTES).slice();
  const salt = reader.bytes(SALT_BYTES).slice();
  return { kind, indexSealedBytes, objectBytes, keyId, salt };
}

/** The same object with another format version in its header. */
export function putFormatVersion(bytes: Uint8Array, version: number): Uint8Array {
  const changed = bytes.slice();
  new DataView(changed.buffer, changed.byteOffset).setUint16(magic.length, version, true);
  return changed;
}

/** Number of data frames behind the index. */
export function frameCountOf(header: ClearHeader): number {
  return Math.ceil((header.objectBytes - HEADER_BYTES - header.indexSealedBytes) / FRAME_SEALED_BYTES);
}

/** Where data frame `frame` (from 0) lies in the object. */
export function frameRangeOf(header: ClearHeader, frame: number): { start: number; lengthBytes: number } {
  const start = HEADER_BYTES + header.indexSealedBytes + frame * FRAME_SEALED_BYTES;
  return { start, lengthBytes: Math.min(FRAME_SEALED_BYTES, header.objectBytes - start) };
}

/** Length of an object with that much plain index and plain body. */
export function sealedObjectBytes(indexPlainBytes: number, bodyPlainBytes: number): number {
  const frames = Math.ceil(bodyPlainBytes / FRAME_PLAIN_BYTES);
  return HEADER_BYTES + indexPlainBytes + TAG_BYTES + bodyPlainBytes + frames * TAG_BYTES;
}
