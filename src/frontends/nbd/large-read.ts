/**
 * READ replies that do not fit one reply buffer, in pieces of a buffer each.
 *
 * A simple reply has its error in the header, before the data; an error that turns up later leaves only the choice to
 * disconnect ("Request types", NBD_CMD_READ). So:
 *
 *   BufferedRead  reads all pieces first and then sends header and data: an error is always an error reply. Its memory
 *                 is in the connection's budget.
 *   StreamedRead  for reads beyond half of that budget: sends each piece as it is read, with two buffers at most. It
 *                 runs alone on its connection, because nothing may come between its pieces. An error in the first
 *                 piece is an error reply, a later one ends the connection.
 */
import type { GatewayError } from '../../base/errors.js';
import type { BlockDevice, Completion } from '../../ports/block-device.js';
import { errnoOf, nbdAnswers } from './error-table.js';
import type { ReplyBuffer } from './reply-buffer.js';
import { writeSimpleReply } from './reply-writer.js';
import type { RequestSlot } from './request-slot.js';
import { errno, wireBytes } from './wire.js';
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
  /** The reply was sent (error none), or an error reply must be. */
  readEnded(slot: RequestSlot, error: Errno): void;
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
  /** One more than the pieces that are still being read, until all were begun. */
  #pending = 1;
  #error: Errno = errno.none;

  constructor(host: LargeReadHost, slot: RequestSlot) {
    this.#host = host;
    this.#slot = slot;
  }

  start(offset: number): void {
    const { device, pieceBytes } = this.#host;
    for (let at = 0; at < this.#slot.lengthBytes && this.#error === errno.none; at += pieceBytes) {
      const buffer = this.#host.takeBuffer();
      const room = at === 0 ? wireBytes.simpleReply : 0;
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
    if (this.#error !== errno.none || this.#host.closed || first === undefined) {
      for (const piece of this.#pieces) piece.buffer.release();
    } else {
      writeSimpleReply(first.buffer.bytes, 0, errno.none, this.#slot.cookieHigh, this.#slot.cookieLow);
      for (const piece of this.#pieces) this.#host.sendPart(piece.buffer, 0, piece.end);
    }
    this.#host.readEnded(this.#slot, this.#error);
  }
}

export class StreamedRead implements Completion {
  readonly #host: LargeReadHost;
  readonly #slot: RequestSlot;
  readonly #firstOffset: number;
  #sentBytes = 0;
  #buffer: ReplyBuffer | undefined;
  #waiting = false;

  constructor(host: LargeReadHost, slot: RequestSlot, offset: number) {
    this.#host = host;
    this.#slot = slot;
    this.#firstOffset = offset;
  }

  /** Reads and sends until it must wait: for the device (then `done` goes on) or for the peer (then `progressed`). */
  advance(): void {
    const { device, pieceBytes } = this.#host;
    while (this.#sentBytes < this.#slot.lengthBytes) {
      if (this.#host.closed) return this.#host.readEnded(this.#slot, errno.none);
      this.#waiting = this.#host.pendingBytes >= 2 * pieceBytes;
      if (this.#waiting) return;
      this.#buffer = this.#host.takeBuffer();
      try {
        if (!device.read(this.#firstOffset + this.#sentBytes, this.#count, this.#buffer.bytes, this.#room, this))
          return;
      } catch (error) {
        return this.#refuse(errnoOf(error));
      }
      this.#send(this.#buffer);
    }
    this.#host.readEnded(this.#slot, errno.none);
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined) return this.#refuse(nbdAnswers[error.code].request);
    if (this.#buffer !== undefined) this.#send(this.#buffer);
    this.advance();
  }

  /** The kernel took some of what was sent, or the connection ended. */
  progressed(): void {
    if (this.#waiting) this.advance();
  }

  get #count(): number {
    return Math.min(this.#host.pieceBytes, this.#slot.lengthBytes - this.#sentBytes);
  }

  get #room(): number {
    return this.#sentBytes === 0 ? wireBytes.simpleReply : 0;
  }

  #send(buffer: ReplyBuffer): void {
    const end = this.#room + this.#count;
    if (this.#sentBytes === 0) {
      writeSimpleReply(buffer.bytes, 0, errno.none, this.#slot.cookieHigh, this.#slot.cookieLow);
    }
    this.#sentBytes += this.#count;
    this.#buffer = undefined;
    if (this.#host.closed) buffer.release();
    else this.#host.sendPart(buffer, 0, end);
  }

  #refuse(error: Errno): void {
    this.#buffer?.release();
    this.#buffer = undefined;
    if (this.#sentBytes > 0) this.#host.fail('a read failed after its reply had begun');
    this.#host.readEnded(this.#slot, error);
  }
}
