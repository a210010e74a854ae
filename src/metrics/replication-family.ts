/** Metrics of replication: how far the bucket is behind, what goes there, what it answers. */
import { errorCodes } from '../base/errors.js';
import type { ReplicationMode, ReplicationStatus } from '../ports/replication.js';
import { histogramSamples } from './family.js';
import type { Family, Sample } from './family.js';
import type { MeteredVolume, MetricsSource } from './source.js';

const modes = {
  idle: 0,
  draining: 1,
  tracking: 2,
  resyncing: 3,
  blocked: 4,
  off: 5,
} as const satisfies Record<ReplicationMode, number>;

/** Every code that a store answers with is there from the start, at 0: a rate does not see a series begin at 1. */
const noStoreErrors = Object.fromEntries(
  Object.keys(errorCodes)
    .filter((code) => code.startsWith('store-'))
    .map((code) => [code, 0]),
);

const uploadDuration = 'keepgate_upload_duration_seconds';

/** A family with one sample for each volume that replicates; undefined leaves the volume out. */
function family(
  name: string,
  type: 'counter' | 'gauge',
  help: string,
  value: (replication: ReplicationStatus, volume: MeteredVolume) => number | undefined,
): Family<MetricsSource> {
  return {
    name: `keepgate_${name}`,
    help,
    type,
    *samples(source): Iterable<Sample> {
      for (const volume of source.volumes()) {
        const { name: label, replication } = volume.status;
        const found = replication === undefined ? undefined : value(replication, volume);
        if (found !== undefined) yield { labels: { volume: label }, value: found };
      }
    },
  };
}

/** A counter with one sample for each key of a record. */
function counted(
  name: string,
  label: string,
  help: string,
  counts: (replication: ReplicationStatus) => Readonly<Record<string, number>>,
): Family<MetricsSource> {
  return {
    name: `keepgate_${name}`,
    help,
    type: 'counter',
    *samples(source): Iterable<Sample> {
      for (const { status } of source.volumes()) {
        if (status.replication === undefined) continue;
        for (const [key, value] of Object.entries(counts(status.replication))) {
          yield { labels: { volume: status.name, [label]: key }, value };
        }
      }
    },
  };
}

export const replicationFamilies: readonly Family<MetricsSource>[] = [
  {
    name: 'keepgate_replication_mode',
    help: '1 for the mode that replication is in, 0 for the others.',
    type: 'gauge',
    *samples(source) {
      for (const { status } of source.volumes()) {
        const now = status.replication?.mode ?? 'off';
        for (const mode of Object.keys(modes)) {
          yield { labels: { volume: status.name, mode }, value: mode === now ? 1 : 0 };
        }
      }
    },
  },
  family(
    'replication_lag_seconds',
    'gauge',
    'Age of the oldest acknowledged write that is not remote; 0 when there is none.',
    (_, { lagSeconds }) => lagSeconds,
  ),
  family(
    'replication_pending_bytes',
    'gauge',
    'Bytes that are not remote yet: of the log, and while tracking of the blocks that differ.',
    (_, { status }) => status.pendingBytes,
  ),
  family(
    'tracked_dirty_blocks',
    'gauge',
    'Blocks that may differ from the newest recovery point, while the buffer was too small to tell; else 0.',
    (_, { status }) => status.trackedDirtyBlocks,
  ),
  family('recovery_point_timestamp_seconds', 'gauge', 'Wall time of the newest recovery point.', ({ recoveryPoint }) =>
    recoveryPoint === undefined ? undefined : recoveryPoint.timeMs / 1000,
  ),
  family(
    'recovery_point_segment',
    'gauge',
    'Segment number of the newest recovery point.',
    ({ recoveryPoint }) => recoveryPoint?.segment,
  ),
  family('uploaded_bytes_total', 'counter', 'Bytes sent to the store.', ({ uploadedBytes }) => uploadedBytes),
  counted('upload_requests_total', 'outcome', 'Uploads by how they ended.', ({ uploadRequests }) => uploadRequests),
  {
    name: uploadDuration,
    help: 'Time of an upload, every attempt counted.',
    type: 'histogram',
    *samples(source) {
      for (const { status, transfers } of source.volumes()) {
        if (transfers === undefined) continue;
        yield* histogramSamples(
          uploadDuration,
          { volume: status.name },
          {
            boundsSeconds: transfers.uploadBoundsSeconds,
            counts: transfers.uploads,
            start: 0,
            sumSeconds: transfers.uploadSecondsSum,
          },
        );
      }
    },
  },
  {
    name: 'keepgate_downloaded_bytes_total',
    help: 'Bytes received from the store.',
    type: 'counter',
    *samples(source) {
      for (const { status, transfers, hydratedBytes } of source.volumes()) {
        if (transfers === undefined && hydratedBytes === undefined) continue;
        const value = (transfers?.downloadedBytes ?? 0) + (hydratedBytes ?? 0);
        yield { labels: { volume: status.name }, value };
      }
    },
  },
  family(
    'coalesced_bytes_total',
    'counter',
    'Bytes not sent, because a newer version of their block was in the same group.',
    ({ coalescedBytes }) => coalescedBytes,
  ),
  family(
    'compaction_bytes_total',
    'counter',
    'Bytes sent to move what lives out of segments that are mostly dead; part of the uploaded bytes.',
    ({ compactionBytes }) => compactionBytes,
  ),
  counted('store_errors_total', 'code', 'Errors of the store by code.', ({ storeErrors }) => ({
    ...noStoreErrors,
    ...storeErrors,
  })),
  family('remote_objects', 'gauge', 'Objects in the store.', ({ remoteObjects }) => remoteObjects),
  family('remote_bytes', 'gauge', 'Bytes in the store.', ({ remoteBytes }) => remoteBytes),
  family(
    'remote_live_bytes',
    'gauge',
    'Bytes in the store that a restore needs.',
    ({ remoteLiveBytes }) => remoteLiveBytes,
  ),
  {
    name: 'keepgate_upload_limit_bytes_per_second',
    help: 'The upload limit of the whole gateway; +Inf when unlimited.',
    type: 'gauge',
    *samples(source) {
      yield { labels: {}, value: source.uploadLimit() ?? Infinity };
    },
  },
];
