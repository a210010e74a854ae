/**
 * The parts of NBD that come with structured replies and extended headers, written from the protocol document and
 * sharing no code with the server: requests of 32 bytes, options for metadata contexts, and a parser of chunks.
 */
import { assert } from '../../src/base/assert.js';
import type { RequestFields } from './nbd-client.js';

export const CHUNK = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
} as const;

/** An extended request; its length is that of the payload where PAYLOAD_LEN is set, unless it is given. */
export function extendedRequest(fields: Omit<RequestFields, 'length'> & { readonly length?: number | bigint }): Buffer {
  const head = Buffer.alloc(32);
  head.writeUInt32BE(0x21e41c71, 0);
  head.writeUInt16BE(fields.flags ?? 0, 4);
  head.writeUInt16BE(fields.type, 6);
  head.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  head.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  head.writeBigUInt64BE(BigInt(fields.length ?? fields.payload?.length ?? 0), 24);
  return Buffer.concat([head, fields.payload ?? Buffer.alloc(0)]);
}

/** Data of LIST_META_CONTEXT and SET_META_CONTEXT. */
export function contextData(name: string, queries: readonly string[]): Buffer {
  const parts = [lengthAndText(name), Buffer.alloc(4), ...queries.map(lengthAndText)];
  parts[1]?.writeUInt32BE(queries.length);
  return Buffer.concat(parts);
}

function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Payload of a BLOCK_STATUS that asks for some contexts only. */
export function filterPayload(lengthBytes: number | bigint, ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(8 + 4 * ids.length);
  bytes.writeBigUInt64BE(BigInt(lengthBytes), 0);
  ids.forEach((id, index) => bytes.writeUInt32BE(id, 8 + 4 * index));
  return bytes;
}

export interface Chunk {
  readonly extended: boolean;
  readonly done: boolean;
  readonly type: number;
  readonly cookie: bigint;
  /** Of the request; undefined in a structured chunk. */
  readonly requestOffset: bigint | undefined;
  readonly payload: Buffer;
}

/** All of `bytes`, which must be whole chunks. */
export function parseChunks(bytes: Uint8Array): Chunk[] {
  const chunks: Chunk[] = [];
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < all.length;) {
    const magic = all.readUInt32BE(at);
    const extended = magic === 0x6e8a278c;
    assert(extended || magic === 0x668e33ef, 'a chunk begins with one of its magics');
    const length = extended ? Number(all.readBigUInt64BE(at + 24)) : all.readUInt32BE(at + 16);
    const payloadAt = at + (extended ? 32 : 20);
    assert(payloadAt + length <= all.length, 'only whole chunks were sent');
    const flags = all.readUInt16BE(at + 4);
    assert(flags <= 1, 'no flag but DONE is known');
    chunks.push({
      extended,
      done: flags === 1,
      type: all.readUInt16BE(at + 6),
      cookie: all.readBigUInt64BE(at + 8),
      requestOffset: extended ? all.readBigUInt64BE(at + 16) : undefined,
      payload: all.subarray(payloadAt, payloadAt + length),
    });
    at = payloadAt + length;
  }
  return chunks;
}

/** The error that a reply ends with; 0 where it has none. Its last chunk must say DONE, and no other may. */
export function chunkError(chunks: readonly Chunk[]): number {
  chunks.forEach((chunk, index) => assert(chunk.done === (index === chunks.length - 1), 'the last chunk says DONE'));
  const error = chunks.find(({ type }) => type >= 0x8000);
  if (error === undefined) return 0;
  assert(error.payload.length >= 6 && error.payload.readUInt16BE(4) === error.payload.length - 6, 'a whole message');
  return error.payload.readUInt32BE(0);
}

/** What a READ of `lengthBytes` at `offset` gave: its content chunks put together, each byte once. */
export function contentOf(chunks: readonly Chunk[], offset: number, lengthBytes: number): Buffer {
  const content = Buffer.alloc(lengthBytes, 0xee);
  let covered = 0;
  for (const { type, payload } of chunks) {
    if (type !== CHUNK.OFFSET_DATA && type !== CHUNK.OFFSET_HOLE) continue;
    const at = Number(payload.readBigUInt64BE(0)) - offset;
    const length = type === CHUNK.OFFSET_DATA ? payload.length - 8 : payload.readUInt32BE(8);
    assert(length > 0 && at >= 0 && at + length <= lengthBytes, 'a content chunk lies within the request');
    if (type === CHUNK.OFFSET_DATA) payload.copy(content, at, 8);
    else content.fill(0, at, at + length);
    covered += length;
  }
  assert(covered === lengthBytes, 'content chunks cover the request once');
  return content;
}

export interface StatusChunk {
  readonly context: number;
  /** [length, flags] */
  readonly extents: readonly (readonly [number, number])[];
}

export function statusOf({ type, payload, extended }: Chunk): StatusChunk {
  assert(
    type === (extended ? CHUNK.BLOCK_STATUS_EXT : CHUNK.BLOCK_STATUS),
    'a status chunk of the form that was negotiated',
  );
  const [headBytes, extentBytes] = extended ? [8, 16] : [4, 8];
  const count = (payload.length - headBytes) / extentBytes;
  assert(Number.isInteger(count) && count > 0, 'a status chunk has whole extents, at least one');
  if (extended) assert(payload.readUInt32BE(4) === count, 'it says how many');
  const extents = Array.from({ length: count }, (_, index): [number, number] => {
    const at = headBytes + index * extentBytes;
    return extended
      ? [Number(payload.readBigUInt64BE(at)), Number(payload.readBigUInt64BE(at + 8))]
      : [payload.readUInt32BE(at), payload.readUInt32BE(at + 4)];
  });
  return { context: payload.readUInt32BE(0), extents };
}
