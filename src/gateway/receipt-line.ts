/**
 * A volume's receipts between its replicator and those who keep them: reads the newest one that was published back
 * before replication begins, so that a bucket which is older is refused even where the directory was rolled back with
 * it; publishes what is issued, again until it is there; and answers who asks.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ReceiptOutlet } from '../ports/receipt-outlet.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';

const againMs = 60_000;
const answerMsMax = 10_000;

interface Question {
  readonly resolve: (text: string) => void;
  readonly reject: (error: GatewayError) => void;
}

export class ReceiptLine {
  readonly #outlet: ReceiptOutlet | undefined;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #questions = new Map<number, Question>();
  #nextId = 1;
  /** Not published yet. */
  #pending: string | undefined;
  #publishing = false;
  #again: Timer | undefined;
  #closed = false;

  constructor(options: { readonly outlet: ReceiptOutlet | undefined; readonly clock: Clock; readonly log: Log }) {
    this.#outlet = options.outlet;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  get publishes(): boolean {
    return this.#outlet !== undefined;
  }

  /** What the bucket must contain. A place that does not answer holds nobody up (P6). */
  async known(): Promise<readonly string[]> {
    try {
      const text = await this.#outlet?.readBack();
      return text === undefined ? [] : [text];
    } catch (error) {
      this.#log.warn(`the exported receipt cannot be read, and the bucket is not held to it: ${reasonOf(error)}`);
      return [];
    }
  }

  ask(send: (message: ToReplicator) => void): Promise<string> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      // A replicator that begins anew has not heard the question.
      const timer = this.#clock.after(answerMsMax, () => {
        this.#questions.delete(id);
        reject(new GatewayError('store-unreachable', 'the replicator does not answer; ask again'));
      });
      const settled =
        <Value>(settle: (value: Value) => void) =>
        (value: Value): void => {
          timer.cancel();
          settle(value);
        };
      this.#questions.set(id, { resolve: settled(resolve), reject: settled(reject) });
      send({ type: 'receipt', id });
    });
  }

  received({ id, result }: Extract<FromReplicator, { type: 'receipt' }>): void {
    if (id === 0) {
      if (typeof result === 'string') this.#publish(result);
      return;
    }
    const question = this.#questions.get(id);
    this.#questions.delete(id);
    if (typeof result === 'string') question?.resolve(result);
    else question?.reject(new GatewayError(result.code, result.message));
  }

  /** The replicator has ended. */
  refuse(error: GatewayError): void {
    for (const { reject } of this.#questions.values()) reject(error);
    this.#questions.clear();
  }

  close(): void {
    this.#closed = true;
    this.#pending = undefined;
    this.#again?.cancel();
    this.refuse(new GatewayError('volume-closed', 'the gateway is stopping'));
  }

  #publish(text: string): void {
    if (this.#outlet === undefined) return;
    this.#pending = text;
    if (!this.#publishing && this.#again === undefined) void this.#work(this.#outlet);
  }

  async #work(outlet: ReceiptOutlet): Promise<void> {
    this.#publishing = true;
    this.#again = undefined;
    while (this.#pending !== undefined && !this.#closed) {
      const text = this.#pending;
      try {
        await outlet.publish(text);
        if (this.#pending === text) this.#pending = undefined;
      } catch (error) {
        this.#log.warn(`a receipt could not be exported, and is tried again: ${reasonOf(error)}`);
        this.#again = this.#clock.after(againMs, () => void this.#work(outlet));
        break;
      }
    }
    this.#publishing = false;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
