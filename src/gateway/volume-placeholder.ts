/** What is shown of a volume before its engine or its replicator has said anything. */
import { durationBoundsUs } from '../base/io-stats.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import type { ReplicationStatus } from '../ports/replication.js';
import type { EngineStatus } from '../ports/volume-status.js';

export function openingStatus(configuration: VolumeConfiguration): EngineStatus {
  return {
    state: 'opening',
    reason: undefined,
    sizeBytes: configuration.sizeBytes,
    lsn: { acknowledged: 0, durable: 0, destaged: 0, replicated: 0 },
    bufferCapacityBytes: configuration.bufferBytes,
    bufferUsedBytes: 0,
    pendingBytes: 0,
    trackedDirtyBlocks: 0,
    overlayBlocks: 0,
    destagedBytes: 0,
    oldestPendingMs: 0,
    flushes: { count: 0, sumUs: 0, buckets: new Array<number>(durationBoundsUs.length + 1).fill(0) },
    checksumErrors: 0,
    healedBlocks: 0,
    provision: { mode: configuration.provision, problem: undefined },
  };
}

export const idleReplication: ReplicationStatus = {
  mode: 'idle',
  recoveryPoint: undefined,
  uploadedBytes: 0,
  coalescedBytes: 0,
  compactionBytes: 0,
  uploadRequests: {},
  uploadBytesPerSecond: 0,
  storeErrors: {},
  remoteObjects: 0,
  remoteBytes: 0,
  remoteLiveBytes: 0,
  reason: undefined,
};
