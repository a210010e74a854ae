/** A clock that stands until a test moves it. */
import type { Clock, Timer } from '../../../src/ports/clock.js';

export class ManualClock implements Clock {
  #nowMs = 0;
  #timers: { dueMs: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }
  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }
  after(delayMs: number, callback: () => void): Timer {
    const timer = { dueMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return { cancel: () => (this.#timers = this.#timers.filter((other) => other !== timer)) };
  }
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }
  /** Moves time, runs what is due in order, and lets the promises that this settled run. */
  async advance(byMs: number): Promise<void> {
    this.#nowMs += byMs;
    const due = this.#timers.filter(({ dueMs }) => dueMs <= this.#nowMs).sort((a, b) => a.dueMs - b.dueMs);
    this.#timers = this.#timers.filter((timer) => !due.includes(timer));
    for (const { callback } of due) callback();
    await settled();
  }
}

/** Resolves after all promise callbacks that were ready have run. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
