/**
 * Encoding and decoding of Keepgate's own formats: little-endian, bounded, nothing implicit.
 *
 * A reader never looks past its bytes and never trusts a length that it read: whatever does not fit is a GatewayError
 * that names the object and the field's place. Numbers that are 48 or 64 bits wide are safe integers in memory.
 */
import { assert } from './assert.js';
import { GatewayError } from './errors.js';
import type { ErrorCode } from './errors.js';

const TWO_16 = 0x1_0000;
const TWO_32 = 0x1_0000_0000;
const U48_MAX = TWO_16 * TWO_32 - 1;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

/** Grows as needed; `finish` hands out what was written. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  constructor(capacityBytes = 1024) {
    this.#bytes = new Uint8Array(capacityBytes);
    this.#view = new DataView(this.#bytes.buffer);
  }

  get lengthBytes(): number {
    return this.#length;
  }

  u8(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value <= 0xff, 'a u8 field is out of range');
    const at = this.#take(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value < TWO_16, 'a u16 field is out of range');
    const at = this.#take(2);
    this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value < TWO_32, 'a u32 field is out of range');
    const at = this.#take(4);
    this.#view.setUint32(at, value, true);
  }

  u48(value: number): void {
    assert(Number.isInteger(value) && value >= 0 && value <= U48_MAX, 'a u48 field is out of range');
    const at = this.#take(6);
    this.#view.setUint32(at, value % TWO_32, true);
    this.#view.setUint16(at + 4, Math.floor(value / TWO_32), true);
  }

  u64(value: number): void {
    assert(Number.isSafeInteger(value) && value >= 0, 'a u64 field is out of range');
    const at = this.#take(8);
    this.#view.setUint32(at, value % TWO_32, true);
    this.#view.setUint32(at + 4, Math.floor(value / TWO_32), true);
  }

  bytes(value: Uint8Array): void {
    const at = this.#take(value.length);
    this.#bytes.set(value, at);
  }

  /** A string as u16 length and UTF-8. */
  text(value: string): void {
    const utf8 = encoder.encode(value);
    this.u16(utf8.length);
    this.bytes(utf8);
  }

  zeros(count: number): void {
    const at = this.#take(count);
    this.#bytes.fill(0, at, at + count);
  }

  /** A view of what was written; the writer must not be used afterwards. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Makes room; may replace #bytes and #view, so that it comes before either is used. */
  #take(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, at));
      this.#bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
    this.#length = needed;
    return at;
  }
}

/** Reads `bytes` from the front; every failure is a GatewayError with `code` that begins with `what`. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  readonly #code: ErrorCode;
  #at = 0;

  constructor(bytes: Uint8Array, what: string, code: ErrorCode = 'object-damaged') {
    // A plain view: a Buffer's own `slice` would share memory, and keep all of an object alive for a few bytes of it.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
    this.#code = code;
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  u48(): number {
    const at = this.#take(6);
    return this.#view.getUint32(at, true) + this.#view.getUint16(at + 4, true) * TWO_32;
  }

  u64(): number {
    const at = this.#take(8);
    const value = this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * TWO_32;
    if (!Number.isSafeInteger(value)) this.fail(`the number at byte ${at} is too large`);
    return value;
  }

  /** A count of things that take at least `eachBytes` each: refused when they cannot be there. */
  count(eachBytes: number): number {
    const value = this.u32();
    if (value * eachBytes > this.remainingBytes) this.fail(`the count ${value} at byte ${this.#at - 4} is too large`);
    return value;
  }

  /** A view, not a copy. */
  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  text(): string {
    const utf8 = this.bytes(this.u16());
    try {
      return decoder.decode(utf8);
    } catch {
      return this.fail(`the text at byte ${this.#at - utf8.length} is not UTF-8`);
    }
  }

  /** Nothing but zero bytes may follow. */
  endOfZeros(): void {
    while (this.#at < this.#bytes.length) {
      if (this.#bytes[this.#at] !== 0) this.fail(`unexpected byte at ${this.#at}`);
      this.#at++;
    }
  }

  fail(reason: string): never {
    throw new GatewayError(this.#code, `${this.#what}: ${reason}`, { context: { object: this.#what } });
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.#bytes.length - at) this.fail(`it ends at byte ${this.#bytes.length}, inside a field`);
    this.#at = at + count;
    return at;
  }
}

/** Equality of bytes that are public (links, salts, ids); secrets are compared by their authentication tags. */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let index = 0; index < left.length; index++) if (left[index] !== right[index]) return false;
  return true;
}
