/**
 * Counters of one volume through one front end, cheap enough for every request: plain arrays that the metrics layer
 * reads when it is scraped.
 */
export const ioOps = ['read', 'write', 'flush', 'trim', 'zero', 'cache', 'other'] as const;
export type IoOp = (typeof ioOps)[number];

/** Upper bounds of the duration histogram, in microseconds; the last bucket is open. */
export const durationBoundsUs = [
  20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
  30_000_000,
] as const;

const buckets = durationBoundsUs.length + 1;

export class IoStats {
  readonly operations = new Float64Array(ioOps.length);
  readonly bytes = new Float64Array(ioOps.length);
  readonly errors = new Float64Array(ioOps.length);
  readonly durationSumUs = new Float64Array(ioOps.length);
  /** buckets of op i start at i * (bounds + 1); not cumulative. */
  readonly durations = new Float64Array(ioOps.length * buckets);
  inflight = 0;

  /** Counts one finished request. `op` is an index into ioOps; allocates nothing. */
  record(op: number, lengthBytes: number, durationUs: number, failed: boolean): void {
    this.operations[op] = (this.operations[op] ?? 0) + 1;
    if (failed) this.errors[op] = (this.errors[op] ?? 0) + 1;
    else this.bytes[op] = (this.bytes[op] ?? 0) + lengthBytes;
    this.durationSumUs[op] = (this.durationSumUs[op] ?? 0) + durationUs;
    let bucket = 0;
    while (bucket < durationBoundsUs.length && durationUs > (durationBoundsUs[bucket] ?? 0)) bucket++;
    const at = op * buckets + bucket;
    this.durations[at] = (this.durations[at] ?? 0) + 1;
  }
}
