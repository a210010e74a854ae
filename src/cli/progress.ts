/**
 * How far long work is: a bar with rate and remaining time on a terminal, elsewhere a plain line now and then, so that
 * logs stay readable. The rate is that of the last seconds: what was done before somebody looked does not count.
 */
import cliProgress from 'cli-progress';
import { formatBytes, formatDuration } from '../config/quantity.js';
import type { Clock } from '../ports/clock.js';
import type { Terminal } from './terminal.js';

const plainEveryMs = 5000;
/** How far apart what the rate is computed from lies at least: updates may come thousands of times a second. */
const sampleEveryMs = 250;
/** Long enough for a store that takes one large object at a time, short enough to follow a line that changes. */
const rateWindowMs = 20_000;
const barFormat = '{title} [{bar}] {percentage}% | {done} of {all} | {rate} | {remaining} {remark}';
/** What stands beside the bar, roughly, and how long it may be: the whole has to fit into a line. */
const besideChars = 62;
const barCharsMax = 40;
const barCharsMin = 5;

export interface ProgressOptions {
  readonly title: string;
  /** What is counted. Default: bytes. */
  readonly unit?: 'bytes' | 'objects';
  readonly terminal: Pick<Terminal, 'interactive' | 'note'>;
  readonly clock: Clock;
}

interface Sample {
  readonly nowMs: number;
  readonly done: number;
}

export class Progress {
  readonly #options: ProgressOptions;
  readonly #bar: cliProgress.SingleBar | undefined;
  #samples: readonly Sample[] = [];
  #started = false;
  #plainMs = -Infinity;

  constructor(options: ProgressOptions) {
    this.#options = options;
    const columns = process.stderr.columns || 80;
    const barsize = Math.max(barCharsMin, Math.min(barCharsMax, columns - besideChars - options.title.length));
    this.#bar = options.terminal.interactive
      ? new cliProgress.SingleBar({ format: barFormat, barsize, hideCursor: true, clearOnComplete: false })
      : undefined;
  }

  /** `remark`: why it does not advance, if so. */
  update(done: number, total: number, remark = ''): void {
    const { title, terminal, clock } = this.#options;
    const nowMs = clock.nowMs();
    const perMs = this.#rate({ nowMs, done });
    const rate = perMs === undefined ? 'rate not known yet' : `${this.#amount(perMs * 1000)}/s`;
    const remaining =
      perMs === undefined || perMs <= 0
        ? 'time left not known yet'
        : `${formatDuration(Math.max(0, total - done) / perMs)} left`;
    const payload = { title, done: this.#amount(done), all: this.#amount(total), rate, remaining, remark };
    if (this.#bar === undefined) {
      if (nowMs - this.#plainMs < plainEveryMs) return;
      this.#plainMs = nowMs;
      const why = remark === '' ? '' : ` (${remark})`;
      terminal.note(`${title}: ${payload.done} of ${payload.all}, ${rate}, ${remaining}${why}`);
      return;
    }
    if (!this.#started) this.#bar.start(Math.max(1, total), done, payload);
    this.#started = true;
    this.#bar.setTotal(Math.max(1, total));
    this.#bar.update(done, payload);
  }

  /** Leaves the last state standing. */
  end(): void {
    this.#bar?.stop();
  }

  /** For each millisecond of the window; undefined at the first sample. */
  #rate(sample: Sample): number | undefined {
    const newest = this.#samples.at(-1);
    if (newest === undefined || sample.nowMs - newest.nowMs >= sampleEveryMs) {
      const since = sample.nowMs - rateWindowMs;
      // The newest of those that are too old begins the window.
      const from = Math.max(
        0,
        this.#samples.findLastIndex(({ nowMs }) => nowMs <= since),
      );
      this.#samples = [...this.#samples.slice(from), sample];
    }
    const first = this.#samples[0] ?? sample;
    return sample.nowMs === first.nowMs ? undefined : (sample.done - first.done) / (sample.nowMs - first.nowMs);
  }

  #amount(count: number): string {
    return this.#options.unit === 'objects' ? `${Math.round(count)} objects` : formatBytes(count);
  }
}
