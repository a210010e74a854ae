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

/**
 * The series of one histogram in seconds from counts per bucket (not cumulative, bounds of base/io-stats.ts, the last
 * open) beginning at counts[start].
 */
export function* histogramSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  counts: ArrayLike<number>,
  start: number,
  sumUs: number,
): Iterable<Sample> {
  let total = 0;
  for (let bucket = 0; bucket <= durationBoundsUs.length; bucket++) {
    total += counts[start + bucket] ?? 0;
    const bound = durationBoundsUs[bucket];
    const le = bound === undefined ? '+Inf' : String(bound / 1e6);
    yield { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
  }
  yield { metricName: `${name}_sum`, labels, value: sumUs / 1e6 };
  yield { metricName: `${name}_count`, labels, value: total };
}
