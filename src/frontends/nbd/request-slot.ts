/** One request between its arrival and its reply. Slots are pooled (request-ledger.ts): a request allocates nothing. */
import type { GatewayError } from '../../base/errors.js';
import type { Completion } from '../../ports/block-device.js';
import type { ReplyBuffer } from './reply-buffer.js';
import { replyForm } from './reply-form.js';
import type { ReplyForm } from './reply-form.js';
import { errno, readI32 } from './wire.js';
import type { Errno } from './wire.js';

export interface SlotOwner {
  /** The device ended a request. */
  completed(slot: RequestSlot, error: GatewayError | undefined): void;
}

export class RequestSlot implements Completion {
  /** Index into ioOps. */
  op = 0;
  /** The two halves of the 64-bit cookie, as signed numbers: they are only sent back. */
  cookieHigh = 0;
  cookieLow = 0;
  /** The halves of the 64-bit offset, which an extended reply repeats. */
  offsetHigh = 0;
  offsetLow = 0;
  form: ReplyForm = replyForm.simple;
  lengthBytes = 0;
  startedMs = 0;
  forceUnitAccess = false;
  /** READ with DF: one chunk. */
  unfragmented = false;
  /** What will be answered, once known. */
  error: Errno = errno.none;
  /** Of a read that is still running: where its reply is being built. */
  buffer: ReplyBuffer | undefined;
  position = 0;
  offset = 0;
  readonly #owner: SlotOwner;

  constructor(owner: SlotOwner) {
    this.#owner = owner;
  }

  /** Takes from a request's header what its reply repeats. */
  identify(header: Uint8Array, at: number): void {
    this.cookieHigh = readI32(header, at + 8);
    this.cookieLow = readI32(header, at + 12);
    this.offsetHigh = readI32(header, at + 16);
    this.offsetLow = readI32(header, at + 20);
  }

  done(error: GatewayError | undefined): void {
    this.#owner.completed(this, error);
  }
}
