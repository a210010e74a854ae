/**
 * Bytes of the handshake: the greeting, options in, option replies out ("Fixed newstyle negotiation" of proto.md).
 *
 *   option        C | IHAVEOPT 8 | option 4 | length 4 | data |
 *   option reply  S | 0x0003e889045565a9 8 | option 4 | reply type 4 | length 4 | data |
 */
import type { ServedVolume } from '../../ports/volume-directory.js';
import {
  blockSize,
  handshakeFlag,
  info,
  magic,
  optionReply,
  readU16,
  readU32,
  STRING_BYTES_MAX,
  transmissionFlag,
  wireBytes,
  writeU16,
  writeU32,
  writeU64,
} from './wire.js';
import type { OptionError } from './wire.js';

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What an export's flags depend on besides the export (negotiated.ts). */
export interface Agreed {
  readonly chunked: boolean;
  readonly extended: boolean;
  contextsFor(volume: string): readonly unknown[];
}

/** S: NBDMAGIC 8, IHAVEOPT 8, handshake flags 2. */
export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(wireBytes.greeting);
  writeU32(bytes, 0, magic.initHigh);
  writeU32(bytes, 4, magic.initLow);
  writeU32(bytes, 8, magic.optionHigh);
  writeU32(bytes, 12, magic.optionLow);
  writeU16(bytes, 16, handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes);
  return bytes;
}

export interface OptionHeader {
  readonly option: number;
  readonly lengthBytes: number;
}

/** undefined where the magic is wrong. */
export function decodeOptionHeader(bytes: Uint8Array): OptionHeader | undefined {
  if (readU32(bytes, 0) !== magic.optionHigh || readU32(bytes, 4) !== magic.optionLow) return undefined;
  return { option: readU32(bytes, 8), lengthBytes: readU32(bytes, 12) };
}

/** An export's name as a client sends it; undefined where it is no UTF-8, and so no volume's name. */
export function decodeName(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

export interface InfoRequest {
  readonly name: string | undefined;
  readonly wanted: ReadonlySet<number>;
}

/** Data of INFO and GO: length of name 4, name, count 2, count information types of 2. undefined: malformed. */
export function decodeInfoRequest(data: Uint8Array): InfoRequest | undefined {
  if (data.length < 6) return undefined;
  const nameBytes = readU32(data, 0);
  if (nameBytes > STRING_BYTES_MAX || nameBytes > data.length - 6) return undefined;
  const count = readU16(data, 4 + nameBytes);
  const typesAt = 6 + nameBytes;
  if (data.length !== typesAt + 2 * count) return undefined;
  const wanted = new Set<number>();
  for (let at = typesAt; at < data.length; at += 2) wanted.add(readU16(data, at));
  return { name: decodeName(data.subarray(4, 4 + nameBytes)), wanted };
}

export function encodeOptionReply(option: number, type: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(wireBytes.optionReplyHeader + data.length);
  writeU32(bytes, 0, magic.optionReplyHigh);
  writeU32(bytes, 4, magic.optionReplyLow);
  writeU32(bytes, 8, option);
  writeU32(bytes, 12, type);
  writeU32(bytes, 16, data.length);
  bytes.set(data, wireBytes.optionReplyHeader);
  return bytes;
}

/** An error reply whose data is one line for the person at the client. */
export function encodeOptionError(option: number, error: OptionError, message: string): Uint8Array {
  return encodeOptionReply(option, optionReply[error], encodeString(message));
}

/** NBD_REP_SERVER: length of name 4, name, then a description for a human. */
export function encodeListed(option: number, volume: ServedVolume): Uint8Array {
  const name = encoder.encode(volume.device.name);
  const description = encodeString(volume.description);
  const data = new Uint8Array(4 + name.length + description.length);
  writeU32(data, 0, name.length);
  data.set(name, 4);
  data.set(description, 4 + name.length);
  return encodeOptionReply(option, optionReply.server, data);
}

/** The NBD_REP_INFO replies: the export always, further types as they were asked for. */
export function encodeInfo(
  option: number,
  volume: ServedVolume,
  negotiated: Agreed,
  wanted: ReadonlySet<number>,
): Uint8Array[] {
  const replies = [encodeInfoReply(option, info.export, encodeExport(volume, negotiated))];
  if (wanted.has(info.name)) replies.push(encodeInfoReply(option, info.name, encoder.encode(volume.device.name)));
  if (wanted.has(info.description)) {
    replies.push(encodeInfoReply(option, info.description, encodeString(volume.description)));
  }
  if (wanted.has(info.blockSize)) {
    const data = new Uint8Array(12);
    writeU32(data, 0, blockSize.minimum);
    writeU32(data, 4, blockSize.preferred);
    writeU32(data, 8, blockSize.maximum);
    replies.push(encodeInfoReply(option, info.blockSize, data));
  }
  return replies;
}

/** Size 8, transmission flags 2: of NBD_INFO_EXPORT, and of the answer to EXPORT_NAME. */
export function encodeExport(volume: ServedVolume, negotiated: Agreed): Uint8Array {
  const bytes = new Uint8Array(10);
  writeU64(bytes, 0, volume.device.sizeBytes);
  writeU16(bytes, 8, transmissionFlags(volume, negotiated));
  return bytes;
}

/**
 * CAN_MULTI_CONN holds for every volume: a flush on one connection covers what completed on all (P5), and a read on
 * one sees what was acknowledged on another.
 */
function transmissionFlags({ device, nbd }: ServedVolume, negotiated: Agreed): number {
  const { hasFlags, sendFlush, sendFua, canMultiConn, sendCache } = transmissionFlag;
  const { readOnly, sendTrim, sendWriteZeroes, sendFastZero, rotational, sendDf, blockStatusPayload } =
    transmissionFlag;
  let flags = hasFlags | sendFlush | sendFua | canMultiConn | sendCache;
  flags |= device.readOnly ? readOnly : sendTrim | sendWriteZeroes | sendFastZero;
  if (nbd.rotational === true) flags |= rotational;
  if (negotiated.chunked) flags |= sendDf;
  if (negotiated.extended && negotiated.contextsFor(device.name).length > 0) flags |= blockStatusPayload;
  return flags;
}

function encodeInfoReply(option: number, type: number, payload: Uint8Array): Uint8Array {
  const data = new Uint8Array(2 + payload.length);
  writeU16(data, 0, type);
  data.set(payload, 2);
  return encodeOptionReply(option, optionReply.info, data);
}

/** UTF-8, cut to the longest string that the protocol allows, never within a character. */
function encodeString(text: string): Uint8Array {
  const bytes = new Uint8Array(STRING_BYTES_MAX);
  return bytes.subarray(0, encoder.encodeInto(text, bytes).written);
}
