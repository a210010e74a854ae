/**
 * Retries of the replicator: for ever, with jittered backoff, since an absent or refusing store must cost age of the
 * recovery point and nothing else (P6). Whatever the store's own failures are (registry codes that begin with
 * "store-"), they are retried: credentials and buckets get repaired too. Everything else is thrown.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { StoppedError } from './replicator-incarnation.js';
import type { Incarnation } from './replicator-incarnation.js';
import { retryDelayMs } from './store-retry.js';

export interface RetryObserver {
  /** `consecutive` failures of this one call so far. */
  failed(what: string, error: GatewayError, consecutive: number): void;
  /** A call that had failed succeeded. */
  recovered(what: string): void;
}

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly incarnation: Incarnation;
  readonly observer: RetryObserver;
}

export class StoreRetry {
  readonly #options: RetryOptions;

  constructor(options: RetryOptions) {
    this.#options = options;
  }

  /** Calls `attempt` until it succeeds, fails for good, or the incarnation stops (StoppedError). */
  async run<Result>(what: string, attempt: (request: StoreRequest) => Promise<Result>): Promise<Result> {
    const { incarnation, observer } = this.#options;
    for (let failures = 0; ;) {
      incarnation.check();
      try {
        const result = await attempt({ signal: incarnation.signal });
        incarnation.check();
        if (failures > 0) observer.recovered(what);
        return result;
      } catch (error) {
        incarnation.check();
        if (!isStoreFailure(error)) throw error;
        failures++;
        observer.failed(what, error, failures);
        await this.#pause(failures);
      }
    }
  }

  async #pause(failures: number): Promise<void> {
    const { clock, random, incarnation } = this.#options;
    try {
      await clock.sleep(retryDelayMs(failures, random.fraction()), incarnation.signal);
    } catch {
      throw new StoppedError('the replicator was stopped');
    }
  }
}

export function isStoreFailure(error: unknown): error is GatewayError {
  return error instanceof GatewayError && error.code.startsWith('store-') && error.code !== 'store-no-conditional-put';
}
