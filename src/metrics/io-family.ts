/** Metrics of requests and sessions, per volume and front end. */
import { durationBoundsUs, ioOps } from '../base/io-stats.js';
import type { IoStats } from '../base/io-stats.js';
import { histogramSamples, ioBoundsSeconds } from './family.js';
import type { Family, Sample } from './family.js';
import { frontendNames } from './source.js';
import type { MetricsSource } from './source.js';

const duration = 'keepgate_io_duration_seconds';

function* eachStats(source: MetricsSource): Iterable<{ labels: { volume: string; frontend: string }; stats: IoStats }> {
  for (const { status, stats } of source.volumes()) {
    for (const frontend of frontendNames) yield { labels: { volume: status.name, frontend }, stats: stats[frontend] };
  }
}

function* perOp(source: MetricsSource, counts: (stats: IoStats) => Float64Array): Iterable<Sample> {
  for (const { labels, stats } of eachStats(source)) {
    for (const [index, op] of ioOps.entries()) yield { labels: { ...labels, op }, value: counts(stats)[index] ?? 0 };
  }
}

export const ioFamilies: readonly Family<MetricsSource>[] = [
  {
    name: 'keepgate_io_operations_total',
    help: 'Requests that ended, failed ones included.',
    type: 'counter',
    samples: (source) => perOp(source, (stats) => stats.operations),
  },
  {
    name: 'keepgate_io_bytes_total',
    help: 'Bytes of requests that succeeded.',
    type: 'counter',
    samples: (source) => perOp(source, (stats) => stats.bytes),
  },
  {
    name: 'keepgate_io_errors_total',
    help: 'Requests that failed.',
    type: 'counter',
    samples: (source) => perOp(source, (stats) => stats.errors),
  },
  {
    name: duration,
    help: 'Time from a request to its reply.',
    type: 'histogram',
    *samples(source) {
      for (const { labels, stats } of eachStats(source)) {
        for (const [index, op] of ioOps.entries()) {
          const start = index * (durationBoundsUs.length + 1);
          const sumSeconds = (stats.durationSumUs[index] ?? 0) / 1e6;
          const histogram = { boundsSeconds: ioBoundsSeconds, counts: stats.durations, start, sumSeconds };
          yield* histogramSamples(duration, { ...labels, op }, histogram);
        }
      }
    },
  },
  {
    name: 'keepgate_io_inflight',
    help: 'Requests that are being served.',
    type: 'gauge',
    *samples(source) {
      for (const { labels, stats } of eachStats(source)) yield { labels, value: stats.inflight };
    },
  },
  {
    name: 'keepgate_sessions',
    help: 'Connections that hold a volume.',
    type: 'gauge',
    *samples(source) {
      for (const { status } of source.volumes()) {
        for (const frontend of frontendNames) {
          const held = status.clients.filter((client) => client.frontend === frontend);
          const value = held.reduce((sum, client) => sum + client.connections, 0);
          yield { labels: { frontend, volume: status.name }, value };
        }
      }
    },
  },
  {
    name: 'keepgate_session_logins_total',
    help: 'Clients that were given a volume.',
    type: 'counter',
    *samples(source) {
      for (const frontend of frontendNames) yield { labels: { frontend }, value: source.sessions()[frontend].logins };
    },
  },
  {
    name: 'keepgate_session_rejections_total',
    help: 'Clients that were refused a volume, by error code.',
    type: 'counter',
    *samples(source) {
      for (const frontend of frontendNames) {
        for (const [reason, value] of source.sessions()[frontend].rejections) {
          yield { labels: { frontend, reason }, value };
        }
      }
    },
  },
];
