/** Metrics of the snapshots of volumes that replicate. */
import type { Family, Sample } from './family.js';
import type { MetricsSource, SnapshotCounts } from './source.js';

function family(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  value: (snapshots: SnapshotCounts) => number | undefined,
): Family<MetricsSource> {
  return {
    name: `keepgate_${name}`,
    help,
    type,
    *samples(source): Iterable<Sample> {
      for (const { status, snapshots } of source.volumes()) {
        const found = snapshots === undefined ? undefined : value(snapshots);
        if (found !== undefined) yield { labels: { volume: status.name }, value: found };
      }
    },
  };
}

export const snapshotFamilies: readonly Family<MetricsSource>[] = [
  {
    name: 'keepgate_snapshots',
    help: 'Snapshots by state; pending: not in the bucket as a whole yet.',
    type: 'gauge',
    *samples(source) {
      for (const { status, snapshots } of source.volumes()) {
        if (snapshots === undefined) continue;
        for (const state of ['complete', 'pending'] as const)
          yield { labels: { volume: status.name, state }, value: snapshots[state] };
      }
    },
  },
  family('snapshot_newest_timestamp_seconds', 'gauge', 'Wall time of the newest complete snapshot.', ({ newestMs }) =>
    newestMs === undefined ? undefined : newestMs / 1000,
  ),
  family(
    'snapshot_exclusive_bytes',
    'gauge',
    'Bytes in the bucket that go with one single snapshot, of all of them together.',
    ({ exclusiveBytes }) => exclusiveBytes,
  ),
  family(
    'snapshot_failures_total',
    'counter',
    'Times that the schedule of automatic snapshots could not do what was due.',
    ({ failures }) => failures,
  ),
];
