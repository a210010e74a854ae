/**
 * The replicator's way to the rounds of its volume (engine/rounds.ts), which run on another thread: questions with an id,
 * answers with the same one. The other end is round-answer.ts.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { RoundSource } from '../ports/replication.js';
import type { FromReplicator, RoundAnswer, RoundAsk, ToReplicator } from './replication-messages.js';
import { StoppedError } from './replicator-incarnation.js';

interface Question {
  readonly resolve: (answer: RoundAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Outlives the lives of a replicator, so that no answer reaches another life than the one that asked. */
export class RoundLink {
  readonly #emit: (message: FromReplicator) => void;
  readonly #questions = new Map<number, Question>();
  #nextId = 1;

  constructor(emit: (message: FromReplicator) => void) {
    this.#emit = emit;
  }

  /** For one life: what it asked is answered with a StoppedError once `signal` says that it is over. */
  during(signal: AbortSignal): RoundSource {
    return {
      begin: async () => {
        const answer = await this.#ask({ do: 'begin' }, signal);
        assert(answer.to === 'begin', 'a question about a round gets its own answer');
        return answer.result;
      },
      read: async (round, from, blocksMax) => {
        const answer = await this.#ask({ do: 'read', round, from, blocksMax }, signal);
        assert(answer.to === 'read', 'a question about a round gets its own answer');
        return answer.result;
      },
      end: async (round) => {
        const answer = await this.#ask({ do: 'end', round }, signal);
        assert(answer.to === 'end', 'a question about a round gets its own answer');
        return answer.result;
      },
    };
  }

  answered({ id, answer }: Extract<ToReplicator, { type: 'round' }>): void {
    this.#questions.get(id)?.resolve(answer);
  }

  async #ask(ask: RoundAsk, signal: AbortSignal): Promise<Exclude<RoundAnswer, { to: 'failed' }>> {
    const answer = await this.#answer(ask, signal);
    if (answer.to === 'failed') throw new GatewayError(answer.result.code, answer.result.message);
    return answer;
  }

  async #answer(ask: RoundAsk, signal: AbortSignal): Promise<RoundAnswer> {
    const id = this.#nextId++;
    const over = (): void => this.#questions.get(id)?.reject(new StoppedError('the replicator was stopped'));
    try {
      return await new Promise<RoundAnswer>((resolve, reject) => {
        this.#questions.set(id, { resolve, reject });
        signal.addEventListener('abort', over, { once: true });
        if (signal.aborted) over();
        else this.#emit({ type: 'round', id, ask });
      });
    } finally {
      signal.removeEventListener('abort', over);
      this.#questions.delete(id);
    }
  }
}
