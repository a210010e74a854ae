/** A Clock that moves only when told. Timers due at the same time run in the order they were made. */
import type { Clock, Timer } from '../../src/ports/clock.js';

interface Entry {
  readonly atMs: number;
  readonly run: () => void;
}

export class ManualClock implements Clock {
  private now = 0;
  private entries: Entry[] = [];

  nowMs(): number {
    return this.now;
  }

  wallMs(): number {
    return 1_800_000_000_000 + this.now;
  }

  after(delayMs: number, callback: () => void): Timer {
    const entry: Entry = { atMs: this.now + delayMs, run: callback };
    this.entries.push(entry);
    return {
      cancel: () => {
        this.entries = this.entries.filter((other) => other !== entry);
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const aborted = (): void => {
        timer.cancel();
        reject(signal?.reason as Error);
      };
      const timer = this.after(delayMs, () => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      });
      signal?.addEventListener('abort', aborted, { once: true });
    });
  }

  /** Moves time on, running what comes due. */
  advance(byMs: number): void {
    const until = this.now + byMs;
    for (;;) {
      const due = this.entries.filter((entry) => entry.atMs <= until).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.entries = this.entries.filter((entry) => entry !== due);
      this.now = Math.max(this.now, due.atMs);
      due.run();
    }
    this.now = until;
  }
}
