/**
 * TransportIDs of iSCSI initiator ports (SPC-4 7.6.4.6), and the names of the ports that they stand for: "NAME,i,0xISID",
 * as RFC 7143 4.4.1 has it, in lower case.
 *
 *   0     format code (bits 7..6: 01b with ISID, 00b without), protocol identifier 5h
 *   2..3  length of what follows, a multiple of 4, at least 20
 *   4..   the name, with its separator and ISID where the format is 01b, ended and padded with zeros
 */
import { readU16, writeU16 } from './big-endian.js';

const ISCSI = 0x05;
const WITH_ISID = 0x40;
const FORMAT_AND_PROTOCOL = 0xcf;
const HEADER_BYTES = 4;
const BODY_BYTES_MIN = 20;
const NAME_BYTES_MAX = 223;
/** No blanks and signs that end a name elsewhere; nor anything that a terminal would act on when the name is shown. */
const NAME = /^(iqn\.|eui\.|naa\.)[^\s,;=\p{C}\uFFFD]+$/u;
const ISID = /^[0-9a-f]{12}$/;
const SEPARATOR = ',i,0x';

/** Whether it is an iSCSI name (RFC 7143 4.2.7) in lower case. */
export function isInitiatorName(name: string): boolean {
  return Buffer.byteLength(name) <= NAME_BYTES_MAX && NAME.test(name);
}

/** `isid`: 12 hexadecimal digits. */
export function initiatorPortName(initiatorName: string, isid: string): string {
  return `${initiatorName}${SEPARATOR}${isid}`.toLowerCase();
}

export function isInitiatorPortName(name: string): boolean {
  const [initiator = '', isid = ''] = name.split(SEPARATOR);
  const isName = isInitiatorName(initiator) && ISID.test(isid);
  return isName && name === initiatorPortName(initiator, isid);
}

/** The initiator that a port belongs to. */
export function initiatorOf(port: string): string {
  return port.slice(0, port.indexOf(SEPARATOR));
}

export function encodeTransportId(port: string): Uint8Array {
  const name = Buffer.from(`${port}\0`);
  const bodyBytes = Math.max(BODY_BYTES_MIN, Math.ceil(name.length / 4) * 4);
  const bytes = new Uint8Array(HEADER_BYTES + bodyBytes);
  bytes[0] = WITH_ISID | ISCSI;
  writeU16(bytes, 2, bodyBytes);
  bytes.set(name, HEADER_BYTES);
  return bytes;
}

export interface TransportId {
  readonly lengthBytes: number;
  /** One port, or every port of an initiator that is known. */
  readonly port: string | undefined;
  readonly initiator: string;
}

/** What stands at bytes[at…end); 'truncated' where it reaches past the end, undefined where it is no initiator of iSCSI. */
export function decodeTransportId(bytes: Uint8Array, at: number, end: number): TransportId | 'truncated' | undefined {
  if (end - at < HEADER_BYTES) return 'truncated';
  const format = (bytes[at] ?? 0) & FORMAT_AND_PROTOCOL;
  if (format !== ISCSI && format !== (WITH_ISID | ISCSI)) return undefined;
  const bodyBytes = readU16(bytes, at + 2);
  if (bodyBytes < BODY_BYTES_MIN || bodyBytes % 4 !== 0) return undefined;
  const lengthBytes = HEADER_BYTES + bodyBytes;
  if (end - at < lengthBytes) return 'truncated';
  const body = Buffer.from(bytes.subarray(at + HEADER_BYTES, at + lengthBytes));
  const zero = body.indexOf(0);
  if (zero < 0) return undefined;
  const name = body.toString('utf8', 0, zero).toLowerCase();
  if (format === ISCSI) {
    if (!isInitiatorName(name)) return undefined;
    return { lengthBytes, port: undefined, initiator: name };
  }
  if (!isInitiatorPortName(name)) return undefined;
  return { lengthBytes, port: name, initiator: initiatorOf(name) };
}
