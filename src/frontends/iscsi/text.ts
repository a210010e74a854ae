/**
 * Text of Login and Text PDUs: "key=value" pairs, each ended by a zero byte (RFC 7143, section 6.1). Keys and values
 * are UTF-8, in practice ASCII; a key has at most 63 characters, a value at most 255 unless its key says otherwise
 * (names and CHAP values of up to 1024 bytes are let through, the total is bounded by whoever collects the text).
 */
import { ProtocolError } from '../../base/errors.js';

export interface Pair {
  readonly key: string;
  readonly value: string;
}

const KEY_CHARS_MAX = 63;
const VALUE_CHARS_MAX = 8192;
/** Section 6.1: letters, digits and a few signs, beginning with a letter. */
// "MUST start with a capital letter": RFC 7144 broke that rule itself with iSCSIProtocolLevel.
const KEY = /^[A-Za-z][A-Za-z0-9.\-+@_]*$/;

/** All pairs, in order. @throws ProtocolError */
export function parseText(bytes: Uint8Array): Pair[] {
  if (bytes.length === 0) return [];
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const pairs: Pair[] = [];
  for (const item of text.split('\0')) {
    // The last pair's own zero byte; also padding that a sender counted as data.
    if (item === '') continue;
    const at = item.indexOf('=');
    if (at < 0) throw new ProtocolError('a text item has no equals sign (RFC 7143 6.1)');
    const key = item.slice(0, at);
    if (key.length > KEY_CHARS_MAX || !KEY.test(key)) throw new ProtocolError('a text key is malformed (RFC 7143 6.1)');
    if (item.length - at - 1 > VALUE_CHARS_MAX) throw new ProtocolError('a text value is too long (RFC 7143 6.1)');
    pairs.push({ key, value: item.slice(at + 1) });
  }
  return pairs;
}

export function formatText(pairs: readonly Pair[]): Uint8Array {
  return Buffer.from(pairs.map(({ key, value }) => `${key}=${value}\0`).join(''), 'latin1');
}

/** A numerical-value: decimal, or hexadecimal with 0x (section 6.1); undefined when it is none. */
export function parseNumber(value: string): number | undefined {
  if (!/^(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})$/.test(value)) return undefined;
  return Number(value);
}

/** A binary-value: 0x… or 0b… (base64), of at most `bytesMax` bytes; undefined when it is none (section 6.1). */
export function parseBinary(value: string, bytesMax: number): Uint8Array | undefined {
  const digits = value.slice(2);
  if (/^0[xX]([0-9a-fA-F]{2})*$/.test(value)) {
    return digits.length / 2 <= bytesMax ? Buffer.from(digits, 'hex') : undefined;
  }
  if (/^0[bB][A-Za-z0-9+/]*={0,2}$/.test(value)) {
    const bytes = Buffer.from(digits, 'base64');
    return bytes.length <= bytesMax ? bytes : undefined;
  }
  return undefined;
}

export function formatBinary(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes).toString('hex')}`;
}
