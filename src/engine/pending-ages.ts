/**
 * When the oldest write that is not replicated was acknowledged, to within a tenth of a second and in bounded memory:
 * a sample (LSN, wall time) per interval, thinned out as they grow many.
 */
import type { Lsn } from '../base/units.js';

const SAMPLES_MAX = 1024;

export class PendingAges {
  private lsns: Lsn[] = [];
  private times: number[] = [];
  private intervalMs = 100;

  /** `oldestMs`: of what was found in the log at opening (0: nothing), whose newest record is `lsn`. */
  constructor(oldestMs: number, lsn: Lsn) {
    if (oldestMs > 0) {
      this.lsns.push(lsn);
      this.times.push(oldestMs);
    }
  }

  /** A record was acknowledged. */
  note(lsn: Lsn, nowMs: number): void {
    const last = this.times.at(-1);
    if (last !== undefined && nowMs - last < this.intervalMs && nowMs >= last) {
      this.lsns[this.lsns.length - 1] = lsn;
      return;
    }
    this.lsns.push(lsn);
    this.times.push(nowMs);
    if (this.lsns.length > SAMPLES_MAX) this.thin();
  }

  /** Forgets what is replicated; when the oldest of the rest was acknowledged (0: nothing is left). */
  oldestMs(replicatedLsn: Lsn): number {
    let gone = 0;
    while (gone < this.lsns.length && (this.lsns[gone] ?? 0) <= replicatedLsn) gone++;
    if (gone > 0) {
      this.lsns.splice(0, gone);
      this.times.splice(0, gone);
    }
    if (this.lsns.length === 0) this.intervalMs = 100;
    return this.times[0] ?? 0;
  }

  /** Joins samples in pairs: the older time, the newer LSN. */
  private thin(): void {
    this.intervalMs *= 2;
    this.times = this.times.filter((_, i) => i % 2 === 0);
    this.lsns = this.lsns.filter((_, i) => i % 2 === 1 || i === this.lsns.length - 1);
  }
}
