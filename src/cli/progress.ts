/**
 * How far long work is: a bar with rate and remaining time on a terminal, elsewhere a plain line now and then, so that
 * logs stay readable.
 */
import cliProgress from 'cli-progress';
import { formatBytes, formatDuration } from '../config/quantity.js';
import type { Clock } from '../ports/clock.js';
import type { Terminal } from './terminal.js';

const plainEveryMs = 5000;
const barFormat = '{title} [{bar}] {percentage}% | {done} of {all} | {rate}/s | {remaining} {remark}';

export interface ProgressOptions {
  readonly title: string;
  readonly terminal: Terminal;
  readonly clock: Clock;
}

export class Progress {
  readonly #options: ProgressOptions;
  readonly #startedMs: number;
  readonly #bar: cliProgress.SingleBar | undefined;
  #started = false;
  #plainMs = -Infinity;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#startedMs = options.clock.nowMs();
    this.#bar = options.terminal.interactive
      ? new cliProgress.SingleBar({ format: barFormat, hideCursor: true, clearOnComplete: false })
      : undefined;
  }

  /** `remark`: why it does not advance, if so. */
  update(doneBytes: number, totalBytes: number, remark = ''): void {
    const nowMs = this.#options.clock.nowMs();
    const bytesPerMs = doneBytes / Math.max(1, nowMs - this.#startedMs);
    const remaining =
      bytesPerMs > 0 ? `${formatDuration((totalBytes - doneBytes) / bytesPerMs)} left` : 'time left not known yet';
    const rate = formatBytes(bytesPerMs * 1000);
    if (this.#bar === undefined) {
      if (nowMs - this.#plainMs < plainEveryMs) return;
      this.#plainMs = nowMs;
      const why = remark === '' ? '' : ` (${remark})`;
      this.#options.terminal.note(
        `${this.#options.title}: ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${rate}/s, ${remaining}${why}`,
      );
      return;
    }
    const payload = {
      title: this.#options.title,
      done: formatBytes(doneBytes),
      all: formatBytes(totalBytes),
      rate,
      remaining,
      remark,
    };
    if (!this.#started) this.#bar.start(Math.max(1, totalBytes), doneBytes, payload);
    this.#started = true;
    this.#bar.setTotal(Math.max(1, totalBytes));
    this.#bar.update(doneBytes, payload);
  }

  /** Leaves the last state standing. */
  end(): void {
    this.#bar?.stop();
  }
}
