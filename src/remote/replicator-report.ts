/** When a replicator reports its status: at once, and then at most every half second; goes on while the rate still changes. */
import type { Clock, Timer } from '../ports/clock.js';

const PAUSE_MS = 500;

export class StatusReports {
  readonly #clock: Clock;
  readonly #report: () => void;
  readonly #isDecaying: () => boolean;
  #timer: Timer | undefined;
  #due = false;
  #stopped = false;

  constructor(options: { readonly clock: Clock; readonly report: () => void; readonly isDecaying: () => boolean }) {
    this.#clock = options.clock;
    this.#report = options.report;
    this.#isDecaying = options.isDecaying;
  }

  changed(): void {
    if (this.#timer !== undefined) {
      this.#due = true;
      return;
    }
    this.#due = false;
    this.#report();
    if (this.#stopped) return;
    this.#timer = this.#clock.after(PAUSE_MS, () => {
      this.#timer = undefined;
      if (this.#due || this.#isDecaying()) this.changed();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }
}
