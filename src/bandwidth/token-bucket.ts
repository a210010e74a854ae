/**
 * A token bucket: the gateway's budget of bytes per second, with a bounded burst, changeable while in use.
 *
 * Waiters of one lane (a volume) are served in the order in which they came. Among lanes the one that got the fewest
 * bytes comes first (start-time fair queueing, Goyal et al. 1996): lanes that ask all the time get equal bytes per second
 * however large their requests are, one that was idle saves nothing up, and nothing is kept from whoever asks. A request larger than the burst is granted when the bucket is full and leaves it in debt, which later
 * requests wait off: the average stays right and nothing waits for ever. Time comes from the Clock port alone.
 */
import { assert } from '../base/assert.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { Clock, Timer } from '../ports/clock.js';

interface Waiter {
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

export interface TokenBucketOptions {
  readonly clock: Clock;
  /** UNLIMITED, or more than 0. */
  readonly bytesPerSecond: number;
  /** How much may pass at once after a pause. Default: what a second allows, between 64 KiB and 16 MiB. */
  readonly burstBytes?: number | ((bytesPerSecond: number) => number);
}

const BURST_BYTES_MIN = 64 * 1024;
const BURST_BYTES_MAX = 16 * 1024 * 1024;

function burstOfASecond(bytesPerSecond: number): number {
  return Math.min(BURST_BYTES_MAX, Math.max(BURST_BYTES_MIN, bytesPerSecond));
}

export class TokenBucket {
  readonly #clock: Clock;
  readonly #burst: (bytesPerSecond: number) => number;
  /** Waiters by lane; among equals the one that has waited longest is first. */
  readonly #lanes = new Map<string, Waiter[]>();
  /** Where each lane's next request begins in virtual time, bytes; without an entry it begins now. */
  readonly #starts = new Map<string, number>();
  /** Virtual time: the start of what was granted last. */
  #virtualBytes = 0;
  #rate: number;
  #tokens: number;
  #refilledMs: number;
  #timer: Timer | undefined;

  constructor(options: TokenBucketOptions) {
    assert(options.bytesPerSecond > 0, 'a rate is more than 0 bytes per second');
    this.#clock = options.clock;
    const { burstBytes = burstOfASecond } = options;
    this.#burst = typeof burstBytes === 'number' ? () => burstBytes : burstBytes;
    this.#rate = options.bytesPerSecond;
    this.#tokens = this.burstBytes;
    this.#refilledMs = options.clock.nowMs();
  }

  get bytesPerSecond(): number {
    return this.#rate;
  }

  get burstBytes(): number {
    return this.#burst(this.#rate);
  }

  get waiting(): number {
    let count = 0;
    for (const lane of this.#lanes.values()) count += lane.length;
    return count;
  }

  /** Changes the rate at once, for those who wait too. */
  setRate(bytesPerSecond: number): void {
    assert(bytesPerSecond > 0, 'a rate is more than 0 bytes per second');
    this.#refill();
    this.#rate = bytesPerSecond;
    this.#tokens = Math.min(this.#tokens, this.burstBytes);
    this.#serve();
  }

  /**
   * Takes `bytes` from the budget. undefined: granted at once; else wait for the promise, which rejects when the signal
   * aborts. Lanes (volumes) take turns; within a lane first come, first served.
   */
  take(
    bytes: number,
    options: { readonly lane?: string; readonly signal?: AbortSignal } = {},
  ): Promise<void> | undefined {
    const { lane = '', signal } = options;
    signal?.throwIfAborted();
    this.#refill();
    if (this.#lanes.size === 0 && this.#grant(bytes)) {
      this.#account(lane, bytes);
      return undefined;
    }
    return new Promise<void>((resolve, reject) => {
      const onAbort = (): void => this.#forget(lane, waiter);
      const waiter: Waiter = { bytes, resolve, reject, signal, onAbort };
      signal?.addEventListener('abort', onAbort, { once: true });
      const waiters = this.#lanes.get(lane);
      if (waiters === undefined) this.#lanes.set(lane, [waiter]);
      else waiters.push(waiter);
      this.#serve();
    });
  }

  /** Counts bytes that have passed already (negative: that were taken but did not pass); who comes later waits. */
  charge(bytes: number): void {
    this.#refill();
    if (this.#rate === UNLIMITED) return;
    this.#tokens = Math.min(this.burstBytes, this.#tokens - bytes);
    if (bytes < 0) this.#serve();
  }

  #refill(): void {
    const nowMs = this.#clock.nowMs();
    const elapsedMs = nowMs - this.#refilledMs;
    this.#refilledMs = nowMs;
    this.#tokens =
      this.#rate === UNLIMITED
        ? this.burstBytes
        : Math.min(this.burstBytes, this.#tokens + (elapsedMs * this.#rate) / 1000);
  }

  #needed(bytes: number): number {
    return Math.min(bytes, this.burstBytes);
  }

  #grant(bytes: number): boolean {
    if (this.#rate === UNLIMITED) return true;
    if (this.#tokens < this.#needed(bytes)) return false;
    this.#tokens -= bytes;
    return true;
  }

  #serve(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#refill();
    for (;;) {
      const next = this.#next();
      if (next === undefined) return;
      const [lane, waiters] = next;
      const [waiter] = waiters;
      assert(waiter !== undefined, 'a lane of the token bucket has a waiter');
      if (!this.#grant(waiter.bytes)) {
        const missing = this.#needed(waiter.bytes) - this.#tokens;
        // At least one millisecond, so that rounding cannot make the timer spin.
        const delayMs = Math.max(1, Math.ceil((missing * 1000) / this.#rate));
        this.#timer = this.#clock.after(delayMs, () => this.#serve());
        return;
      }
      waiters.shift();
      this.#account(lane, waiter.bytes);
      // Behind the other lanes that got as much.
      this.#lanes.delete(lane);
      if (waiters.length > 0) this.#lanes.set(lane, waiters);
      waiter.signal?.removeEventListener('abort', waiter.onAbort);
      waiter.resolve();
    }
  }

  /** The lane that waits and has had least. */
  #next(): [string, Waiter[]] | undefined {
    let best: [string, Waiter[]] | undefined;
    let bestStart = Infinity;
    for (const entry of this.#lanes) {
      const start = this.#start(entry[0]);
      if (start < bestStart) [best, bestStart] = [entry, start];
    }
    return best;
  }

  #start(lane: string): number {
    return Math.max(this.#virtualBytes, this.#starts.get(lane) ?? 0);
  }

  #account(lane: string, bytes: number): void {
    const start = this.#start(lane);
    this.#virtualBytes = start;
    this.#starts.set(lane, start + bytes);
    // A lane that is not ahead of virtual time is as one that was never here.
    for (const [name, at] of this.#starts) if (at <= start) this.#starts.delete(name);
  }

  #forget(lane: string, waiter: Waiter): void {
    const waiters = this.#lanes.get(lane);
    const at = waiters?.indexOf(waiter) ?? -1;
    if (waiters === undefined || at < 0) return;
    waiters.splice(at, 1);
    if (waiters.length === 0) this.#lanes.delete(lane);
    waiter.reject(waiter.signal?.reason);
    this.#serve();
  }
}
