import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { IoStats, durationBoundsUs, ioOps } from '../../../src/base/io-stats.js';
import { createMetrics, families } from '../../../src/metrics/registry.js';
import type { MeteredVolume, MetricsSource } from '../../../src/metrics/source.js';

function volume(): MeteredVolume {
  const nbd = new IoStats();
  nbd.record(ioOps.indexOf('write'), 4096, 15, false);
  nbd.record(ioOps.indexOf('write'), 4096, 60, false);
  nbd.record(ioOps.indexOf('write'), 4096, 60_000_000, true);
  nbd.inflight = 3;
  const buckets = new Array<number>(durationBoundsUs.length + 1).fill(0);
  buckets[0] = 2;
  return {
    stats: { nbd, iscsi: new IoStats() },
    timeToFullSeconds: Infinity,
    lagSeconds: 4.5,
    snapshots: { complete: 3, pending: 1, newestMs: 1_700_000_000_500, exclusiveBytes: 8192, failures: 2 },
    transfers: { uploadBoundsSeconds: [0.1, 1], uploads: [2, 0, 1], uploadSecondsSum: 2.5, downloadedBytes: 7 },
    status: {
      name: 'disk0',
      uuid: '00000000-0000-4000-8000-000000000000',
      state: 'online',
      reason: undefined,
      readOnly: false,
      sizeBytes: 1 << 30,
      lsn: { acknowledged: 9, durable: 8, destaged: 7, replicated: 6 },
      bufferCapacityBytes: 1000,
      bufferUsedBytes: 100,
      pendingBytes: 10,
      trackedDirtyBlocks: 0,
      overlayBlocks: 5,
      destagedBytes: 77,
      oldestPendingMs: 1,
      flushes: { count: 2, sumUs: 30, buckets },
      checksumErrors: 0,
      healedBlocks: 0,
      provision: { mode: 'thin', problem: undefined },
      clients: [{ frontend: 'nbd', description: 'nbd 127.0.0.1', connections: 4 }],
      hydration: undefined,
      reservation: undefined,
      replication: {
        mode: 'draining',
        recoveryPoint: { lsn: 6, segment: 12, epoch: 1, timeMs: 1_700_000_000_500 },
        uploadedBytes: 123,
        coalescedBytes: 45,
        compactionBytes: 46,
        uploadRequests: { stored: 12 },
        uploadBytesPerSecond: 10,
        storeErrors: { 'store-slow-down': 2 },
        remoteObjects: 14,
        remoteBytes: 1500,
        remoteLiveBytes: 1400,
        reason: undefined,
      },
    },
  };
}

function source(volumes: readonly MeteredVolume[]): MetricsSource {
  const sessions = {
    nbd: { logins: 1, rejections: new Map<string, number>() },
    iscsi: { logins: 0, rejections: new Map([['volume-in-use', 1]]) },
  };
  return { version: '0.1.0', sessions: () => sessions, volumes: () => volumes, uploadLimit: () => undefined };
}

describe('/metrics', () => {
  it('prints the values of a volume under their documented names', async () => {
    const lines = new Set((await createMetrics(source([volume()])).render()).split('\n'));
    for (const line of [
      'keepgate_build_info{version="0.1.0"} 1',
      'keepgate_io_operations_total{volume="disk0",frontend="nbd",op="write"} 3',
      'keepgate_io_bytes_total{volume="disk0",frontend="nbd",op="write"} 8192',
      'keepgate_io_errors_total{volume="disk0",frontend="nbd",op="write"} 1',
      'keepgate_io_operations_total{volume="disk0",frontend="iscsi",op="write"} 0',
      'keepgate_io_inflight{volume="disk0",frontend="nbd"} 3',
      'keepgate_sessions{frontend="nbd",volume="disk0"} 4',
      'keepgate_session_logins_total{frontend="nbd"} 1',
      'keepgate_session_rejections_total{frontend="iscsi",reason="volume-in-use"} 1',
      'keepgate_volume_size_bytes{volume="disk0"} 1073741824',
      'keepgate_snapshots{volume="disk0",state="complete"} 3',
      'keepgate_snapshots{volume="disk0",state="pending"} 1',
      'keepgate_snapshot_newest_timestamp_seconds{volume="disk0"} 1700000000.5',
      'keepgate_snapshot_exclusive_bytes{volume="disk0"} 8192',
      'keepgate_snapshot_failures_total{volume="disk0"} 2',
      'keepgate_volume_state{volume="disk0",state="online"} 1',
      'keepgate_volume_state{volume="disk0",state="fenced"} 0',
      'keepgate_buffer_time_to_full_seconds{volume="disk0"} +Inf',
      'keepgate_replication_lag_seconds{volume="disk0"} 4.5',
      'keepgate_replication_mode{volume="disk0",mode="draining"} 1',
      'keepgate_replication_mode{volume="disk0",mode="off"} 0',
      'keepgate_recovery_point_timestamp_seconds{volume="disk0"} 1700000000.5',
      'keepgate_recovery_point_segment{volume="disk0"} 12',
      'keepgate_uploaded_bytes_total{volume="disk0"} 123',
      'keepgate_upload_requests_total{volume="disk0",outcome="stored"} 12',
      'keepgate_store_errors_total{volume="disk0",code="store-slow-down"} 2',
      'keepgate_store_errors_total{volume="disk0",code="store-unreachable"} 0',
      'keepgate_upload_duration_seconds_bucket{volume="disk0",le="1"} 2',
      'keepgate_upload_duration_seconds_bucket{volume="disk0",le="+Inf"} 3',
      'keepgate_upload_duration_seconds_sum{volume="disk0"} 2.5',
      'keepgate_downloaded_bytes_total{volume="disk0"} 7',
      'keepgate_upload_limit_bytes_per_second +Inf',
    ]) {
      assert.ok(lines.has(line), `missing: ${line}`);
    }
  });

  it('prints histograms cumulatively, in seconds, with an open last bucket', async () => {
    const text = await createMetrics(source([volume()])).render();
    const of = (le: string) =>
      new RegExp(
        `keepgate_io_duration_seconds_bucket{volume="disk0",frontend="nbd",op="write",le="${le}"} (\\d+)`,
      ).exec(text)?.[1];
    assert.deepEqual([of('0.00002'), of('0.0001'), of('30'), of('\\+Inf')], ['1', '2', '2', '3']);
    assert.match(text, /keepgate_io_duration_seconds_count{volume="disk0",frontend="nbd",op="write"} 3\n/);
    assert.match(text, /keepgate_io_duration_seconds_sum{volume="disk0",frontend="nbd",op="write"} 60\.000075\n/);
    assert.match(text, /keepgate_flush_duration_seconds_bucket{volume="disk0",le="\+Inf"} 2\n/);
  });

  it('leaves replication figures out, and says off, where replication is off', async () => {
    const metered = volume();
    const text = await createMetrics(
      source([{ ...metered, status: { ...metered.status, replication: undefined } }]),
    ).render();
    assert.match(text, /keepgate_replication_mode{volume="disk0",mode="off"} 1\n/);
    assert.doesNotMatch(text, /keepgate_uploaded_bytes_total{/);
  });

  it('adds the defaults of Node', async () => {
    const text = await createMetrics(source([])).render();
    assert.match(text, /process_resident_memory_bytes \d+/);
    assert.match(text, /nodejs_eventloop_lag_seconds/);
  });

  it('names every family once, with the prefix, and counters alone end in _total', () => {
    assert.equal(new Set(families.map(({ name }) => name)).size, families.length);
    for (const { name, type } of families) {
      assert.match(name, /^keepgate_[a-z_]+$/);
      assert.equal(name.endsWith('_total'), type === 'counter', name);
    }
  });
});
