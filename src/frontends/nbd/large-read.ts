/**
 * READ replies that do not fit one reply buffer, in pieces of a buffer each.
 *
 *   BufferedRead  reads all pieces first and then sends them behind one head: an error is always an error reply. Its
 *                 memory is in the connection's budget.
 *   StreamedRead  for reads beyond half of that budget: sends each piece as it is read, with two buffers at most. It
 *                 runs alone on its connection, because nothing may come between the pieces of one head.
 *
 * What becomes of an error in the middle of a StreamedRead depends on what was negotiated ("Request types",
 * NBD_CMD_READ). A simple reply has its error in the head, before the data: there is only the choice to disconnect. In
 * chunks, each piece is one that nothing can go wrong with any more, and an error chunk ends the reply. A client that
 * wants it unfragmented gets the one chunk filled up with zeros first.
 */
import type { GatewayError } from '../../base/errors.js';
import { BLOCK_BYTES } from '../../base/units.js';
import type { BlockDevice, Completion } from '../../ports/block-device.js';
import { errnoOf, nbdAnswers } from './error-table.js';
import type { ReplyBuffer } from './reply-buffer.js';
import { dataHeadBytesOf, replyForm, writeDataHead } from './reply-form.js';
import type { RequestSlot } from './request-slot.js';
import { errno } from './wire.js';
import type { Errno } from './wire.js';

/** What a large read needs of its connection. */
export interface LargeReadHost {
  readonly device: BlockDevice;
  /** Data bytes of one piece. */
  readonly pieceBytes: number;
  readonly closed: boolean;
  /** Sent, but not taken by the kernel. */
  readonly pendingBytes: number;
  takeBuffer(): ReplyBuffer;
  /** The hold on the buffer passes on. */
  sendPart(buffer: ReplyBuffer, start: number, end: number): void;
  /** `answered`: all of the reply was sent, else one without data must be, of success or error. */
  readEnded(slot: RequestSlot, error: Errno, answered: boolean): void;
  /** Ends the connection. */
  fail(reason: string): void;
}

interface Piece {
  readonly buffer: ReplyBuffer;
  readonly end: number;
}

export class BufferedRead implements Completion {
  readonly #host: LargeReadHost;
  readonly #slot: RequestSlot;
  readonly #pieces: Piece[] = [];
  #offset = 0;
  /** One more than the pieces that are still being read, until all were begun. */
  #pending = 1;
  #error: Errno = errno.none;

  constructor(host: LargeReadHost, slot: RequestSlot) {
    this.#host = host;
    this.#slot = slot;
  }

  start(offset: number): void {
    const { device, pieceBytes } = this.#host;
    this.#offset = offset;
    for (let at = 0; at < this.#slot.lengthBytes && this.#error === errno.none; at += pieceBytes) {
      const buffer = this.#host.takeBuffer();
      const room = at === 0 ? dataHeadBytesOf(this.#slot.form) : 0;
      const count = Math.min(pieceBytes, this.#slot.lengthBytes - at);
      this.#pieces.push({ buffer, end: room + count });
      try {
        if (!device.read(offset + at, count, buffer.bytes, room, this)) this.#pending++;
      } catch (error) {
        this.#error = errnoOf(error);
      }
    }
    this.done(undefined);
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined) this.#error = nbdAnswers[error.code].request;
    this.#pending--;
    if (this.#pending === 0) this.#finish();
  }

  #finish(): void {
    const first = this.#pieces[0];
    const answered = this.#error === errno.none && first !== undefined;
    if (!answered || this.#host.closed) {
      for (const piece of this.#pieces) piece.buffer.release();
    } else {
      writeDataHead(first.buffer.bytes, 0, this.#slot, this.#offset, this.#slot.lengthBytes, true);
      for (const piece of this.#pieces) this.#host.sendPart(piece.buffer, 0, piece.end);
    }
    this.#host.readEnded(this.#slot, this.#error, answered);
  }
}

export class StreamedRead implements Completion {
  readonly #host: LargeReadHost;
  readonly #slot: RequestSlot;
  readonly #firstOffset: number;
  /** Each piece is a chunk of its own. */
  readonly #fragmented: boolean;
  #sentBytes = 0;
  #buffer: ReplyBuffer | undefined;
  #waiting = false;
  /** What went wrong within the one chunk of an unfragmented reply. */
  #error: Errno = errno.none;

  constructor(host: LargeReadHost, slot: RequestSlot, offset: number) {
    this.#host = host;
    this.#slot = slot;
    this.#firstOffset = offset;
    this.#fragmented = slot.form !== replyForm.simple && !slot.unfragmented;
  }

  /** Reads and sends until it must wait: for the device (then `done` goes on) or for the peer (then `progressed`). */
  advance(): void {
    while (this.#sentBytes < this.#slot.lengthBytes) {
      if (this.#host.closed) return this.#host.readEnded(this.#slot, errno.none, true);
      this.#waiting = this.#host.pendingBytes >= 2 * this.#host.pieceBytes;
      if (this.#waiting) return;
      this.#buffer = this.#host.takeBuffer();
      try {
        if (!this.#fill(this.#buffer)) return;
      } catch (error) {
        if (!this.#refuse(errnoOf(error))) return;
        continue;
      }
      this.#send(this.#buffer);
    }
    // The one chunk of an unfragmented reply could still have failed; its end says whether it has.
    const answered = this.#fragmented || this.#slot.form === replyForm.simple;
    this.#host.readEnded(this.#slot, this.#error, answered);
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined) {
      if (!this.#refuse(nbdAnswers[error.code].request)) return;
    } else if (this.#buffer !== undefined) this.#send(this.#buffer);
    this.advance();
  }

  /** The kernel took some of what was sent, or the connection ended. */
  progressed(): void {
    if (this.#waiting) this.advance();
  }

  get #offset(): number {
    return this.#firstOffset + this.#sentBytes;
  }

  /** Chunks begin at multiples of 4096 bytes, but for the first of an unaligned read. */
  get #count(): number {
    const roomBytes = this.#host.pieceBytes - (this.#fragmented ? this.#offset % BLOCK_BYTES : 0);
    return Math.min(roomBytes, this.#slot.lengthBytes - this.#sentBytes);
  }

  get #room(): number {
    return this.#sentBytes === 0 || this.#fragmented ? dataHeadBytesOf(this.#slot.form) : 0;
  }

  #fill(buffer: ReplyBuffer): boolean {
    const room = this.#room;
    if (this.#error === errno.none) return this.#host.device.read(this.#offset, this.#count, buffer.bytes, room, this);
    buffer.bytes.fill(0, room, room + this.#count);
    return true;
  }

  #send(buffer: ReplyBuffer): void {
    const count = this.#count;
    const end = this.#room + count;
    if (this.#fragmented) {
      const last = this.#sentBytes + count === this.#slot.lengthBytes;
      writeDataHead(buffer.bytes, 0, this.#slot, this.#offset, count, last);
    } else if (this.#sentBytes === 0) {
      writeDataHead(buffer.bytes, 0, this.#slot, this.#firstOffset, this.#slot.lengthBytes, false);
    }
    this.#sentBytes += count;
    this.#buffer = undefined;
    if (this.#host.closed) buffer.release();
    else this.#host.sendPart(buffer, 0, end);
  }

  /** True: the reply goes on, to fill its chunk up. */
  #refuse(error: Errno): boolean {
    this.#buffer?.release();
    this.#buffer = undefined;
    if (this.#sentBytes > 0 && !this.#fragmented) {
      if (this.#slot.form !== replyForm.simple) {
        this.#error = error;
        return true;
      }
      this.#host.fail('a read failed after its reply had begun');
    }
    this.#host.readEnded(this.#slot, error, false);
    return false;
  }
}
