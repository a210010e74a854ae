/**
 * The server that a fuzzed NBD session meets, as its judges know it: the exports, what may be read of them, and what the
 * case did to the devices below, which decides what errors are allowed.
 *
 * Every byte of an export is told by its place and never zero, and a well-formed write writes just that. So whatever else
 * was written, trimmed or zeroed is known by its range, and all the rest must be read as it was.
 */
import type { TlsMode } from '../../src/frontends/nbd/admission.js';

const MIB = 1024 * 1024;
/** More than half of what one connection may hold in replies, so that a read of all of it is streamed. */
export const DEMO_BYTES = 5 * MIB;
export const HERS_BYTES = MIB;
export const CALM_BYTES = MIB / 4;

/** What the bytes of every export are. */
export const template: Buffer = ((): Buffer => {
  const bytes = Buffer.alloc(DEMO_BYTES);
  for (let at = 0; at < bytes.length; at++) bytes[at] = 1 + ((Math.imul(at ^ (at >>> 9), 2654435761) >>> 16) % 255);
  return bytes;
})();

interface Range {
  readonly start: number;
  readonly end: number;
}

function endOfRange(ranges: readonly Range[], at: number): number {
  return ranges.find(({ start, end }) => start <= at && at < end)?.end ?? 0;
}

/** What may be read of one export. */
export class Content {
  private readonly zeroed: Range[] = [];
  private readonly unknown: Range[] = [];

  mayBeZero(start: number, lengthBytes: number): void {
    this.zeroed.push({ start, end: start + lengthBytes });
  }

  written(start: number, bytes: Buffer): void {
    if (template.compare(bytes, 0, bytes.length, start, start + bytes.length) === 0) return;
    this.unknown.push({ start, end: start + bytes.length });
  }

  /** Where the first byte is that nobody can have written; undefined: nowhere. */
  wrongAt(offset: number, bytes: Buffer): number | undefined {
    if (template.compare(bytes, 0, bytes.length, offset, offset + bytes.length) === 0) return undefined;
    let zeroEnd = 0;
    let unknownEnd = 0;
    for (let index = 0; index < bytes.length; index++) {
      const at = offset + index;
      if (bytes[index] === template[at] || at < unknownEnd) continue;
      if (bytes[index] === 0 && at < zeroEnd) continue;
      zeroEnd = endOfRange(this.zeroed, at);
      if (bytes[index] === 0 && at < zeroEnd) continue;
      unknownEnd = endOfRange(this.unknown, at);
      if (at >= unknownEnd) return at;
    }
    return undefined;
  }
}

export interface Export {
  readonly name: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly description: string;
  /** Empty: everybody. */
  readonly users: readonly string[];
  readonly content: Content;
}

export interface WorldOptions {
  readonly tls: TlsMode;
  readonly exports: readonly Export[];
  /** Bytes are carried by sockets: pieces may arrive together, and TLS is real. */
  readonly overSockets: boolean;
  /** Whether zeroing is fast is told by its alignment. */
  readonly knowsFastZero: boolean;
  readonly rotational?: boolean;
}

export class World {
  readonly exports: readonly Export[];
  readonly tls: TlsMode;
  readonly overSockets: boolean;
  readonly knowsFastZero: boolean;
  readonly rotational: boolean;
  /** Requests of these kinds were made to fail. */
  readonly failing = new Set<number>();
  /** The device took no writes for a while. */
  wasFull = false;
  /** Somebody reserved the volume for a while. */
  wasReserved = false;

  constructor({ tls, exports, overSockets, knowsFastZero, rotational = false }: WorldOptions) {
    this.rotational = rotational;
    this.tls = tls;
    this.exports = exports;
    this.overSockets = overSockets;
    this.knowsFastZero = knowsFastZero;
  }
}
