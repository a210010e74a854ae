/**
 * A payload that did not arrive in one piece with its header, or is not that of a WRITE: where it goes, and how much is
 * to come.
 *
 * A payload whose request was refused is skipped, and the error is answered only behind it: some clients take no reply
 * to a request that they are still sending. One connection has at most one incoming payload.
 */
import { assert } from '../../base/assert.js';
import type { PartialWrite } from '../../ports/block-device.js';
import { errnoOf } from './error-table.js';
import { opIndex } from './request-check.js';
import type { RequestSlot } from './request-slot.js';
import { command } from './wire.js';
import type { Errno } from './wire.js';

/** Where a payload goes: a write of the device, or what this front end itself wants to know. */
export type PayloadReceiver = Pick<PartialWrite, 'fill' | 'submit' | 'abandon'>;

const writeIndex = opIndex(command.write);

export class IncomingPayload {
  #remainingBytes = 0;
  #slot: RequestSlot | undefined;
  #partial: PayloadReceiver | undefined;

  /** Bytes still to come. */
  get remainingBytes(): number {
    return this.#remainingBytes;
  }

  /** It is what a device is to write, not what says something about a request. */
  get isWrite(): boolean {
    return this.#slot?.op === writeIndex;
  }

  /** Without `partial` the payload is skipped. */
  begin(slot: RequestSlot, lengthBytes: number, partial: PayloadReceiver | undefined): void {
    assert(this.#slot === undefined, 'a payload ends before the next one begins');
    this.#slot = slot;
    this.#partial = partial;
    this.#remainingBytes = lengthBytes;
  }

  /** Takes what of it is in buffer[at, end); returns where that ends. */
  take(buffer: Uint8Array, at: number, end: number): number {
    const next = at + Math.min(this.#remainingBytes, end - at);
    this.#partial?.fill(buffer, at, next);
    this.#remainingBytes -= next - at;
    return next;
  }

  /** Its write is no longer allowed: it goes, and `submit` will say so; one that was refused before keeps its error. */
  refuse(error: Errno): void {
    if (this.#slot === undefined || this.#partial === undefined) return;
    this.#partial.abandon();
    this.#partial = undefined;
    this.#slot.error = error;
  }

  /** It is all there. Returns undefined when the write took its place in the order, else the request to refuse. */
  submit(): RequestSlot | undefined {
    const slot = this.#slot;
    const partial = this.#partial;
    assert(slot !== undefined && this.#remainingBytes === 0, 'a whole payload is submitted');
    this.#slot = undefined;
    this.#partial = undefined;
    if (partial === undefined) return slot;
    try {
      partial.submit(slot.forceUnitAccess, slot);
      return undefined;
    } catch (error) {
      slot.error = errnoOf(error);
      return slot;
    }
  }

  /** Forgets it: its write was never acknowledged, and must not land later. Returns its request, if there was one. */
  abandon(): RequestSlot | undefined {
    const slot = this.#slot;
    this.#partial?.abandon();
    this.#slot = undefined;
    this.#partial = undefined;
    this.#remainingBytes = 0;
    return slot;
  }
}
