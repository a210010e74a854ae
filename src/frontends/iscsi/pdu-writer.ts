/**
 * Gathers the PDUs of a wake-up in one buffer, and hands them to the stream in one write.
 *
 *   current.bytes:  | sent, or lent to reads | gathered, not sent | free |
 *                   0                     unsent                fill
 *
 * A Data-In PDU takes its place behind `fill` before its read is over. Done at once: the place joins the gathered part.
 * Still running: the place is cut out (the gathered part before it is sent first), and the PDU is sent later from there,
 * or copied to the gathered part where that is cheaper than a write of its own.
 *
 * Hot path: allocates nothing per PDU.
 */
import { assert } from '../../base/assert.js';
import { limits } from '../../base/limits.js';
import type { Checksums } from '../../ports/checksum.js';
import type { Stream } from '../../ports/stream.js';
import { writeU24 } from '../../scsi/big-endian.js';
import type { PduBuffer, PduBufferPool, Sender } from './pdu-buffer.js';
import { writeDigest } from './pdu-reader.js';
import { BHS_BYTES, DIGEST_BYTES, field, paddingOf } from './wire.js';

/** Up to here a copy costs less than the system call of a write. */
const COPIED_BYTES_MAX = 16_384;

export class PduWriter {
  headerDigest = false;
  dataDigest = false;

  readonly #stream: Stream;
  readonly #pool: PduBufferPool;
  readonly #sender: Sender;
  readonly #checksums: Checksums;
  #current: PduBuffer | undefined;
  #unsent = 0;
  #fill = 0;

  constructor(options: {
    readonly stream: Stream;
    readonly pool: PduBufferPool;
    readonly sender: Sender;
    readonly checksums: Checksums;
  }) {
    this.#stream = options.stream;
    this.#pool = options.pool;
    this.#sender = options.sender;
    this.#checksums = options.checksums;
  }

  /** The peer does not read what it is sent: begin nothing that would be sent to it. */
  get congested(): boolean {
    return this.#stream.pendingBytes > limits.iscsiSendPendingBytesMax;
  }

  /** It still does not, although nothing was begun: take no further PDU from it. */
  get overloaded(): boolean {
    return this.#stream.pendingBytes > 2 * limits.iscsiSendPendingBytesMax;
  }

  /** Makes room for a PDU with a data segment of dataBytes; its header is all zero, but for opcode and length. */
  open(opcode: number, dataBytes: number): Uint8Array {
    const { bytes } = this.#reserve(this.#pduBytes(dataBytes));
    const at = this.#fill;
    bytes.fill(0, at, at + BHS_BYTES);
    bytes[at] = opcode;
    writeU24(bytes, at + field.dataLength, dataBytes);
    return bytes;
  }

  /** Where the PDU that was opened last begins. */
  get position(): number {
    return this.#fill;
  }

  /** Where the data segment of a PDU at `at` begins. */
  dataAt(at: number): number {
    return at + BHS_BYTES + (this.headerDigest ? DIGEST_BYTES : 0);
  }

  /** The opened PDU is complete: digests are added, and it joins the gathered ones. */
  close(dataBytes: number): void {
    const current = this.#current;
    assert(current !== undefined, 'a PDU is opened before it is closed');
    this.#seal(current.bytes, this.#fill, dataBytes);
    this.#fill += this.#pduBytes(dataBytes);
  }

  /** Cuts the opened PDU out for a read that still runs; ended by `closeLent` or by releasing the buffer. */
  lend(dataBytes: number): PduBuffer {
    const current = this.#current;
    assert(current !== undefined, 'a PDU is opened before it is lent');
    current.holders++;
    this.#send(current);
    this.#fill += this.#pduBytes(dataBytes);
    this.#unsent = this.#fill;
    return current;
  }

  /** The PDU at `at` of a lent buffer is complete: it follows everything that was gathered before. */
  closeLent(buffer: PduBuffer, at: number, dataBytes: number): void {
    this.#seal(buffer.bytes, at, dataBytes);
    const pduBytes = this.#pduBytes(dataBytes);
    if (pduBytes <= COPIED_BYTES_MAX) {
      const { bytes } = this.#reserve(pduBytes);
      bytes.set(buffer.bytes.subarray(at, at + pduBytes), this.#fill);
      this.#fill += pduBytes;
      buffer.release();
      return;
    }
    this.flush();
    if (this.#stream.write(buffer.bytes, at, at + pduBytes, buffer.sent)) buffer.release();
  }

  /** Sends what is gathered, and lets go of the buffer unless others still hold parts of it. */
  flush(): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#send(current);
    if (current.holders === 1) this.#detach(current);
  }

  /** Forgets what was gathered: the connection is gone. */
  discard(): void {
    if (this.#current !== undefined) this.#detach(this.#current);
  }

  #pduBytes(dataBytes: number): number {
    return (
      BHS_BYTES +
      (this.headerDigest ? DIGEST_BYTES : 0) +
      dataBytes +
      paddingOf(dataBytes) +
      (this.dataDigest && dataBytes > 0 ? DIGEST_BYTES : 0)
    );
  }

  #seal(bytes: Uint8Array, at: number, dataBytes: number): void {
    const start = this.dataAt(at);
    const end = start + dataBytes + paddingOf(dataBytes);
    bytes.fill(0, start + dataBytes, end);
    if (this.headerDigest) writeDigest(bytes, at + BHS_BYTES, this.#checksums.crc32c(0, bytes, at, at + BHS_BYTES));
    if (this.dataDigest && dataBytes > 0) writeDigest(bytes, end, this.#checksums.crc32c(0, bytes, start, end));
  }

  #reserve(lengthBytes: number): PduBuffer {
    let current = this.#current;
    if (current !== undefined && current.bytes.length - this.#fill < lengthBytes) {
      this.flush();
      current = this.#current;
      if (current !== undefined && current.bytes.length - this.#fill < lengthBytes) {
        this.#detach(current);
        current = undefined;
      }
    }
    if (current === undefined) {
      current = this.#pool.take(this.#sender);
      this.#current = current;
      this.#unsent = 0;
      this.#fill = 0;
    }
    assert(current.bytes.length - this.#fill >= lengthBytes, 'a PDU fits an empty buffer');
    return current;
  }

  #send(current: PduBuffer): void {
    if (this.#unsent === this.#fill) return;
    current.holders++;
    const start = this.#unsent;
    this.#unsent = this.#fill;
    if (this.#stream.write(current.bytes, start, this.#fill, current.sent)) current.release();
  }

  #detach(current: PduBuffer): void {
    this.#current = undefined;
    this.#unsent = 0;
    this.#fill = 0;
    current.release();
  }
}
