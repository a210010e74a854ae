/**
 * The NBD wire as tables: every constant with who sends it (C client, S server) and its section of the protocol
 * document (NetworkBlockDevice/nbd, doc/proto.md). Everything is big-endian. Constants are wire format: never change one.
 */

/** "Newstyle negotiation". 64-bit magics stand as two 32-bit halves, so that nothing here needs a bigint. */
export const magic = {
  /** S: "NBDMAGIC" */ initHigh: 0x4e42444d,
  initLow: 0x41474943,
  /** S, C: "IHAVEOPT" */ optionHigh: 0x49484156,
  optionLow: 0x454f5054,
  /** S: option reply */ optionReplyHigh: 0x0003e889,
  optionReplyLow: 0x045565a9,
  /** C: request */ request: 0x25609513,
  /** C: request, once extended headers were negotiated */ extendedRequest: 0x21e41c71,
  /** S: simple reply */ simpleReply: 0x67446698,
  /** S: structured reply chunk */ structuredReply: 0x668e33ef,
  /** S: extended reply chunk */ extendedReply: 0x6e8a278c,
} as const;

/** "Handshake flags" (S, 16 bits) and "Client flags" (C, 32 bits): the same two bits. */
export const handshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

/** "Option types" (C). */
export const option = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

/** "Option reply types" (S); bit 31 marks an error, whose data is a message for a human. */
export const optionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errUnsupported: 0x80000001,
  errPolicy: 0x80000002,
  errInvalid: 0x80000003,
  errPlatform: 0x80000004,
  errTlsRequired: 0x80000005,
  errUnknown: 0x80000006,
  errShutdown: 0x80000007,
  errBlockSizeRequired: 0x80000008,
  errTooBig: 0x80000009,
} as const;
export type OptionError = Exclude<keyof typeof optionReply, 'ack' | 'server' | 'info' | 'metaContext'>;

/** "NBD_OPT_INFO and NBD_OPT_GO": information types (C asks, S answers). */
export const info = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** "Transmission flags" (S, 16 bits). */
export const transmissionFlag = {
  hasFlags: 1 << 0,
  readOnly: 1 << 1,
  sendFlush: 1 << 2,
  sendFua: 1 << 3,
  rotational: 1 << 4,
  sendTrim: 1 << 5,
  sendWriteZeroes: 1 << 6,
  sendDf: 1 << 7,
  canMultiConn: 1 << 8,
  sendCache: 1 << 10,
  sendFastZero: 1 << 11,
  blockStatusPayload: 1 << 12,
} as const;

/** "Request types" (C). */
export const command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

/** "Command flags" (C, 16 bits). */
export const commandFlag = {
  fua: 1 << 0,
  noHole: 1 << 1,
  /** READ: at most one content chunk */ df: 1 << 2,
  /** BLOCK_STATUS: one extent of each context */ reqOne: 1 << 3,
  fastZero: 1 << 4,
  /** Extended headers: the length is that of a payload */ payloadLen: 1 << 5,
} as const;

/** "Structured reply flags" (S, 16 bits). */
export const chunkFlag = { done: 1 << 0 } as const;

/** "Structured reply types" (S, 16 bits); bit 15 marks an error. */
export const chunkType = {
  none: 0,
  offsetData: 1,
  blockStatus: 5,
  blockStatusExt: 6,
  error: 0x8001,
} as const;

/** "Metadata contexts": the bits of `base:allocation`, and the one bit of each of this server's own. */
export const extentFlag = { hole: 1 << 0, zero: 1 << 1, marked: 1 << 0 } as const;

/** "Error values" (S). */
export const errno = {
  none: 0,
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;
export type Errno = (typeof errno)[keyof typeof errno];

/** Lengths in bytes of the fixed parts. */
export const wireBytes = {
  greeting: 18,
  clientFlags: 4,
  /** IHAVEOPT 8, option 4, length of data 4 */
  optionHeader: 16,
  /** magic 8, option 4, type 4, length of data 4 */
  optionReplyHeader: 20,
  /** magic 4, flags 2, type 2, cookie 8, offset 8, length 4 */
  request: 28,
  /** The same with a length of 8. */
  extendedRequest: 32,
  /** magic 4, error 4, cookie 8 */
  simpleReply: 16,
  /** magic 4, flags 2, type 2, cookie 8, length 4 */
  structuredChunk: 20,
  /** magic 4, flags 2, type 2, cookie 8, offset of the request 8, length 8 */
  extendedChunk: 32,
  /** Payload of an OFFSET_DATA chunk before its data: offset 8. */
  offsetData: 8,
  /** Payload of an ERROR chunk: error 4, length of message 2. */
  chunkError: 6,
  /** What follows size and flags in the answer to EXPORT_NAME, unless NO_ZEROES was negotiated. */
  exportNameZeroes: 124,
} as const;

/** "Block size constraints": what a client assumes that did not ask, and what this server answers. */
export const blockSize = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024 } as const;

/** "Values": the longest string, in bytes. */
export const STRING_BYTES_MAX = 4096;

/** An unsigned 16-bit field at bytes[at]. */
export function readU16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

/** An unsigned 32-bit field at bytes[at]. */
export function readU32(bytes: Uint8Array, at: number): number {
  return readI32(bytes, at) >>> 0;
}

/** A 32-bit field as a signed number: cheaper to keep where it is only sent back. */
export function readI32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
}

export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** A non-negative safe integer as 64 bits. */
export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 0x1_0000_0000));
  writeU32(bytes, at + 4, value % 0x1_0000_0000);
}
