/**
 * Scrubs a volume by itself every so often. When the last one ended is kept in the volume's directory (`scrubbed`:
 * milliseconds since 1970 as text), so that restarts neither repeat nor forget one; a new volume's first is due after a
 * whole period. One that a stop interrupted begins anew.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';

export const SCRUBBED_FILE = 'scrubbed';
/** How often it is asked whether one is due. */
const LOOK_MS = 3_600_000;

export interface ScrubScheduleOptions {
  readonly everyMs: number;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  /** Resolves to what was found, a line each. */
  readonly run: () => Promise<readonly string[]>;
}

export class ScrubSchedule {
  readonly #options: ScrubScheduleOptions;
  #timer: Timer | undefined;
  #stopped = false;

  constructor(options: ScrubScheduleOptions) {
    this.#options = options;
  }

  start(): void {
    this.#wait(Math.min(LOOK_MS, this.#options.everyMs));
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  #wait(ms: number): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.after(ms, () => void this.#look());
  }

  async #look(): Promise<void> {
    const { everyMs, clock, log } = this.#options;
    try {
      const lastMs = await this.#last();
      if (lastMs !== undefined && clock.wallMs() - lastMs >= everyMs) await this.#scrub();
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      if (!this.#stopped) log.warn(`a scrub that was due did not end, and is tried again: ${error.message}`);
    }
    this.#wait(Math.min(LOOK_MS, everyMs));
  }

  async #scrub(): Promise<void> {
    const { run, log } = this.#options;
    log.info('scrub: begins');
    const found = await run();
    for (const line of found) log.error(`scrub: ${line}`);
    log.info(`scrub: ended, ${found.length === 0 ? 'nothing is missing or damaged' : `${found.length} found`}`);
    await this.#record();
  }

  /** undefined: it counts from now. A clock that went back must not keep scrubs away. */
  async #last(): Promise<number | undefined> {
    const { disk, clock } = this.#options;
    if (await disk.exists(SCRUBBED_FILE)) {
      const lastMs = Number(Buffer.from(await disk.readSmall(SCRUBBED_FILE)).toString('utf8'));
      if (Number.isSafeInteger(lastMs) && lastMs <= clock.wallMs()) return lastMs;
    }
    await this.#record();
    return undefined;
  }

  async #record(): Promise<void> {
    const { disk, clock } = this.#options;
    if (!this.#stopped) await disk.writeSmall(SCRUBBED_FILE, Buffer.from(`${Math.round(clock.wallMs())}\n`));
  }
}
