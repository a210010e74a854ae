/** A volume as the API reports it. */
import type { VolumeReport } from '../../../src/api/volume-report.js';

export function report(changes: Partial<VolumeReport>): VolumeReport {
  return {
    name: 'disk0',
    uuid: '00000000-0000-4000-8000-000000000000',
    state: 'online',
    reason: null,
    readOnly: false,
    sizeBytes: 1024 ** 3,
    lsn: { acknowledged: 0, durable: 0, destaged: 0, replicated: 0 },
    clients: [],
    buffer: { capacityBytes: 1024 ** 2, usedBytes: 0, timeToFullSeconds: null },
    hydration: null,
    reservation: null,
    overlayBlocks: 0,
    trackedDirtyBlocks: 0,
    checksumErrors: 0,
    healedBlocks: 0,
    provision: { mode: 'thin', problem: null },
    replication: {
      mode: 'off',
      reason: null,
      lagSeconds: 0,
      pendingBytes: 0,
      uploadBytesPerSecond: 0,
      uploadedBytes: 0,
      remoteBytes: 0,
      remoteObjects: 0,
      recoveryPoint: null,
    },
    ...changes,
  };
}
