/** The BLOCK_STATUS requests of one connection, from their header, or their filter, to their answer. */
import { limits } from '../../base/limits.js';
import type { BlockDevice } from '../../ports/block-device.js';
import { StatusFilter, isFilterLength, statusOf } from './block-status-reply.js';
import type { ContextStatus, StatusQuestion } from './block-status-reply.js';
import { errnoOf } from './error-table.js';
import type { PayloadReceiver } from './incoming-payload.js';
import type { MetaContext } from './meta-context.js';
import type { RequestCheck } from './request-check.js';
import type { RequestSlot } from './request-slot.js';
import { command, commandFlag, errno } from './wire.js';

/** What they need of their connection. */
export interface StatusHost {
  readonly device: BlockDevice;
  /** Bytes that an answer may have. */
  readonly pieceBytes: number;
  /** Nobody reads the answers any more. */
  readonly closed: boolean;
  /** Whether the reply budget takes an answer more. Where it does not, `advance` is called when it may. */
  readonly takesStatus: boolean;
  /** Answers it: with slot.error, or where that is none, with these. */
  statusEnded(slot: RequestSlot, answers: readonly ContextStatus[]): void;
}

export class StatusRequests {
  readonly #host: StatusHost;
  readonly #contexts: readonly MetaContext[];
  readonly #check: RequestCheck;
  #running = 0;
  /** Those that wait for one of these to end, in the order in which they came; no more than may be in flight. */
  readonly #waiting: { readonly slot: RequestSlot; readonly question: StatusQuestion }[] = [];

  constructor(host: StatusHost, contexts: readonly MetaContext[], check: RequestCheck) {
    this.#host = host;
    this.#contexts = contexts;
    this.#check = check;
  }

  /** Bytes that the answers of those that run may have. */
  get heldBytes(): number {
    return this.#running * this.#host.pieceBytes;
  }

  /** About all contexts that were negotiated. */
  start(slot: RequestSlot, offset: number, lengthBytes: number, flags: number): void {
    this.#ask(slot, this.#contexts, offset, lengthBytes, flags);
  }

  /** What takes the payload that says which contexts it is about; undefined: no payload of that length can say it. */
  filter(slot: RequestSlot, offset: number, flags: number): PayloadReceiver | undefined {
    if (!isFilterLength(slot.lengthBytes, this.#contexts)) return undefined;
    return new StatusFilter(slot.lengthBytes, this.#contexts, (lengthBytes, contexts) => {
      const plain = flags & ~commandFlag.payloadLen;
      slot.error =
        contexts === undefined ? errno.EINVAL : this.#check.error(command.blockStatus, plain, offset, lengthBytes);
      if (slot.error === errno.none) this.#ask(slot, contexts ?? [], offset, lengthBytes, flags);
      else this.#host.statusEnded(slot, []);
    });
  }

  /** In its turn, so that what comes behind it in the stream, and is no such question, need not wait. */
  #ask(slot: RequestSlot, contexts: readonly MetaContext[], offset: number, lengthBytes: number, flags: number): void {
    // It moves no data that could be counted.
    slot.lengthBytes = 0;
    this.#waiting.push({ slot, question: { contexts, offset, lengthBytes, one: (flags & commandFlag.reqOne) !== 0 } });
    this.advance();
  }

  /** Asks for those whose turn has come. */
  advance(): void {
    const { device, pieceBytes } = this.#host;
    while (this.#waiting.length > 0 && (this.#host.closed || this.#mayAsk)) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      const { slot, question } = next;
      if (this.#host.closed) {
        this.#host.statusEnded(slot, []);
        continue;
      }
      this.#running++;
      void statusOf(device, question, pieceBytes).then(
        (answers) => this.#end(slot, answers),
        (error: unknown) => {
          slot.error = errnoOf(error);
          this.#end(slot, []);
        },
      );
    }
  }

  #end(slot: RequestSlot, answers: readonly ContextStatus[]): void {
    this.#running--;
    this.#host.statusEnded(slot, answers);
    this.advance();
  }

  get #mayAsk(): boolean {
    return this.#running < limits.nbdStatusInflightMax && this.#host.takesStatus;
  }
}
