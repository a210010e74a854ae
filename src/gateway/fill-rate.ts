/**
 * When the buffer will be full at the present rate: the growth of its used bytes over the last half minute, from
 * samples that are taken when somebody asks.
 */
interface Sample {
  readonly atMs: number;
  readonly usedBytes: number;
}

const windowMs = 30_000;
const samplesMax = 64;
const gapMsMin = 500;

export class FillRate {
  #samples: Sample[] = [];

  /** Seconds until usedBytes reaches capacityBytes; Infinity when it does not grow. */
  timeToFullSeconds(nowMs: number, usedBytes: number, capacityBytes: number): number {
    const last = this.#samples.at(-1);
    if (last === undefined || nowMs - last.atMs >= gapMsMin) {
      this.#samples = this.#samples.filter(({ atMs }) => nowMs - atMs <= windowMs).slice(-(samplesMax - 1));
      this.#samples.push({ atMs: nowMs, usedBytes });
    }
    const first = this.#samples[0];
    if (first === undefined || nowMs <= first.atMs) return Infinity;
    const bytesPerMs = (usedBytes - first.usedBytes) / (nowMs - first.atMs);
    if (bytesPerMs <= 0) return Infinity;
    return Math.max(0, capacityBytes - usedBytes) / bytesPerMs / 1000;
  }
}
