/**
 * The bytes of replies, in the three forms that a client can negotiate ("Simple reply message", "Structured reply chunk
 * message", "Extended reply chunk message" of proto.md). All of a reply to one request has one form.
 *
 *   simple      0x67446698 4 | error 4 | cookie 8 | data of READ
 *   structured  0x668e33ef 4 | flags 2 | type 2 | cookie 8 | length 4 | payload
 *   extended    0x6e8a278c 4 | flags 2 | type 2 | cookie 8 | offset of the request 8 | length 8 | payload
 *
 *   payload of  NONE              nothing
 *               ERROR             error 4 | length of message 2, 0
 *               OFFSET_DATA       offset 8 | data
 *               BLOCK_STATUS      context 4 | (length 4 | flags 4) of each extent
 *               BLOCK_STATUS_EXT  context 4 | extents 4 | (length 8 | flags 8) of each extent
 *
 * Hot path: writes into the caller's bytes, and allocates nothing.
 */
import { chunkFlag, chunkType, command, errno, magic, wireBytes, writeU16, writeU32, writeU64 } from './wire.js';
import type { Errno } from './wire.js';

export const replyForm = { simple: 0, structured: 1, extended: 2 } as const;
export type ReplyForm = (typeof replyForm)[keyof typeof replyForm];

/** What a reply repeats of its request, and what became of that. */
export interface RepliedRequest {
  readonly form: ReplyForm;
  readonly cookieHigh: number;
  readonly cookieLow: number;
  readonly offsetHigh: number;
  readonly offsetLow: number;
  readonly error: Errno;
}

/** What stands before the data of a READ, by form. */
const dataHeadBytes = [
  wireBytes.simpleReply,
  wireBytes.structuredChunk + wireBytes.offsetData,
  wireBytes.extendedChunk + wireBytes.offsetData,
] as const;

export const DATA_HEAD_BYTES_MAX = Math.max(...dataHeadBytes);

/** Longest reply without data. */
export const PLAIN_REPLY_BYTES_MAX = wireBytes.extendedChunk + wireBytes.chunkError;

/**
 * With structured replies, those that never have data stay simple: it is allowed, and shorter. With extended headers all
 * are chunks.
 */
export function formOf(negotiated: ReplyForm, type: number): ReplyForm {
  if (negotiated !== replyForm.structured) return negotiated;
  return type === command.read || type === command.blockStatus ? replyForm.structured : replyForm.simple;
}

/** Bytes before the data of a READ reply. */
export function dataHeadBytesOf(form: ReplyForm): number {
  return dataHeadBytes[form];
}

/**
 * The head of `lengthBytes` of data from `offset` of the export on. `last`: nothing of this reply follows. A simple
 * reply has all the data of its request behind one head.
 */
export function writeDataHead(
  bytes: Uint8Array,
  at: number,
  slot: RepliedRequest,
  offset: number,
  lengthBytes: number,
  last: boolean,
): void {
  if (slot.form === replyForm.simple) return writeSimple(bytes, at, errno.none, slot);
  const flags = last ? chunkFlag.done : 0;
  const payloadAt = writeChunkHead(bytes, at, slot, flags, chunkType.offsetData, wireBytes.offsetData + lengthBytes);
  writeU64(bytes, payloadAt, offset);
}

/** The reply, or the rest of one, that has no data: success, or slot.error. Returns its length. */
export function writePlainReply(bytes: Uint8Array, at: number, slot: RepliedRequest): number {
  if (slot.form === replyForm.simple) {
    writeSimple(bytes, at, slot.error, slot);
    return wireBytes.simpleReply;
  }
  if (slot.error === errno.none) return writeChunkHead(bytes, at, slot, chunkFlag.done, chunkType.none, 0) - at;
  const payloadAt = writeChunkHead(bytes, at, slot, chunkFlag.done, chunkType.error, wireBytes.chunkError);
  writeU32(bytes, payloadAt, slot.error);
  writeU16(bytes, payloadAt + 4, 0);
  return payloadAt + wireBytes.chunkError - at;
}

/** The head of a chunk of the slot's form, which is not simple. Returns where its payload begins. */
export function writeChunkHead(
  bytes: Uint8Array,
  at: number,
  slot: RepliedRequest,
  flags: number,
  type: number,
  payloadBytes: number,
): number {
  const extended = slot.form === replyForm.extended;
  writeU32(bytes, at, extended ? magic.extendedReply : magic.structuredReply);
  writeU16(bytes, at + 4, flags);
  writeU16(bytes, at + 6, type);
  writeU32(bytes, at + 8, slot.cookieHigh);
  writeU32(bytes, at + 12, slot.cookieLow);
  if (!extended) {
    writeU32(bytes, at + 16, payloadBytes);
    return at + wireBytes.structuredChunk;
  }
  writeU32(bytes, at + 16, slot.offsetHigh);
  writeU32(bytes, at + 20, slot.offsetLow);
  writeU64(bytes, at + 24, payloadBytes);
  return at + wireBytes.extendedChunk;
}

function writeSimple(bytes: Uint8Array, at: number, error: number, slot: RepliedRequest): void {
  writeU32(bytes, at, magic.simpleReply);
  writeU32(bytes, at + 4, error);
  writeU32(bytes, at + 8, slot.cookieHigh);
  writeU32(bytes, at + 12, slot.cookieLow);
}
