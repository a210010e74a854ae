/**
 * One fetch for all who want the same thing at the same time. Each waits under a signal of its own, so that one who gives
 * up takes nothing from the others; the fetch itself is ended when the last one has given up. Nothing is kept: what comes
 * back goes to those who waited, and the next one asks again.
 */
import { GatewayError } from '../base/errors.js';
import type { StoreRequest } from '../ports/object-store.js';

interface Flight<T> {
  readonly result: Promise<T>;
  readonly ended: AbortController;
  waiting: number;
}

export class SharedFetch<T> {
  readonly #flights = new Map<string, Flight<T>>();

  /** What `fetch` resolves to; it is called only when nobody fetches `key` yet. store-unreachable when `signal` aborts. */
  get(key: string, { signal }: StoreRequest, fetch: (request: StoreRequest) => Promise<T>): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(gaveUp(key));
    const flight = this.#flights.get(key) ?? this.#begin(key, fetch);
    flight.waiting++;
    return new Promise((resolve, reject) => {
      const giveUp = (): void => {
        this.#leave(key, flight);
        reject(gaveUp(key));
      };
      const stay = onAbort(signal, giveUp);
      flight.result
        .finally(stay)
        .then(resolve, (error: unknown) => reject(error instanceof Error ? error : new Error(String(error))));
    });
  }

  #begin(key: string, fetch: (request: StoreRequest) => Promise<T>): Flight<T> {
    const ended = new AbortController();
    const result = fetch({ signal: ended.signal }).finally(() => this.#forget(key, flight));
    const flight: Flight<T> = { result, ended, waiting: 0 };
    this.#flights.set(key, flight);
    return flight;
  }

  /** A fetch that nobody waits for is no longer offered: whoever comes now must not get its abortion. */
  #leave(key: string, flight: Flight<T>): void {
    flight.waiting--;
    if (flight.waiting > 0) return;
    this.#forget(key, flight);
    flight.ended.abort();
  }

  #forget(key: string, flight: Flight<T>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}

/** One listener for each signal, however much waits under it: Node takes many for a leak. */
const waitingUnder = new WeakMap<AbortSignal, Set<() => void>>();

/** Returns how to take it back. */
function onAbort(signal: AbortSignal | undefined, giveUp: () => void): () => void {
  if (signal === undefined) return () => undefined;
  const waiting = waitingUnder.get(signal) ?? new Set();
  if (!waitingUnder.has(signal)) {
    waitingUnder.set(signal, waiting);
    signal.addEventListener('abort', () => waiting.forEach((each) => each()), { once: true });
  }
  waiting.add(giveUp);
  return () => waiting.delete(giveUp);
}

function gaveUp(key: string): GatewayError {
  return new GatewayError('store-unreachable', `${key} did not come back in time`);
}
