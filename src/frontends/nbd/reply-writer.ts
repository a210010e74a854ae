/**
 * Gathers the replies of a wake-up in one buffer, and hands them to the stream in one write.
 *
 *   current.bytes:  | sent or lent to reads | gathered, not sent | free |
 *                   0                    unsent                fill
 *
 * A read takes its place behind `fill` before its outcome is known. Done at once: the place joins the gathered part.
 * Still running: the place is cut out (the gathered part before it is sent first), and its reply is sent later from
 * there, or copied to the gathered part where that is cheaper than a write of its own. Replies may so leave out of
 * order, which the protocol allows.
 *
 * Hot path: allocates nothing per reply.
 */
import { assert } from '../../base/assert.js';
import type { Stream } from '../../ports/stream.js';
import type { ReplyBuffer, ReplyBufferPool, ReplySender } from './reply-buffer.js';
import { PLAIN_REPLY_BYTES_MAX, writePlainReply } from './reply-form.js';
import type { RequestSlot } from './request-slot.js';

export class ReplyWriter {
  readonly #stream: Stream;
  readonly #pool: ReplyBufferPool;
  readonly #sender: ReplySender;
  #current: ReplyBuffer | undefined;
  #unsent = 0;
  #fill = 0;

  constructor(stream: Stream, pool: ReplyBufferPool, sender: ReplySender) {
    this.#stream = stream;
    this.#pool = pool;
    this.#sender = sender;
  }

  /** The buffer that has room for lengthBytes (at most the pool's buffer size) at `position`. */
  reserve(lengthBytes: number): ReplyBuffer {
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
    return current;
  }

  /** Where the room of the last `reserve` begins. */
  get position(): number {
    return this.#fill;
  }

  /** The reserved room now holds a whole reply. */
  advance(lengthBytes: number): void {
    this.#fill += lengthBytes;
  }

  /** Cuts the reserved room out for a read that still runs; the caller holds the buffer until it releases it. */
  lend(lengthBytes: number): ReplyBuffer {
    const current = this.#current;
    assert(current !== undefined, 'room is lent after it was reserved');
    current.holders++;
    this.#send(current);
    this.#fill += lengthBytes;
    this.#unsent = this.#fill;
    return current;
  }

  /** A reply without data: success, or slot.error. */
  append(slot: RequestSlot): void {
    const { bytes } = this.reserve(PLAIN_REPLY_BYTES_MAX);
    this.#fill += writePlainReply(bytes, this.#fill, slot);
  }

  /** Sends a part of a buffer by itself; the hold that the caller had on it passes to the stream. */
  sendPart(buffer: ReplyBuffer, start: number, end: number): void {
    if (this.#stream.write(buffer.bytes, start, end, buffer.sent)) buffer.release();
  }

  /** Sends what is gathered, and lets go of the buffer unless others still hold parts of it. */
  flush(): void {
    const current = this.#current;
    if (current === undefined) return;
    this.#send(current);
    if (current.holders === 1) this.#detach(current);
  }

  /** Forgets what was gathered: the connection is gone. */
  close(): void {
    if (this.#current !== undefined) this.#detach(this.#current);
  }

  #send(current: ReplyBuffer): void {
    if (this.#unsent === this.#fill) return;
    current.holders++;
    const start = this.#unsent;
    this.#unsent = this.#fill;
    if (this.#stream.write(current.bytes, start, this.#fill, current.sent)) current.release();
  }

  #detach(current: ReplyBuffer): void {
    this.#current = undefined;
    this.#unsent = 0;
    this.#fill = 0;
    current.release();
  }
}
