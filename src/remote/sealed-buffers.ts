/**
 * Memory of sealed segments, used again: 8 MiB that are new each time cost more in page faults, and in garbage
 * collections that they bring about, than what is done with them.
 *
 * Invariant: whoever gives bytes back knows that nobody reads them any more, not even a request that was given up: other
 * bytes under a name that is taken would be lost data. What is not given back is left to the garbage collector.
 */
import { roundUp } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';

/** Sizes differ by their indexes. */
const STEP_BYTES = 256 * 1024;

export class SealedBuffers {
  readonly #checksums: Pick<Checksums, 'alignedBuffer' | 'discard'>;
  readonly #freeMax: number;
  readonly #free: Uint8Array[] = [];
  /** The whole buffer of what was taken. */
  readonly #whole = new WeakMap<Uint8Array, Uint8Array>();

  constructor(options: { readonly checksums: Pick<Checksums, 'alignedBuffer' | 'discard'>; readonly freeMax: number }) {
    this.#checksums = options.checksums;
    this.#freeMax = options.freeMax;
  }

  /** Exactly so many bytes, at the start of a page; what they hold is undefined. */
  take(lengthBytes: number): Uint8Array {
    const free = this.#free.pop();
    const whole =
      free !== undefined && free.length >= lengthBytes
        ? free
        : this.#checksums.alignedBuffer(roundUp(lengthBytes, STEP_BYTES));
    const bytes = whole.subarray(0, lengthBytes);
    this.#whole.set(bytes, whole);
    return bytes;
  }

  /** What `take` returned; bytes of others, and bytes that were given back already, are ignored. */
  giveBack(bytes: Uint8Array): void {
    const whole = this.#whole.get(bytes);
    if (whole === undefined) return;
    this.#whole.delete(bytes);
    if (this.#free.length < this.#freeMax) this.#free.push(whole);
  }

  /** What is free gives its memory back to the system, and stays for the next. */
  releaseMemory(): void {
    for (const whole of this.#free) this.#checksums.discard(whole);
  }
}
