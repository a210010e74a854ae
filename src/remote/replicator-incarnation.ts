/**
 * One life of a replicator. `stop` is final: the signal aborts what is in flight, and every step of the replicator
 * asks `check` after each wait, so that a promise of a dead incarnation never has an effect.
 */
import { setMaxListeners } from 'node:events';

/** Thrown inside a stopped incarnation; ends its loops silently. */
export class StoppedError extends Error {
  override readonly name = 'StoppedError';
}

export class Incarnation {
  readonly #controller = new AbortController();

  constructor() {
    // Each upload, fetch and question that waits listens; limits bound how many there are.
    setMaxListeners(0, this.#controller.signal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  get stopped(): boolean {
    return this.#controller.signal.aborted;
  }

  /** Throws when this life is over. */
  check(): void {
    if (this.stopped) throw new StoppedError('the replicator was stopped');
  }

  stop(): void {
    this.#controller.abort();
  }
}
