/**
 * What answers to uploads tell of the way to the store. Unlike anything that a connection feels, an answer comes from the
 * far end: whatever stands between, a proxy that takes a whole object at once too, has delivered the object then.
 *
 * Queueing delay: how long after its last byte an object is answered, over the least of the last ten minutes for objects
 * of its size (RFC 6817); something that takes an object wholly before it sends it on needs time by its size.
 * Delivery rate: bytes that were given no later than the answered object's last byte, between two answers, for the time
 * between these (Cardwell et al., BBR, 2016; draft-cheng-iccrg-delivery-rate-estimation). While there is a queue, it is
 * what the line carries for us.
 */
import { BaseDelay, TARGET_MS } from './delay.js';

/** A body of which the last byte was given to the network. */
export interface GivenBody {
  readonly bytes: number;
  /** When its last byte was given. */
  readonly givenMs: number;
  /** Of all bodies, until then. */
  readonly givenBytes: number;
}

/** Over less, the store's own moments count for too much. */
const RATE_MS_MIN = 1000;
/**
 * What is aimed at is no less than twice the store's own unrest: the mean difference between one delay and the next of
 * its class (the interarrival jitter of RFC 3550, section 6.4.1, with a greater gain).
 */
const JITTERS = 2;
const JITTER_GAIN = 1 / 8;
const QUEUE_TARGETS = 3;
const TARGET_MS_MAX = 16 * TARGET_MS;
/** Classes of size for each doubling, so that sizes of a class differ by less than a fifth. */
const CLASSES = 4;
/** Smaller ones are one class: their time on the way is nothing. */
const SMALL_BYTES = 64 * 1024;

export interface Answer {
  /** Over the base of its class. */
  readonly queueMs: number;
  /** In targets. */
  readonly excess: number;
  /** Bytes per second; undefined with too little to go by. */
  readonly deliveryRate: number | undefined;
}

/** Of one size. */
class AnswerDelay {
  readonly #base = new BaseDelay();
  #lastMs: number | undefined;
  #jitterMs = TARGET_MS;
  #gain = 1;

  get targetMs(): number {
    return Math.max(this.#base.targetMs, Math.min(TARGET_MS_MAX, JITTERS * this.#jitterMs));
  }

  /** Over the base. */
  add(nowMs: number, delayMs: number): number {
    this.#base.add(nowMs, delayMs);
    const queueMs = delayMs - this.#base.ms;
    // What comes and goes with a queue is not the store's.
    const isQueue = queueMs > QUEUE_TARGETS * this.targetMs;
    if (this.#lastMs !== undefined && !isQueue) {
      this.#gain = Math.max(JITTER_GAIN, 1 / (1 / this.#gain + 1));
      this.#jitterMs += (Math.abs(delayMs - this.#lastMs) - this.#jitterMs) * this.#gain;
    }
    this.#lastMs = isQueue ? undefined : delayMs;
    return queueMs;
  }
}

export class Answers {
  readonly #classes = new Map<number, AnswerDelay>();
  /** Oldest first; the first is RATE_MS_MIN old where any is. */
  readonly #delivered: { readonly atMs: number; readonly bytes: number }[] = [];

  /** undefined where nothing of this size was answered before, unless it is the first of all. */
  add(nowMs: number, body: GivenBody): Answer | undefined {
    const name = Math.floor(CLASSES * Math.log2(Math.max(SMALL_BYTES, body.bytes)));
    const known = this.#classes.get(name);
    const delay = known ?? new AnswerDelay();
    if (known === undefined) this.#classes.set(name, delay);
    const { targetMs } = delay;
    const queueMs = delay.add(nowMs, nowMs - body.givenMs);
    const deliveryRate = this.#rate(nowMs, body.givenBytes);
    if (known === undefined && this.#classes.size > 1) return undefined;
    return { queueMs, excess: queueMs / targetMs, deliveryRate };
  }

  #rate(nowMs: number, givenBytes: number): number | undefined {
    const delivered = this.#delivered;
    // Answers may pass each other; what was given before the later one was delivered as well.
    const bytes = Math.max(givenBytes, delivered.at(-1)?.bytes ?? 0);
    while ((delivered[1]?.atMs ?? Infinity) <= nowMs - RATE_MS_MIN) delivered.shift();
    const [first] = delivered;
    delivered.push({ atMs: nowMs, bytes });
    if (first === undefined || nowMs - first.atMs < RATE_MS_MIN) return undefined;
    return ((bytes - first.bytes) * 1000) / (nowMs - first.atMs);
  }
}
