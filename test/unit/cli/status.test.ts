/** What `keepgate status` prints of what the API says. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeReport } from '../../../src/api/volume-report.js';
import { table } from '../../../src/cli/status.js';

function report(changes: Partial<VolumeReport>): VolumeReport {
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

describe('the table of volumes', () => {
  it('has a line below it for who has a volume reserved', () => {
    const last = (reservation: VolumeReport['reservation']): string | undefined =>
      table([report({ reservation })])
        .split('\n')
        .at(-1);
    assert.doesNotMatch(table([report({})]), /reserved/);
    assert.equal(
      last({ type: 'write exclusive', holder: 'iqn.2026-11.test:a', registrations: 1 }),
      'disk0: reserved by iqn.2026-11.test:a (write exclusive), 1 initiator port registered',
    );
    assert.equal(
      last({ type: 'exclusive access, all registrants', holder: null, registrations: 3 }),
      'disk0: reserved by all that are registered (exclusive access, all registrants), 3 initiator ports registered',
    );
    assert.equal(
      last({ type: 'RESERVE(6)', holder: 'iqn.2026-11.test:a', registrations: 0 }),
      'disk0: reserved by iqn.2026-11.test:a (RESERVE(6))',
    );
  });
});
