/**
 * A line of a given capacity with one queue, in virtual time: what enters waits for what is before it. Others may use
 * it too: traffic that keeps its pace whatever happens, and traffic that fills the queue until it overflows, as TCP does.
 */
import type { ManualClock } from './clock.js';

export interface BottleneckOptions {
  readonly clock: ManualClock;
  readonly bytesPerSecond: number;
  readonly roundTripMs: number;
  /** What the queue holds before others' packets are dropped. */
  readonly queueBytesMax: number;
}

const SEGMENT_BYTES = 1460;

export class Bottleneck {
  readonly #options: BottleneckOptions;
  /** When what is in the queue will have left. */
  #freeMs = 0;
  /** The others' steady pace, bytes per second. */
  steadyBytesPerSecond = 0;
  /** The window of a competing TCP, bytes; 0: none. */
  #windowBytes = 0;
  othersBytes = 0;
  /** Integral of the queueing delay over time, for its mean. */
  delaySum = 0;
  delayCount = 0;
  delayMsMax = 0;

  constructor(options: BottleneckOptions) {
    this.#options = options;
  }

  get delayMs(): number {
    return Math.max(0, this.#freeMs - this.#options.clock.nowMs());
  }

  /** Puts bytes into the queue; when they will be on the other side and acknowledged here. */
  enter(bytes: number): number {
    const nowMs = this.#options.clock.nowMs();
    this.#freeMs = Math.max(this.#freeMs, nowMs) + (bytes * 1000) / this.#options.bytesPerSecond;
    return this.#freeMs + this.#options.roundTripMs;
  }

  startTcp(): void {
    this.#windowBytes = 10 * SEGMENT_BYTES;
  }

  stopTcp(): void {
    this.#windowBytes = 0;
  }

  resetStatistics(): void {
    this.othersBytes = this.delaySum = this.delayCount = this.delayMsMax = 0;
  }

  /** Before each step of time: what the others send in it. */
  step(stepMs: number): void {
    const { queueBytesMax, bytesPerSecond, roundTripMs } = this.#options;
    this.delaySum += this.delayMs;
    this.delayCount++;
    this.delayMsMax = Math.max(this.delayMsMax, this.delayMs);
    let bytes = (this.steadyBytesPerSecond * stepMs) / 1000;
    if (this.#windowBytes > 0) {
      const roundTripNowMs = roundTripMs + this.delayMs;
      bytes += (this.#windowBytes * stepMs) / roundTripNowMs;
      this.#windowBytes += (SEGMENT_BYTES * stepMs) / roundTripNowMs;
      // Slow start would be quicker; one segment for each round trip is its slowest growth (RFC 5681).
      if ((this.delayMs * bytesPerSecond) / 1000 > queueBytesMax) this.#windowBytes /= 2;
    }
    if (bytes === 0) return;
    this.othersBytes += bytes;
    this.enter(bytes);
  }
}
