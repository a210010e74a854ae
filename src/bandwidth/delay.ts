/**
 * A delay that rises with the queue on the way, over its base: the least of the last ten minutes (RFC 6817, section
 * 3.4.2), since routes change.
 */

/** Delay over base that is aimed at (LEDBAT++: 60 ms); half the base where that is more. */
export const TARGET_MS = 60;
const BASE_SLOT_MS = 60_000;
const BASE_SLOTS = 10;

export class BaseDelay {
  /** Newest last. */
  readonly #slots: { readonly atMs: number; leastMs: number }[] = [];

  add(nowMs: number, delayMs: number): void {
    const newest = this.#slots.at(-1);
    if (newest !== undefined && nowMs - newest.atMs < BASE_SLOT_MS) newest.leastMs = Math.min(newest.leastMs, delayMs);
    else this.#slots.push({ atMs: nowMs, leastMs: delayMs });
    if (this.#slots.length > BASE_SLOTS) this.#slots.shift();
  }

  /** Infinity before the first. */
  get ms(): number {
    return this.#slots.reduce((least, { leastMs }) => Math.min(least, leastMs), Infinity);
  }

  get targetMs(): number {
    return Math.max(TARGET_MS, this.ms / 2);
  }
}

/** A delay that is sampled many times a second: its newest value is the least of the samples since the last decision. */
export class SampledDelay {
  readonly base = new BaseDelay();
  #recentMs = Infinity;
  #recentCount = 0;

  add(nowMs: number, delayMs: number): void {
    this.base.add(nowMs, delayMs);
    this.#recentMs = Math.min(this.#recentMs, delayMs);
    this.#recentCount++;
  }

  get recentCount(): number {
    return this.#recentCount;
  }

  /** How far the newest delay lies over the base, in targets; undefined without a new sample. */
  excess(): number | undefined {
    return this.#recentCount === 0 ? undefined : (this.#recentMs - this.base.ms) / this.base.targetMs;
  }

  forgetRecent(): void {
    this.#recentMs = Infinity;
    this.#recentCount = 0;
  }
}
