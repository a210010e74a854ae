/**
 * Finds the bandwidth that nobody else wants, by latency, after LEDBAT (RFC 6817) and LEDBAT++: what makes a queue grow
 * at the bottleneck delays every answer, so the rate grows while delays stay near their base and shrinks when they rise.
 * Traffic that fills queues (TCP) therefore pushes this one aside, and gets out of its way at once.
 *
 * Evidence comes from outside as samples of delay, each kind ('answer': from the last byte sent until the answer;
 * 'round-trip': of the connection) with a base of its own, the least of the last ten minutes. A kind's newest delay is
 * the least of what came since the last decision, since a store has slow moments of its own. The base may have been
 * learned behind a queue, one's own too: every 20 s the rate drops to a quarter for a moment, so that queue empties and
 * the true base shows (LEDBAT++, section 4.5).
 *
 * The rate grows only as far as it is used: a limit that nothing has reached proves nothing. It makes no timers: without
 * samples nothing changes. Not for stores without delay of their own, such as a directory.
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../ports/clock.js';

export const AUTO_BYTES_PER_SECOND_MIN = 64 * 1024;
export const AUTO_BYTES_PER_SECOND_MAX = 4 * 1024 ** 3;
const FIRST_BYTES_PER_SECOND = 1024 * 1024;

/** Delay over base that is aimed at (LEDBAT++: 60 ms); half the base where that is more. */
const TARGET_MS = 60;
const DECISION_MS_MIN = 200;
/**
 * So many decisions in a row without a sign of a queue: what held the line is gone, and the rate grows faster, up to
 * this share of what the line has carried before.
 */
const CLEAR_DECISIONS = 4;
const PROVEN_SHARE = 0.6;
const CLEAR_EXCESS = 0.25;
/** A limit that is used less is not what holds the traffic back. */
const USED_SHARE = 0.7;
const SETTLE_MS_MAX = 2000;
const SLOWDOWN_EVERY_MS = 20_000;
const SLOWDOWN_MS = 600;
const SLOWDOWN_SHARE = 1 / 4;
const BASE_SLOT_MS = 60_000;
const BASE_SLOTS = 10;

/** The least delay of the last ten minutes, and of the samples since the last decision. */
class Delay {
  /** Newest last. */
  readonly #slots: { readonly atMs: number; leastMs: number }[] = [];
  #recentMs = Infinity;
  #recentCount = 0;

  add(nowMs: number, delayMs: number): void {
    const newest = this.#slots.at(-1);
    if (newest !== undefined && nowMs - newest.atMs < BASE_SLOT_MS) newest.leastMs = Math.min(newest.leastMs, delayMs);
    else this.#slots.push({ atMs: nowMs, leastMs: delayMs });
    if (this.#slots.length > BASE_SLOTS) this.#slots.shift();
    this.#recentMs = Math.min(this.#recentMs, delayMs);
    this.#recentCount++;
  }

  get baseMs(): number {
    return this.#slots.reduce((least, { leastMs }) => Math.min(least, leastMs), Infinity);
  }

  get recentCount(): number {
    return this.#recentCount;
  }

  /** How far the newest delay lies over the base, in targets; undefined without a new sample. */
  excess(): number | undefined {
    if (this.#recentCount === 0) return undefined;
    const { baseMs } = this;
    return (this.#recentMs - baseMs) / Math.max(TARGET_MS, baseMs / 2);
  }

  forgetRecent(): void {
    this.#recentMs = Infinity;
    this.#recentCount = 0;
  }
}

export interface AutoRateOptions {
  readonly clock: Clock;
  /** Called with every change. */
  readonly onRate: (bytesPerSecond: number) => void;
}

export class AutoRate {
  readonly #clock: Clock;
  readonly #onRate: (bytesPerSecond: number) => void;
  readonly #delays = new Map<string, Delay>();
  /** What the control law says; during a slowdown less is in force. */
  #rate = FIRST_BYTES_PER_SECOND;
  /** Doubling until the first sign of a queue. */
  #starting = true;
  #clear = 0;
  /** The greatest rate that was used. */
  #provenRate = 0;
  #decidedMs: number;
  /** Before it no decision: what was sent at the old rate is still on its way. */
  #settledMs: number;
  #sentBytes = 0;
  #slowdownAtMs: number;
  #slowUntilMs = 0;

  constructor(options: AutoRateOptions) {
    this.#clock = options.clock;
    this.#onRate = options.onRate;
    const nowMs = options.clock.nowMs();
    this.#decidedMs = nowMs;
    this.#settledMs = nowMs;
    this.#slowdownAtMs = nowMs + SLOWDOWN_EVERY_MS;
  }

  get bytesPerSecond(): number {
    const share = this.#slowUntilMs > 0 ? SLOWDOWN_SHARE : 1;
    return Math.max(AUTO_BYTES_PER_SECOND_MIN, this.#rate * share);
  }

  /** Bytes have been given to the network. */
  sent(bytes: number): void {
    this.#sentBytes += bytes;
    if (this.#slowUntilMs > 0 && this.#clock.nowMs() >= this.#slowUntilMs) this.#endSlowdown();
  }

  sample(kind: string, delayMs: number): void {
    assert(delayMs >= 0, 'a delay is not negative');
    const nowMs = this.#clock.nowMs();
    let delay = this.#delays.get(kind);
    if (delay === undefined) this.#delays.set(kind, (delay = new Delay()));
    delay.add(nowMs, delayMs);
    if (this.#slowUntilMs > 0) {
      if (nowMs >= this.#slowUntilMs) this.#endSlowdown();
      return;
    }
    if (nowMs < this.#settledMs) delay.forgetRecent();
    else this.#decide(nowMs);
  }

  /** The store said that it is too much (503), or did not answer in time. */
  refused(): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#settledMs) return;
    this.#starting = false;
    this.#settle(nowMs, this.#rate / 2, DECISION_MS_MIN);
  }

  #decide(nowMs: number): void {
    const elapsedMs = nowMs - this.#decidedMs;
    if (elapsedMs < DECISION_MS_MIN) return;
    let excess = -Infinity;
    let queueMs = 0;
    let baseMs = 0;
    for (const delay of this.#delays.values()) {
      const own = delay.excess();
      // One late answer alone is the store's affair, unless there is nothing else to go by for long.
      if (own === undefined || (own > 1 && delay.recentCount < 2 && elapsedMs < 2000)) continue;
      if (own > excess) [excess, baseMs, queueMs] = [own, delay.baseMs, own * Math.max(TARGET_MS, delay.baseMs / 2)];
    }
    if (excess === -Infinity) return;
    const achieved = (this.#sentBytes * 1000) / elapsedMs;
    if (excess > 1) {
      this.#starting = false;
      this.#clear = 0;
      // Where the line takes less than it is given, what it takes is what counts.
      const used = achieved < this.#rate * USED_SHARE ? Math.max(achieved, this.#rate / 4) : this.#rate;
      this.#settle(nowMs, used * Math.max(0.5, 1 - 0.5 * (excess - 1)), Math.min(SETTLE_MS_MAX, queueMs + baseMs));
    } else if (this.#starting && excess > 0.5) {
      this.#starting = false;
      this.#settle(nowMs, this.#rate * 0.75, queueMs + baseMs);
    } else {
      this.#settle(nowMs, this.#grown(achieved, excess, elapsedMs), baseMs);
      if (nowMs >= this.#slowdownAtMs) this.#beginSlowdown(nowMs);
    }
  }

  #grown(achieved: number, excess: number, elapsedMs: number): number {
    // Not more than was proven: the limit was not what held the traffic back.
    if (achieved < this.#rate * USED_SHARE) return this.#rate;
    this.#provenRate = Math.max(this.#provenRate, Math.min(achieved, this.#rate));
    if (this.#starting) return this.#rate * 2;
    this.#clear = excess < CLEAR_EXCESS ? this.#clear + 1 : 0;
    if (this.#clear > CLEAR_DECISIONS && this.#rate < this.#provenRate * PROVEN_SHARE) return this.#rate * 1.5;
    const seconds = Math.min(2000, elapsedMs) / 1000;
    return this.#rate * (1 + 0.25 * seconds * (1 - Math.max(0, excess)));
  }

  #settle(nowMs: number, rate: number, waitMs: number): void {
    const wanted = Math.min(AUTO_BYTES_PER_SECOND_MAX, Math.max(AUTO_BYTES_PER_SECOND_MIN, rate));
    this.#decidedMs = nowMs;
    this.#settledMs = nowMs + waitMs;
    this.#sentBytes = 0;
    for (const delay of this.#delays.values()) delay.forgetRecent();
    if (wanted === this.#rate) return;
    this.#rate = wanted;
    this.#onRate(this.bytesPerSecond);
  }

  #beginSlowdown(nowMs: number): void {
    this.#slowUntilMs = nowMs + SLOWDOWN_MS;
    this.#onRate(this.bytesPerSecond);
  }

  #endSlowdown(): void {
    const nowMs = this.#clock.nowMs();
    this.#slowUntilMs = 0;
    this.#slowdownAtMs = nowMs + SLOWDOWN_EVERY_MS;
    this.#decidedMs = nowMs;
    this.#settledMs = nowMs;
    this.#sentBytes = 0;
    for (const delay of this.#delays.values()) delay.forgetRecent();
    this.#onRate(this.bytesPerSecond);
  }
}
