/**
 * A metric family whose values are computed when it is scraped, from counters that already exist. prom-client's own
 * Counter and Histogram keep their values themselves and cannot take over a cumulative count or a ready histogram.
 */
import type { Metric, Registry } from 'prom-client';
import { durationBoundsUs } from '../base/io-stats.js';

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
  /** For the series of a histogram: name with _bucket, _sum or _count. */
  readonly metricName?: string;
}

export interface Family<Source> {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly samples: (source: Source) => Iterable<Sample>;
}

/** Makes the registry ask `read` for a family's values at each scrape. */
export function registerFamily<Source>(registry: Registry, family: Family<Source>, read: () => Source): void {
  const { name, help, type } = family;
  const metric = {
    name,
    help,
    type,
    aggregator: 'sum',
    get: () => Promise.resolve({ name, help, type, aggregator: 'sum', values: [...family.samples(read())] }),
    // Counts live elsewhere and only grow: there is nothing to reset.
    reset: () => undefined,
  };
  registry.registerMetric(metric as unknown as Metric);
}

/** The bounds of base/io-stats.ts in seconds. */
export const ioBoundsSeconds: readonly number[] = durationBoundsUs.map((boundUs) => boundUs / 1e6);

export interface HistogramCounts {
  /** Upper bounds; the last bucket is open. */
  readonly boundsSeconds: readonly number[];
  /** Per bucket, not cumulative, beginning at counts[start]. */
  readonly counts: ArrayLike<number>;
  readonly start: number;
  readonly sumSeconds: number;
}

/** The series of one histogram, cumulative as Prometheus wants them. */
export function* histogramSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  histogram: HistogramCounts,
): Iterable<Sample> {
  const { boundsSeconds, counts, start, sumSeconds } = histogram;
  let total = 0;
  for (let bucket = 0; bucket <= boundsSeconds.length; bucket++) {
    total += counts[start + bucket] ?? 0;
    const bound = boundsSeconds[bucket];
    const le = bound === undefined ? '+Inf' : String(bound);
    yield { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
  }
  yield { metricName: `${name}_sum`, labels, value: sumSeconds };
  yield { metricName: `${name}_count`, labels, value: total };
}
