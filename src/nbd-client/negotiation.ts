/**
 * The client's side of NBD's newstyle negotiation, as far as a kernel client needs it: NBD_OPT_GO for one export, after
 * which the connection is in transmission (simple replies, no structured ones: the kernel knows no others).
 *
 * The server is not trusted: whatever does not follow the protocol ends the connection with a ProtocolError.
 */
import { GatewayError, ProtocolError } from '../base/errors.js';
import {
  handshakeFlag,
  info,
  magic,
  option,
  optionReply,
  readU16,
  readU32,
  STRING_BYTES_MAX,
  transmissionFlag,
  wireBytes,
  writeU32,
} from '../frontends/nbd/wire.js';
import type { DialedConnection } from '../ports/nbd-device.js';

export interface NegotiatedExport {
  readonly sizeBytes: number;
  readonly flags: number;
  readonly readOnly: boolean;
  readonly canMultiConn: boolean;
}

/** Replies to one option; a server that sends more never comes to an end. */
const REPLIES_MAX = 32;
/** Of one reply: a string and what stands before it. */
const REPLY_BYTES_MAX = STRING_BYTES_MAX + 64;

/**
 * @throws ProtocolError
 * @throws GatewayError not-found (no such export), volume-in-use (NBD_REP_ERR_POLICY), not-supported (TLS is required),
 *   gateway-unreachable (it is shutting down, or the connection ended)
 */
export function negotiateGo(connection: DialedConnection, exportName: string): Promise<NegotiatedExport> {
  return negotiate(connection, exportName, option.go);
}

/** The same answer without an attachment (NBD_OPT_INFO); the connection is of no further use. Throws as negotiateGo. */
export async function askInfo(connection: DialedConnection, exportName: string): Promise<NegotiatedExport> {
  const answer = await negotiate(connection, exportName, option.info);
  connection.write(encodeOption(option.abort, new Uint8Array(0)));
  return answer;
}

type AskedOption = typeof option.go | typeof option.info;

async function negotiate(
  connection: DialedConnection,
  exportName: string,
  asked: AskedOption,
): Promise<NegotiatedExport> {
  const greeting = await connection.read(wireBytes.greeting);
  expect(greeting, 0, magic.initHigh, magic.initLow, 'the greeting');
  expect(greeting, 8, magic.optionHigh, magic.optionLow, 'the greeting');
  const offered = readU16(greeting, 16);
  if ((offered & handshakeFlag.fixedNewstyle) === 0) throw new ProtocolError('the server is not fixed newstyle');
  const flags = new Uint8Array(wireBytes.clientFlags);
  writeU32(flags, 0, offered & (handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes));
  connection.write(flags);
  if (connection.secure !== undefined) {
    await startTls(connection);
    await connection.secure();
  }
  connection.write(encodeOption(asked, askedExport(exportName)));
  return readAnswers(connection, exportName, asked);
}

/** The server's acknowledgement; what was in clear before it says nothing that is used. */
async function startTls(connection: DialedConnection): Promise<void> {
  connection.write(encodeOption(option.startTls, new Uint8Array(0)));
  const { type, data } = await readReply(connection, option.startTls);
  if (type === optionReply.ack && data.length === 0) return;
  const reason = type >= 0x8000_0000 ? printable(new TextDecoder().decode(data)) : '';
  throw new GatewayError('not-supported', `the gateway does not offer TLS (nbd.tls is off)${reason && `: ${reason}`}`);
}

/** Length of name 4, name, number of wishes 2 (none: NBD_INFO_EXPORT always comes). */
function askedExport(exportName: string): Uint8Array {
  const name = new TextEncoder().encode(exportName);
  const data = new Uint8Array(4 + name.length + 2);
  writeU32(data, 0, name.length);
  data.set(name, 4);
  return data;
}

/** IHAVEOPT 8, option 4, length 4, data. */
function encodeOption(type: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(wireBytes.optionHeader + data.length);
  writeU32(bytes, 0, magic.optionHigh);
  writeU32(bytes, 4, magic.optionLow);
  writeU32(bytes, 8, type);
  writeU32(bytes, 12, data.length);
  bytes.set(data, wireBytes.optionHeader);
  return bytes;
}

async function readAnswers(
  connection: DialedConnection,
  exportName: string,
  asked: AskedOption,
): Promise<NegotiatedExport> {
  let negotiated: NegotiatedExport | undefined;
  for (let count = 0; count < REPLIES_MAX; count++) {
    const { type, data } = await readReply(connection, asked);
    if (type >= 0x8000_0000) throw refused(type, new TextDecoder().decode(data), exportName);
    if (type === optionReply.ack) {
      if (negotiated === undefined) throw new ProtocolError('NBD_INFO_EXPORT did not come before the end');
      return negotiated;
    }
    if (type === optionReply.info && data.length >= 2 && readU16(data, 0) === info.export) {
      negotiated = exportOf(data);
    }
  }
  throw new ProtocolError(`more than ${REPLIES_MAX} replies to one option`);
}

async function readReply(
  connection: DialedConnection,
  asked: number,
): Promise<{ readonly type: number; readonly data: Uint8Array }> {
  const header = await connection.read(wireBytes.optionReplyHeader);
  expect(header, 0, magic.optionReplyHigh, magic.optionReplyLow, 'an option reply');
  if (readU32(header, 8) !== asked) throw new ProtocolError('an option was answered that was not asked');
  const lengthBytes = readU32(header, 16);
  if (lengthBytes > REPLY_BYTES_MAX) throw new ProtocolError(`an option reply of ${lengthBytes} bytes`);
  const data = lengthBytes === 0 ? new Uint8Array(0) : await connection.read(lengthBytes);
  return { type: readU32(header, 12), data };
}

/** Type 2, size 8, transmission flags 2. */
function exportOf(data: Uint8Array): NegotiatedExport {
  if (data.length !== 12) throw new ProtocolError(`NBD_INFO_EXPORT of ${data.length} bytes`);
  const sizeBytes = readU32(data, 2) * 0x1_0000_0000 + readU32(data, 6);
  if (!Number.isSafeInteger(sizeBytes)) throw new ProtocolError('a size beyond 2^53');
  const flags = readU16(data, 10);
  if ((flags & transmissionFlag.hasFlags) === 0) throw new ProtocolError('transmission flags without HAS_FLAGS');
  return {
    sizeBytes,
    flags,
    readOnly: (flags & transmissionFlag.readOnly) !== 0,
    canMultiConn: (flags & transmissionFlag.canMultiConn) !== 0,
  };
}

function refused(type: number, text: string, exportName: string): GatewayError | ProtocolError {
  const shown = text === '' ? '' : `: ${printable(text)}`;
  switch (type) {
    case optionReply.errUnknown:
      return new GatewayError('not-found', `the gateway has no volume "${exportName}"${shown}`);
    case optionReply.errPolicy:
      return new GatewayError('volume-in-use', `the gateway refuses "${exportName}"${shown}`);
    case optionReply.errTlsRequired:
      return new GatewayError('not-supported', 'the gateway requires TLS: write nbds:// in place of nbd://');
    case optionReply.errShutdown:
      return new GatewayError('gateway-unreachable', `the gateway is stopping${shown}`);
    case optionReply.errUnsupported:
      return new GatewayError('not-supported', 'the server does not know NBD_OPT_GO');
    default:
      return new ProtocolError(`the server answers NBD_OPT_GO with error ${type & 0x7fff_ffff}${shown}`);
  }
}

/** One line without control characters, whatever a server sends. */
function printable(text: string): string {
  return text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]+/gu, ' ').slice(0, 200);
}

function expect(bytes: Uint8Array, at: number, high: number, low: number, what: string): void {
  if (readU32(bytes, at) !== high || readU32(bytes, at + 4) !== low) {
    throw new ProtocolError(`${what} does not begin as NBD's does: this is no NBD server`);
  }
}
