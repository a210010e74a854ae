/**
 * One direction's bandwidth for the whole gateway. `admission` decides whose request goes next, in fair shares, and
 * takes it as a whole; `wire` spreads an admitted body over time, so that what is on the line follows the limit within
 * 20 ms of it, or 64 KiB, and no object is one burst. Both keep the same rate, so together they let as much pass as one.
 */
import { UNLIMITED } from '../ports/bandwidth.js';
import type { RateLimit } from '../ports/bandwidth.js';
import type { Clock } from '../ports/clock.js';
import type { Pace, PacedBody } from '../ports/pace.js';
import { AutoRate } from './auto-rate.js';
import { TokenBucket } from './token-bucket.js';

const WIRE_BURST_BYTES_MIN = 64 * 1024;
const WIRE_BURST_BYTES_MAX = 16 * 1024 * 1024;
/** Timers are no finer than a millisecond, and late on a busy machine. */
const WIRE_BURST_SECONDS = 0.02;

function wireBurst(bytesPerSecond: number): number {
  return Math.min(WIRE_BURST_BYTES_MAX, Math.max(WIRE_BURST_BYTES_MIN, bytesPerSecond * WIRE_BURST_SECONDS));
}

export class BandwidthBudget implements Pace {
  readonly admission: TokenBucket;
  readonly #wire: TokenBucket;
  readonly #clock: Clock;
  readonly #onRate: (bytesPerSecond: number) => void;
  readonly #answers: boolean;
  #auto: AutoRate | undefined;
  #bodies = 0;

  constructor(options: {
    readonly clock: Clock;
    readonly limit: RateLimit;
    /** Bodies that were sent are answered, and `auto` is told (PacedBody.answered). Default: no. */
    readonly answers?: boolean;
    /** Told of every rate that `auto` finds. */
    readonly onRate: (bytesPerSecond: number) => void;
  }) {
    const { clock, limit, onRate, answers = false } = options;
    this.#clock = clock;
    this.#answers = answers;
    this.#onRate = onRate;
    this.admission = new TokenBucket({ clock, bytesPerSecond: UNLIMITED });
    this.#wire = new TokenBucket({ clock, bytesPerSecond: UNLIMITED, burstBytes: wireBurst });
    this.setLimit(limit);
  }

  get bytesPerSecond(): number {
    return this.admission.bytesPerSecond;
  }

  get listens(): boolean {
    return this.#auto !== undefined;
  }

  setLimit(limit: RateLimit): void {
    if (limit !== 'auto') {
      this.#auto = undefined;
      this.#setRate(limit);
      return;
    }
    if (this.#auto !== undefined) return;
    const auto = new AutoRate({
      clock: this.#clock,
      answers: this.#answers,
      onRate: (bytesPerSecond) => {
        if (this.#auto !== auto) return;
        this.#setRate(bytesPerSecond);
        this.#onRate(bytesPerSecond);
      },
    });
    this.#auto = auto;
    this.#setRate(auto.bytesPerSecond);
    this.#onRate(auto.bytesPerSecond);
  }

  begin(): PacedBody {
    const lane = `body ${++this.#bodies}`;
    // What another `auto` has been told of is not for this one.
    const auto = this.#auto;
    const given = { bytes: 0, givenMs: this.#clock.nowMs(), givenBytes: 0 };
    const passed = (bytes: number): void => {
      this.#auto?.sent(bytes);
      given.bytes += bytes;
      given.givenMs = this.#clock.nowMs();
      given.givenBytes = auto?.givenBytes ?? 0;
    };
    return {
      pass: (bytes, signal) => {
        const wait = this.#wire.take(bytes, signal === undefined ? { lane } : { lane, signal });
        if (wait !== undefined) return wait.then(() => passed(bytes));
        passed(bytes);
        return undefined;
      },
      answered: () => {
        if (auto === this.#auto) auto?.answered(given);
      },
    };
  }

  sample(kind: string, delayMs: number): void {
    this.#auto?.sample(kind, delayMs);
  }

  refused(): void {
    this.#auto?.refused();
  }

  #setRate(bytesPerSecond: number): void {
    this.admission.setRate(bytesPerSecond);
    this.#wire.setRate(bytesPerSecond);
  }
}
