/**
 * Finds the bandwidth that nobody else wants, by latency, after LEDBAT (RFC 6817) and LEDBAT++: what makes a queue grow
 * at the bottleneck delays every answer, so the rate grows while delays stay near their base and shrinks when they rise.
 * Traffic that fills queues (TCP) therefore pushes this one aside, and gets out of its way at once.
 *
 * Evidence comes from outside, of two kinds:
 * - Samples, many a second: what the connection feels ('round-trip', 'outstanding'). Each has a base of its own; the
 *   newest delay is the least of what came since the last decision.
 * - Answers to whole uploads (answers.ts): few where objects are large, but they come from the far end.
 *
 * A connection to something that takes all at once, such as a proxy nearby, feels nothing of the way behind it: its many
 * good samples say nothing. So where bodies are answered, samples let the rate grow only after they have shown a queue,
 * and until answers are late without it; else answers decide, by what was given after the last decision took effect.
 * Their lateness is summed up (CUSUM, Page 1954), for one late answer may be the store's affair. When it is a queue, the
 * rate falls to what was delivered (BBR's delivery rate), less what empties the queue until the next answer; if they are
 * late again after that, others make the queue, and the rate halves. Where the line has carried more before, it comes
 * back by steps; beyond that it grows by little, since until the next answer nothing will tell that it is too much.
 *
 * A base may have been learned behind a queue, one's own too: every 20 s, and never for more than a tenth of the time,
 * the rate drops to a quarter for a moment, so that queue empties and the true base shows (LEDBAT++, section 4.5).
 *
 * The rate grows only as far as it is used: a limit that nothing has reached proves nothing. It makes no timers: without
 * evidence nothing changes. Not for stores without delay of their own, such as a directory.
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../ports/clock.js';
import { Answers } from './answers.js';
import type { Answer, GivenBody } from './answers.js';
import { SampledDelay } from './delay.js';

export const AUTO_BYTES_PER_SECOND_MIN = 64 * 1024;
export const AUTO_BYTES_PER_SECOND_MAX = 4 * 1024 ** 3;
const FIRST_BYTES_PER_SECOND = 1024 * 1024;

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
/** The time until the next slowdown, in lengths of the last. */
const SLOWDOWN_REST = 9;

/** So much lateness in a row, in targets over the target, is a queue. */
const LATENESS = 2;
const LATENESS_AGAIN = 0.5;
const EMPTY_MS_MAX = 10_000;
/** Where only answers tell, the rate is such that one comes at least so often: how else would it find that the line is free? */
const ANSWER_EVERY_MS = 30_000;
/** Growth of the rate with each second or two, where the line has carried more before: no more than this at once. */
const RECOVERY_MAX = 3;
const ANSWER_PROVEN_SHARE = 0.8;
/** Where the line delivers less of the rate, the queue is one's own, and so much is all that it carries. */
const OWN_SHARE = 0.8;
const GROWTH_FIRST = 0.02;
const GROWTH_GROWTH = 1.25;
const GROWTH_MAX = 0.25;

export interface AutoRateOptions {
  readonly clock: Clock;
  /** Bodies are answered when they have arrived: see `answered`. */
  readonly answers: boolean;
  /** Called with every change. */
  readonly onRate: (bytesPerSecond: number) => void;
}

export class AutoRate {
  readonly #clock: Clock;
  readonly #onRate: (bytesPerSecond: number) => void;
  readonly #delays = new Map<string, SampledDelay>();
  readonly #answers = new Answers();
  /** What the control law says; during a slowdown less is in force. */
  #rate = FIRST_BYTES_PER_SECOND;
  /** Doubling until the first sign of a queue. */
  #starting = true;
  #clear = 0;
  /** Lateness of answers, summed up (CUSUM, Page 1954). */
  #lateness = 0;
  /** Of the answers since `lookedMs`. */
  #leastExcess = Infinity;
  #lookedMs = 0;
  /** What the last decision for late answers expected to be in the queue. */
  #queueMs = 0;
  #growth = GROWTH_FIRST;
  /** The last decision was for late answers. */
  #wasLate = false;
  /** The connection shows no queue, though there may be one. */
  #blind: boolean;
  /** The greatest rate that was used. */
  #provenRate = 0;
  /** What the line delivered while it had a queue. */
  #lineRate = 0;
  #answeredBytes = 0;
  #decidedMs: number;
  /** Before it no decision: what was sent at the old rate is still on its way. */
  #settledMs: number;
  /** Answers to what was given before it are of the old rate. */
  #effectiveMs: number;
  #sentBytes = 0;
  #givenBytes = 0;
  #slowdownAtMs: number;
  #slowSinceMs: number | undefined;

  constructor(options: AutoRateOptions) {
    this.#clock = options.clock;
    this.#onRate = options.onRate;
    this.#blind = options.answers;
    const nowMs = options.clock.nowMs();
    this.#decidedMs = this.#settledMs = this.#effectiveMs = nowMs;
    this.#slowdownAtMs = nowMs + SLOWDOWN_EVERY_MS;
  }

  get bytesPerSecond(): number {
    if (this.#slowSinceMs === undefined) return this.#rate;
    const least = this.#blind ? this.#answeredRate : AUTO_BYTES_PER_SECOND_MIN;
    return Math.min(this.#rate, Math.max(least, this.#rate * SLOWDOWN_SHARE));
  }

  /** Of all bodies, until now. */
  get givenBytes(): number {
    return this.#givenBytes;
  }

  /** Bytes have been given to the network. */
  sent(bytes: number): void {
    this.#sentBytes += bytes;
    this.#givenBytes += bytes;
    if (!this.#blind) this.#endSlowdown(this.#clock.nowMs());
  }

  sample(kind: string, delayMs: number): void {
    assert(delayMs >= 0, 'a delay is not negative');
    const nowMs = this.#clock.nowMs();
    let delay = this.#delays.get(kind);
    if (delay === undefined) this.#delays.set(kind, (delay = new SampledDelay()));
    delay.add(nowMs, delayMs);
    if (this.#slowSinceMs !== undefined) {
      if (!this.#blind) this.#endSlowdown(nowMs);
      return;
    }
    if (nowMs < this.#settledMs) delay.forgetRecent();
    else this.#decideBySamples(nowMs);
  }

  /** A body has arrived, and the answer came now. */
  answered(body: GivenBody): void {
    const nowMs = this.#clock.nowMs();
    this.#answeredBytes = body.bytes;
    const answer = this.#answers.add(nowMs, body);
    if (this.#slowSinceMs !== undefined) {
      if (body.givenMs >= this.#slowSinceMs + SLOWDOWN_MS) this.#endSlowdown(nowMs);
      return;
    }
    if (answer === undefined) return;
    // Unless it is worse than what was decided about.
    if (body.givenMs < this.#effectiveMs && (answer.excess < 4 || answer.queueMs < 2 * this.#queueMs)) return;
    this.#leastExcess = Math.min(this.#leastExcess, answer.excess);
    if (nowMs < this.#lookedMs + DECISION_MS_MIN) return;
    const excess = this.#leastExcess;
    this.#lookedMs = nowMs;
    this.#leastExcess = Infinity;
    this.#lateness = Math.max(0, this.#lateness + excess - 1);
    if (this.#lateness >= (this.#wasLate ? LATENESS_AGAIN : LATENESS)) {
      // Where the connection feels it as well, it decides by that, and sooner.
      if (this.#felt() <= 0.5) this.#blind = true;
      if (this.#blind) this.#shrinkByAnswers(nowMs, body, answer);
    } else if (this.#blind && excess <= 1) {
      this.#growByAnswers(nowMs, excess);
    }
  }

  /** The store said that it is too much (503), or did not answer in time. */
  refused(): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#settledMs) return;
    this.#starting = false;
    this.#settle(nowMs, this.#rate / 2, DECISION_MS_MIN);
  }

  /** The greatest excess that samples show at the moment. */
  #felt(): number {
    let excess = -Infinity;
    for (const delay of this.#delays.values()) excess = Math.max(excess, delay.excess() ?? -Infinity);
    return excess;
  }

  /** At which answers come often enough. */
  get #answeredRate(): number {
    return Math.max(AUTO_BYTES_PER_SECOND_MIN, (this.#answeredBytes * 1000) / ANSWER_EVERY_MS);
  }

  #shrinkByAnswers(nowMs: number, body: GivenBody, { queueMs, deliveryRate }: Answer): void {
    const line = Math.min(this.#rate, deliveryRate ?? this.#rate);
    // What was given since then is in the queue too.
    const queueNowMs = Math.max(queueMs, ((this.#givenBytes - body.givenBytes) * 1000) / line);
    const elapsedMs = Math.max(1, nowMs - this.#decidedMs);
    const share = this.#wasLate ? 0.5 : Math.min(0.9, Math.max(0.5, 1 - queueNowMs / elapsedMs));
    this.#starting = false;
    this.#clear = this.#lateness = 0;
    this.#growth = GROWTH_FIRST;
    this.#lineRate = line;
    if (!this.#wasLate && line < this.#rate * OWN_SHARE) this.#provenRate = Math.min(this.#provenRate, line);
    this.#queueMs = queueNowMs;
    const emptyMs = Math.min(EMPTY_MS_MAX, queueNowMs / (1 - share));
    this.#settle(nowMs, Math.max(Math.min(this.#rate, this.#answeredRate), line * share), emptyMs);
    this.#wasLate = true;
  }

  #growByAnswers(nowMs: number, excess: number): void {
    const elapsedMs = nowMs - this.#decidedMs;
    if (elapsedMs < DECISION_MS_MIN) return;
    const achieved = (this.#sentBytes * 1000) / elapsedMs;
    let rate = this.#rate;
    let slowdown = false;
    if (achieved >= rate * USED_SHARE) {
      this.#provenRate = Math.max(this.#provenRate, Math.min(achieved, rate));
      const proven = Math.max(this.#provenRate * ANSWER_PROVEN_SHARE, this.#lineRate * 0.9);
      const clear = 1 - Math.max(0, excess);
      if (this.#starting) rate *= 2;
      else if (rate < proven) rate = Math.min(proven, rate * (1 + Math.min(RECOVERY_MAX, elapsedMs / 2000) * clear));
      else {
        rate *= 1 + Math.min(this.#growth, (0.25 * elapsedMs) / 1000) * clear;
        this.#growth = Math.min(GROWTH_MAX, this.#growth * GROWTH_GROWTH);
        slowdown = nowMs >= this.#slowdownAtMs;
      }
    }
    if (excess < 0.5) this.#wasLate = false;
    this.#settle(nowMs, rate, 0);
    if (slowdown) this.#beginSlowdown(nowMs);
  }

  #decideBySamples(nowMs: number): void {
    const elapsedMs = nowMs - this.#decidedMs;
    if (elapsedMs < DECISION_MS_MIN) return;
    let excess = -Infinity;
    let queueMs = 0;
    let baseMs = 0;
    for (const delay of this.#delays.values()) {
      const own = delay.excess();
      // One late answer alone is the store's affair, unless there is nothing else to go by for long.
      if (own === undefined || (own > 1 && delay.recentCount < 2 && elapsedMs < 2000)) continue;
      if (own > excess) [excess, baseMs, queueMs] = [own, delay.base.ms, own * delay.base.targetMs];
    }
    if (excess === -Infinity) return;
    const achieved = (this.#sentBytes * 1000) / elapsedMs;
    if (excess > 0.5) this.#blind = false;
    if (this.#blind) {
      for (const delay of this.#delays.values()) delay.forgetRecent();
    } else if (excess > 1) {
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
    this.#settledMs = this.#effectiveMs = nowMs + waitMs;
    this.#sentBytes = 0;
    for (const delay of this.#delays.values()) delay.forgetRecent();
    if (wanted === this.#rate) return;
    this.#rate = wanted;
    this.#onRate(this.bytesPerSecond);
  }

  #beginSlowdown(nowMs: number): void {
    this.#slowSinceMs = nowMs;
    this.#onRate(this.bytesPerSecond);
  }

  /** Once it was long enough. */
  #endSlowdown(nowMs: number): void {
    const lengthMs = nowMs - (this.#slowSinceMs ?? nowMs);
    if (lengthMs < SLOWDOWN_MS) return;
    this.#slowSinceMs = undefined;
    this.#slowdownAtMs = nowMs + Math.max(SLOWDOWN_EVERY_MS, SLOWDOWN_REST * lengthMs);
    this.#lateness = 0;
    this.#settle(nowMs, this.#rate, 0);
    this.#onRate(this.bytesPerSecond);
  }
}
