/** Where one loop waits for several causes: a notification, a time-out, or the end of its incarnation. */
import type { Clock } from '../ports/clock.js';
import type { Incarnation } from './replicator-incarnation.js';

export class Wake {
  readonly #clock: Clock;
  readonly #incarnation: Incarnation;
  #notified = false;
  #resolve: (() => void) | undefined;

  constructor(clock: Clock, incarnation: Incarnation) {
    this.#clock = clock;
    this.#incarnation = incarnation;
  }

  notify(): void {
    this.#notified = true;
    this.#resolve?.();
  }

  /** Returns at once when notified since the last wait; throws StoppedError when the incarnation ends. */
  async wait(delayMs?: number): Promise<void> {
    if (!this.#notified && !this.#incarnation.stopped) {
      await new Promise<void>((resolve) => {
        const timer = delayMs === undefined ? undefined : this.#clock.after(delayMs, resolve);
        this.#resolve = () => {
          timer?.cancel();
          resolve();
        };
      });
      this.#resolve = undefined;
    }
    this.#notified = false;
    this.#incarnation.check();
  }
}
