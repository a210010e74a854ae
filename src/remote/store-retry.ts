/**
 * Repeats requests that failed for a reason that may pass (GatewayError.retryable), with exponential backoff and full
 * jitter. It knows nothing of contents: after a lost reply a repeated conditional PUT answers 'exists', and who put it
 * is for the caller to recognise. A signal ends the waiting.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Clock } from '../ports/clock.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';

const FIRST_DELAY_MS = 200;

export interface RetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** How often a request is tried at most; default: until it succeeds or is aborted. */
  readonly attemptsMax?: number;
  /** Told of every failed attempt that will be repeated. */
  readonly onRetry?: (error: GatewayError, attempt: number, delayMs: number) => void;
}

export class RetryingStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: RetryOptions;

  constructor(inner: ObjectStore, options: RetryOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  get description(): string {
    return this.#inner.description;
  }

  put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    return this.#repeat(options, () => this.#inner.put(key, body, options));
  }

  get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    return this.#repeat(options, () => this.#inner.get(key, options));
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.#repeat(options, () => this.#inner.head(key, options));
  }

  delete(key: string, options: StoreRequest = {}): Promise<void> {
    return this.#repeat(options, () => this.#inner.delete(key, options));
  }

  /** Goes on behind the last key that it yielded. */
  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    let after = options.after;
    for (let attempt = 1; ; attempt++) {
      try {
        const rest = after === undefined ? options : { ...options, after };
        for await (const object of this.#inner.list(prefix, rest)) {
          after = object.key;
          attempt = 1;
          yield object;
        }
        return;
      } catch (error) {
        await this.#backOff(error, attempt, options.signal);
      }
    }
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #repeat<Result>(request: StoreRequest, send: () => Promise<Result>): Promise<Result> {
    for (let attempt = 1; ; attempt++) {
      request.signal?.throwIfAborted();
      try {
        return await send();
      } catch (error) {
        await this.#backOff(error, attempt, request.signal);
      }
    }
  }

  /** Waits before the next attempt, or throws `error` when there is none. */
  async #backOff(error: unknown, attempt: number, signal: AbortSignal | undefined): Promise<void> {
    const { clock, random, attemptsMax = Infinity, onRetry } = this.#options;
    if (signal?.aborted === true || !(error instanceof GatewayError) || !error.retryable || attempt >= attemptsMax) {
      throw error;
    }
    const delayMs = retryDelayMs(attempt, random.fraction());
    onRetry?.(error, attempt, delayMs);
    await clock.sleep(delayMs, signal);
  }
}

/**
 * Full jitter between half and all of an exponential delay: gateways that lost a store together do not return together,
 * and none returns at once.
 */
export function retryDelayMs(attempt: number, fraction: number): number {
  const ceilingMs = Math.min(limits.storeRetryMsMax, FIRST_DELAY_MS * 2 ** Math.min(attempt - 1, 16));
  return ceilingMs / 2 + (fraction * ceilingMs) / 2;
}
