/**
 * The engine's way to the bucket's copy of its blocks: questions go to the replicator by the volume's line, answers come
 * back by id. Without a replicator, or once that has ended, the answer is no. The engine bounds the wait.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import type { RemoteCopy } from '../ports/remote-copy.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';

interface Question {
  readonly resolve: (bytes: Uint8Array) => void;
  readonly reject: (error: GatewayError) => void;
  readonly timer: Timer;
}

export class RemoteCopyLine implements RemoteCopy {
  readonly #clock: Clock;
  readonly #questions = new Map<number, Question>();
  #send: ((message: ToReplicator) => void) | undefined;
  #refusal: GatewayError | undefined;
  #nextId = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  connect(send: (message: ToReplicator) => void): void {
    this.#send = send;
  }

  fetch(block: BlockNumber, throughLsn: Lsn): Promise<Uint8Array> {
    const send = this.#send;
    if (this.#refusal !== undefined) return Promise.reject(this.#refusal);
    if (send === undefined) return Promise.reject(new GatewayError('not-supported', 'the volume does not replicate'));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      // A replicator that never answers must not leave questions behind.
      const timer = this.#clock.after(2 * limits.healMsMax, () => this.#questions.delete(id));
      this.#questions.set(id, { resolve, reject, timer });
      send({ type: 'fetch', id, block, throughLsn });
    });
  }

  answered({ id, result }: Extract<FromReplicator, { type: 'fetched' }>): void {
    const question = this.#questions.get(id);
    this.#questions.delete(id);
    question?.timer.cancel();
    if (result instanceof Uint8Array) question?.resolve(result);
    else question?.reject(new GatewayError(result.code, result.message));
  }

  /** Another life of the replicator begins. */
  revive(): void {
    this.#refusal = undefined;
  }

  /** The replicator has ended. */
  refuse(error: GatewayError): void {
    this.#refusal = error;
    for (const { reject, timer } of this.#questions.values()) {
      timer.cancel();
      reject(error);
    }
    this.#questions.clear();
  }
}
