/**
 * Cuts the received bytes into PDUs (RFC 7143, section 11.2), verifies digests, and hands them to a sink.
 *
 * A PDU that lies whole in the receive buffer is handed over in one call; otherwise header, pieces of its data segment
 * and its end come one by one, the pieces straight from the receive buffer. Only a header that arrives in parts, and
 * the up to seven bytes behind a data segment, are copied. Additional header segments are skipped: none of those that
 * exist (extended CDB, bidirectional read length) belongs to a command that is served.
 *
 * A peer whose digest or length is wrong is cut off (ProtocolError) rather than resynchronised: error recovery level 0
 * knows no other way, and guessing where the next PDU begins would execute data as commands.
 */
import { ProtocolError } from '../../base/errors.js';
import type { Checksums } from '../../ports/checksum.js';
import { readU24 } from '../../scsi/big-endian.js';
import { AHS_BYTES_MAX, BHS_BYTES, DIGEST_BYTES, field, paddingOf } from './wire.js';

export interface PduSink {
  /** False: nothing can be taken now. The reader stops before the next PDU. */
  readonly ready: boolean;
  /** A PDU whose data segment, data[start, end), is there as a whole. */
  pdu(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void;
  /** A PDU whose data segment of dataBytes arrives in pieces; `header` must not be kept. */
  begin(header: Uint8Array, at: number, dataBytes: number): void;
  piece(data: Uint8Array, start: number, end: number): void;
  /** Every byte of the data segment was handed over, and its digest is right. */
  end(): void;
  /** The data of this PDU are damaged; the connection ends right after. */
  damaged(header: Uint8Array, at: number): void;
}

const TRAILER_BYTES_MAX = 3 + DIGEST_BYTES;
const NO_BYTES = new Uint8Array(0);

export class PduReader {
  headerDigest = false;
  dataDigest = false;
  /** The largest data segment that is accepted. */
  dataBytesMax: number;
  /** Set: what still arrives is dropped. */
  stopped = false;

  readonly #checksums: Checksums;
  /** Who takes the PDUs: may change between two of them. */
  sink: PduSink;
  /** A header that arrives in parts. */
  readonly #header = new Uint8Array(BHS_BYTES + AHS_BYTES_MAX + DIGEST_BYTES);
  #headerFill = 0;
  /** Of a PDU that arrives in parts: data bytes still to come; -1 between PDUs. */
  #dataLeft = -1;
  #crc = 0;
  readonly #trailer = new Uint8Array(TRAILER_BYTES_MAX);
  #trailerFill = 0;
  #trailerBytes = 0;

  constructor(options: { readonly checksums: Checksums; readonly sink: PduSink; readonly dataBytesMax: number }) {
    this.#checksums = options.checksums;
    this.sink = options.sink;
    this.dataBytesMax = options.dataBytesMax;
  }

  /** Takes bytes[start, end); returns how many of them it used up. @throws ProtocolError */
  receive(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && !this.stopped) {
      if (this.#dataLeft >= 0) {
        at = this.#continue(bytes, at, end);
        continue;
      }
      if (!this.sink.ready) return at - start;
      const next = this.#headerFill === 0 ? this.#whole(bytes, at, end) : at;
      at = next === at ? this.#gather(bytes, at, end) : next;
    }
    return this.stopped ? end - start : at - start;
  }

  /** Handles one PDU that lies whole in bytes[at, end), and returns its end; `at` when there is none. */
  #whole(bytes: Uint8Array, at: number, end: number): number {
    if (end - at < BHS_BYTES) return at;
    const headerEnd = at + this.#headerBytes(bytes, at);
    const dataBytes = readU24(bytes, at + field.dataLength);
    const padded = dataBytes + paddingOf(dataBytes);
    const pduEnd = headerEnd + padded + (this.dataDigest && dataBytes > 0 ? DIGEST_BYTES : 0);
    if (pduEnd > end) return at;
    this.#checkHeader(bytes, at, headerEnd, dataBytes);
    if (this.dataDigest && dataBytes > 0) {
      const crc = this.#checksums.crc32c(0, bytes, headerEnd, headerEnd + padded);
      if (crc !== readDigest(bytes, headerEnd + padded)) this.#refuseData(bytes, at);
    }
    this.sink.pdu(bytes, at, bytes, headerEnd, headerEnd + dataBytes);
    return pduEnd;
  }

  /** Collects a header that is split, or takes the first part of a PDU that is. */
  #gather(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    if (this.#headerFill < BHS_BYTES) at = this.#copyHeader(bytes, at, end, BHS_BYTES);
    if (this.#headerFill < BHS_BYTES) return at;
    const headerBytes = this.#headerBytes(this.#header, 0);
    at = this.#copyHeader(bytes, at, end, headerBytes);
    if (this.#headerFill < headerBytes) return at;
    const dataBytes = readU24(this.#header, field.dataLength);
    this.#checkHeader(this.#header, 0, headerBytes, dataBytes);
    this.#headerFill = 0;
    if (dataBytes === 0) {
      this.sink.pdu(this.#header, 0, NO_BYTES, 0, 0);
      return at;
    }
    this.#dataLeft = dataBytes;
    this.#crc = 0;
    this.#trailerFill = 0;
    this.#trailerBytes = paddingOf(dataBytes) + (this.dataDigest ? DIGEST_BYTES : 0);
    this.sink.begin(this.#header, 0, dataBytes);
    return at;
  }

  #copyHeader(bytes: Uint8Array, at: number, end: number, wanted: number): number {
    const count = Math.min(wanted - this.#headerFill, end - at);
    for (let index = 0; index < count; index++) this.#header[this.#headerFill + index] = bytes[at + index] ?? 0;
    this.#headerFill += count;
    return at + count;
  }

  /** Data segment, padding and digest of a PDU whose header was handed over. */
  #continue(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    if (this.#dataLeft > 0) {
      const count = Math.min(this.#dataLeft, end - at);
      if (this.dataDigest) this.#crc = this.#checksums.crc32c(this.#crc, bytes, at, at + count);
      this.#dataLeft -= count;
      this.sink.piece(bytes, at, at + count);
      at += count;
      if (this.#dataLeft > 0) return at;
    }
    while (this.#trailerFill < this.#trailerBytes && at < end) {
      this.#trailer[this.#trailerFill] = bytes[at] ?? 0;
      this.#trailerFill++;
      at++;
    }
    if (this.#trailerFill < this.#trailerBytes) return at;
    this.#dataLeft = -1;
    if (this.dataDigest) {
      const padding = this.#trailerBytes - DIGEST_BYTES;
      const crc = this.#checksums.crc32c(this.#crc, this.#trailer, 0, padding);
      if (crc !== readDigest(this.#trailer, padding)) this.#refuseData(this.#header, 0);
    }
    this.sink.end();
    return at;
  }

  #headerBytes(bytes: Uint8Array, at: number): number {
    return BHS_BYTES + (bytes[at + field.ahsLength] ?? 0) * 4 + (this.headerDigest ? DIGEST_BYTES : 0);
  }

  #checkHeader(bytes: Uint8Array, at: number, headerEnd: number, dataBytes: number): void {
    if (this.headerDigest) {
      const digestAt = headerEnd - DIGEST_BYTES;
      if (this.#checksums.crc32c(0, bytes, at, digestAt) !== readDigest(bytes, digestAt)) {
        throw new ProtocolError('a header digest is wrong (RFC 7143 7.8)');
      }
    }
    if (dataBytes > this.dataBytesMax) {
      throw new ProtocolError(`a data segment has ${dataBytes} bytes, more than was agreed on (RFC 7143 13.12)`);
    }
  }

  #refuseData(header: Uint8Array, at: number): never {
    this.sink.damaged(header, at);
    throw new ProtocolError('a data digest is wrong (RFC 7143 7.8)');
  }
}

/** Digests are the one field that goes least significant byte first (section 13.1, RFC 3385). */
export function readDigest(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
  );
}

export function writeDigest(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}
