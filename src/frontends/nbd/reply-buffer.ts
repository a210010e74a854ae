/**
 * The memory that replies are built in: pooled buffers of one size, shared by all connections of a server.
 *
 * A buffer is held by several parties at a time, and counts them: the writer that gathers replies in it, reads that are
 * still filling a part of it, and the stream while the kernel has not taken what was sent. It returns to the pool when
 * the last one lets go. The pool keeps few free buffers; the most recently used one, still in the cache, goes out first.
 */
import { assert } from '../../base/assert.js';
import { limits } from '../../base/limits.js';
import { DATA_HEAD_BYTES_MAX } from './reply-form.js';

/** Whose replies a buffer holds: told when the kernel took some of what it had refused to take at once. */
export interface ReplySender {
  progressed(): void;
}

export class ReplyBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  holders = 0;
  sender: ReplySender | undefined;
  readonly #pool: ReplyBufferPool;

  constructor(pool: ReplyBufferPool, lengthBytes: number) {
    this.#pool = pool;
    this.bytes = new Uint8Array(lengthBytes);
  }

  release(): void {
    assert(this.holders > 0, 'a reply buffer is released as often as it was held');
    this.holders--;
    if (this.holders > 0) return;
    this.sender = undefined;
    this.#pool.giveBack(this);
  }

  /** What Stream.write calls later: a property, so that handing it over makes no closure. */
  readonly sent = (): void => {
    const sender = this.sender;
    this.release();
    sender?.progressed();
  };
}

export class ReplyBufferPool {
  /** The largest part of a read that one buffer takes, beside the reply's header. */
  readonly dataBytesMax: number;
  #lent = 0;
  readonly #free: ReplyBuffer[] = [];

  constructor(dataBytesMax: number = limits.nbdReplyBufferBytes) {
    this.dataBytesMax = dataBytesMax;
  }

  /** Buffers that are not in the pool. */
  get lent(): number {
    return this.#lent;
  }

  /** A buffer with one holder. */
  take(sender: ReplySender): ReplyBuffer {
    const buffer = this.#free.pop() ?? new ReplyBuffer(this, DATA_HEAD_BYTES_MAX + this.dataBytesMax);
    buffer.holders = 1;
    buffer.sender = sender;
    this.#lent++;
    return buffer;
  }

  /** Called by ReplyBuffer.release alone. */
  giveBack(buffer: ReplyBuffer): void {
    this.#lent--;
    if (this.#free.length < limits.nbdReplyBuffersFreeMax) this.#free.push(buffer);
  }
}
