/**
 * The memory that outgoing PDUs are built in: pooled buffers of one size, shared by all connections of a target.
 *
 * A buffer is held by several parties at a time, and counts them: the writer that gathers PDUs in it, reads that still
 * fill a part of it, and the stream while the kernel has not taken what was sent. It returns to the pool when the last
 * one lets go; the most recently used one, still in the cache, goes out first.
 */
import { assert } from '../../base/assert.js';
import { limits } from '../../base/limits.js';
import { BHS_BYTES, DIGEST_BYTES } from './wire.js';

/** Whose PDUs a buffer holds: told when the kernel took some of what it had refused to take at once. */
export interface Sender {
  progressed(): void;
}

const BUFFER_BYTES = BHS_BYTES + 2 * DIGEST_BYTES + limits.iscsiDataSegmentBytesMax;

export class PduBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  holders = 0;
  sender: Sender | undefined;
  readonly #pool: PduBufferPool;

  constructor(pool: PduBufferPool) {
    this.#pool = pool;
    this.bytes = new Uint8Array(BUFFER_BYTES);
  }

  release(): void {
    assert(this.holders > 0, 'a PDU buffer is released as often as it was held');
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

export class PduBufferPool {
  /** Buffers that are not in the pool. */
  lent = 0;
  readonly #free: PduBuffer[] = [];

  /** A buffer with one holder. */
  take(sender: Sender): PduBuffer {
    const buffer = this.#free.pop() ?? new PduBuffer(this);
    buffer.holders = 1;
    buffer.sender = sender;
    this.lent++;
    return buffer;
  }

  /** Called by PduBuffer.release alone. */
  giveBack(buffer: PduBuffer): void {
    this.lent--;
    if (this.#free.length < limits.iscsiSendBuffersFreeMax) this.#free.push(buffer);
  }
}
