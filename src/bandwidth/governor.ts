/**
 * Decides which limits hold now: what the API set, else the window of the schedule that holds, else the plan's own
 * values. Looks at the wall clock as each minute begins while there is a schedule, so that a clock that jumps is
 * followed within a minute. A reread plan ends what the API set: who spoke last is obeyed.
 */
import type { BandwidthChange, BandwidthPlan, BandwidthReport, RateLimit, RateLimits } from '../ports/bandwidth.js';
import type { Clock, Timer } from '../ports/clock.js';
import { limitsAt, WallClock } from './schedule.js';

const minuteMs = 60_000;

export interface GovernorOptions {
  readonly clock: Clock;
  readonly plan: BandwidthPlan;
  /** Called with every change, not with the first limits. */
  readonly onChange: (limits: RateLimits) => void;
}

type Direction = keyof RateLimits;

export class BandwidthGovernor {
  readonly #clock: Clock;
  readonly #onChange: (limits: RateLimits) => void;
  #plan: BandwidthPlan;
  #wallClock: WallClock;
  #override: Partial<Record<Direction, RateLimit | undefined>> = {};
  #current: RateLimits;
  #timer: Timer | undefined;

  constructor(options: GovernorOptions) {
    this.#clock = options.clock;
    this.#onChange = options.onChange;
    this.#plan = options.plan;
    this.#wallClock = new WallClock(options.plan.timezone);
    this.#current = this.#now();
    this.#arm();
  }

  get limits(): RateLimits {
    return this.#current;
  }

  /** Who set the limit of a direction. */
  by(direction: Direction): BandwidthReport['by'] {
    if (this.#override[direction] !== undefined) return 'api';
    return this.#scheduled().window?.[direction] === undefined ? 'configuration' : 'schedule';
  }

  setPlan(plan: BandwidthPlan): void {
    this.#plan = plan;
    this.#wallClock = new WallClock(plan.timezone);
    this.#override = {};
    this.#arm();
    this.#apply();
  }

  change(change: BandwidthChange): void {
    for (const direction of ['upload', 'download'] as const) {
      const wanted = change[direction];
      if (wanted !== undefined) this.#override[direction] = wanted ?? undefined;
    }
    this.#apply();
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #scheduled(): ReturnType<typeof limitsAt> {
    return limitsAt(this.#plan, this.#wallClock.at(this.#clock.wallMs()));
  }

  #now(): RateLimits {
    const { upload, download } = this.#scheduled();
    return { upload: this.#override.upload ?? upload, download: this.#override.download ?? download };
  }

  #apply(): void {
    const { upload, download } = this.#current;
    this.#current = this.#now();
    if (this.#current.upload !== upload || this.#current.download !== download) this.#onChange(this.#current);
  }

  #arm(): void {
    this.close();
    if (this.#plan.schedule.length === 0) return;
    const untilNextMs = minuteMs - (this.#clock.wallMs() % minuteMs);
    this.#timer = this.#clock.after(untilNextMs, () => {
      this.#apply();
      this.#arm();
    });
  }
}
