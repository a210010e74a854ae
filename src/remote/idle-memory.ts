/**
 * When buffers that are kept for use again give their memory back to the system: a while after they were used, the next time
 * that they are not in use. So whoever uses them all the time is never held up by it more often than that.
 */
import { limits } from '../base/limits.js';
import type { Clock } from '../ports/clock.js';

export class IdleMemory {
  readonly #clock: Clock;
  readonly #release: () => void;
  #dueMs: number | undefined;

  constructor(clock: Clock, release: () => void) {
    this.#clock = clock;
    this.#release = release;
  }

  /** The buffers are used, or about to be. */
  used(): void {
    this.#dueMs ??= this.#clock.nowMs() + limits.idleMemoryMsMax;
  }

  /** The buffers are not in use just now. Milliseconds until this should be called again; undefined: not before the next use. */
  rest(): number | undefined {
    if (this.#dueMs === undefined) return undefined;
    const leftMs = this.#dueMs - this.#clock.nowMs();
    if (leftMs > 0) return leftMs;
    this.#dueMs = undefined;
    this.#release();
    return undefined;
  }
}
