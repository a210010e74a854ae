/**
 * Takes snapshots of a volume by itself, every so often, and deletes the oldest of those beyond so many. They bear a name
 * that nobody else may give, so that whoever goes on with the volume knows them, and none that a person took is deleted.
 *
 * Invariants: none is taken while nothing was written since the newest one of any kind, so an idle volume sends nothing; nor
 * while an earlier one waits for the next recovery point, which would be the same moment. Only what lies in the bucket as a
 * whole counts against `keep`: while the bucket is away nothing is deleted in favour of what might never get there.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { SnapshotReport } from '../api/gateway-view.js';

/** How often it is looked whether one is due, at most and at least. */
const LOOK_MS_MAX = 60_000;
const LOOK_MS_MIN = 1000;
/** Deleted in one go; the rest with the next look. */
const DELETES_AT_ONCE = 16;

const automaticName = /^auto-\d{4}-\d\d-\d\dt\d\d-\d\d-\d\dz(-\d+)?$/;
export const AUTOMATIC_PREFIX = 'auto-';

export interface SnapshotScheduleOptions {
  readonly everyMs: number;
  readonly keep: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Oldest first. */
  readonly list: () => readonly SnapshotReport[];
  /** See SnapshotRecorder. */
  readonly contentLsn: () => number;
  readonly create: () => Promise<unknown>;
  readonly delete: (name: string) => Promise<void>;
}

export class SnapshotSchedule {
  /** Looks that did not end as they should. */
  failures = 0;
  readonly #options: SnapshotScheduleOptions;
  #timer: Timer | undefined;
  #stopped = false;
  #failing = false;

  constructor(options: SnapshotScheduleOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#stopped) return;
    const ms = Math.max(LOOK_MS_MIN, Math.min(LOOK_MS_MAX, this.#options.everyMs / 4));
    this.#timer = this.#options.clock.after(ms, () => void this.#look());
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  async #look(): Promise<void> {
    try {
      await this.#step();
      this.#failing = false;
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      if (!this.#stopped) this.#failed(error);
    }
    this.start();
  }

  /** Before the bucket was read nothing is known, which is no failure yet: it is said elsewhere. */
  #failed(error: GatewayError): void {
    if (error.code === 'store-unreachable') return;
    this.failures++;
    if (!this.#failing)
      this.#options.log.warn(`automatic snapshots do not go on, and are tried again: ${error.message}`);
    this.#failing = true;
  }

  async #step(): Promise<void> {
    const { create, list, log } = this.#options;
    if (this.#isDue(list())) await create();
    for (const name of this.#superfluous(list())) {
      if (this.#stopped) return;
      await this.#options.delete(name);
      log.info(`snapshot ${name} is deleted: newer ones take its place`);
    }
  }

  #isDue(all: readonly SnapshotReport[]): boolean {
    const { everyMs, clock, contentLsn } = this.#options;
    const automatic = all.filter(({ name }) => isAutomatic(name));
    if (automatic.some(({ state, late }) => state === 'pending' && late)) return false;
    const newest = automatic.at(-1);
    // A clock that went back must not keep snapshots away.
    const ageMs = newest === undefined ? Infinity : Math.abs(clock.wallMs() - newest.timeMs);
    return ageMs >= everyMs && contentLsn() > Math.max(0, ...all.map(({ lsn }) => lsn));
  }

  #superfluous(all: readonly SnapshotReport[]): string[] {
    const whole = all.filter(({ name, state }) => state === 'complete' && isAutomatic(name));
    return whole
      .slice(0, Math.max(0, whole.length - this.#options.keep))
      .map(({ name }) => name)
      .slice(0, DELETES_AT_ONCE);
  }
}

export function isAutomatic(name: string): boolean {
  return automaticName.test(name);
}
