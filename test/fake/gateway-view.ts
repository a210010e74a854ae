/** A gateway for the API's tests: one volume, "disk0", in the state that the test says. */
import { idleReplication } from '../../src/gateway/volume-placeholder.js';
import type {
  GatewayView,
  Operation,
  RestoreRequest,
  SessionReport,
  SnapshotReport,
} from '../../src/api/gateway-view.js';
import { GatewayError } from '../../src/base/errors.js';
import { IoStats, durationBoundsUs } from '../../src/base/io-stats.js';
import { UNLIMITED } from '../../src/ports/bandwidth.js';
import type { BandwidthChange, BandwidthReports } from '../../src/ports/bandwidth.js';
import type { MeteredVolume } from '../../src/metrics/source.js';
import type { ReservationStatus, VolumeState } from '../../src/ports/volume-status.js';

export function meteredVolume(state: VolumeState): MeteredVolume {
  return {
    stats: { nbd: new IoStats(), iscsi: new IoStats() },
    timeToFullSeconds: Infinity,
    lagSeconds: 2,
    transfers: undefined,
    status: {
      name: 'disk0',
      uuid: '00000000-0000-4000-8000-000000000000',
      state,
      reason: state === 'online' ? undefined : 'because',
      readOnly: false,
      sizeBytes: 4096,
      lsn: { acknowledged: 4, durable: 3, destaged: 2, replicated: 1 },
      bufferCapacityBytes: 100,
      bufferUsedBytes: 10,
      pendingBytes: 7,
      overlayBlocks: 1,
      trackedDirtyBlocks: 0,
      destagedBytes: 0,
      oldestPendingMs: 0,
      flushes: { count: 0, sumUs: 0, buckets: new Array<number>(durationBoundsUs.length + 1).fill(0) },
      checksumErrors: 0,
      healedBlocks: 0,
      provision: { mode: 'thin', problem: undefined },
      clients: [{ frontend: 'nbd', description: 'nbd 127.0.0.1', connections: 2 }],
      hydration: undefined,
      reservation: undefined,
      replication: {
        ...idleReplication,
        mode: 'draining',
        recoveryPoint: { lsn: 1, segment: 3, epoch: 2, timeMs: 0 },
        compactionBytes: 46,
      },
    },
  };
}

export const receiptFields = {
  keepgateReceipt: 2,
  volume: '00000000-0000-4000-8000-000000000000',
  epoch: 3,
  segment: 41,
  link: 'ab'.repeat(32),
  lsn: 7,
  time: '2026-01-01T00:00:00.000Z',
  mac: 'cd'.repeat(32),
};

export class FakeGateway implements GatewayView {
  readonly version = '0.1.0';
  isReady = true;
  state: VolumeState = 'online';
  reservation: ReservationStatus | undefined;
  drained: string[] = [];
  ready(): boolean {
    return this.isReady;
  }
  readonly stats = { nbd: new IoStats(), iscsi: new IoStats() };
  isThere = true;
  volumes(): readonly MeteredVolume[] {
    const { status, ...rest } = meteredVolume(this.state);
    const { stats, reservation } = this;
    return this.isThere ? [{ ...rest, stats, status: { ...status, reservation } }] : [];
  }
  drain(name: string): Operation {
    if (name !== 'disk0') throw new GatewayError('not-found', `there is no volume "${name}"`);
    this.drained.push(name);
    return this.operation('op-1');
  }
  scrub(name: string): Operation {
    return { ...this.drain(name), kind: 'scrub' };
  }
  takeOver(name: string): Operation {
    return { ...this.drain(name), kind: 'takeover' };
  }
  readonly sizes: number[] = [];
  resize(_: string, sizeBytes: number): Promise<void> {
    if (sizeBytes < 4096) return Promise.reject(new GatewayError('size-invalid', 'a volume only grows'));
    this.sizes.push(sizeBytes);
    return Promise.resolve();
  }
  readonly added: object[] = [];
  addVolume(written: Readonly<Record<string, unknown>>): Promise<string> {
    this.added.push(written);
    return Promise.resolve('disk0');
  }
  readonly removed: object[] = [];
  removeVolume(name: string, removal: object): Promise<void> {
    this.removed.push({ name, ...removal });
    return Promise.resolve();
  }
  readonly restores: RestoreRequest[] = [];
  restore(request: RestoreRequest): Operation {
    this.restores.push(request);
    return { ...this.operation('op-1'), kind: 'restore', volume: request.as ?? request.volume };
  }
  receipt(name: string): Promise<string> {
    if (name !== 'disk0') return Promise.reject(new GatewayError('not-found', `there is no volume "${name}"`));
    return Promise.resolve(`${JSON.stringify(receiptFields)}\n`);
  }
  revert(volume: string, snapshot: string, keepsPresent: boolean): Operation {
    const reason = `${snapshot} ${keepsPresent}`;
    return { ...this.drain(volume), kind: 'revert', reason };
  }
  readonly taken: SnapshotReport[] = [];
  snapshots(): readonly SnapshotReport[] {
    return this.taken;
  }
  createSnapshot(volume: string, name = 'by-time'): Promise<SnapshotReport> {
    const unknown = { referencedBytes: undefined, exclusiveBytes: undefined };
    const taken = { name, lsn: 7, timeMs: 0, state: 'pending', late: false, sizeBytes: 4096, ...unknown } as const;
    this.taken.push(taken);
    return Promise.resolve(taken);
  }
  deleteSnapshot(volume: string, snapshot: string): Promise<void> {
    const at = this.taken.findIndex(({ name }) => name === snapshot);
    if (at < 0) return Promise.reject(new GatewayError('not-found', `volume ${volume} has no snapshot "${snapshot}"`));
    this.taken.splice(at, 1);
    return Promise.resolve();
  }
  readonly changes: BandwidthChange[] = [];
  bandwidth(): BandwidthReports {
    return {
      upload: { limit: 'auto', by: 'schedule', bytesPerSecond: 123_456 },
      download: { limit: UNLIMITED, by: 'configuration', bytesPerSecond: UNLIMITED },
    };
  }
  changeBandwidth(change: BandwidthChange): void {
    this.changes.push(change);
  }
  running: Operation[] = [];
  operations(): readonly Operation[] {
    return this.running;
  }
  attached: SessionReport[] = [
    { id: 'disk0.1', volume: 'disk0', frontend: 'nbd', client: 'nbd 127.0.0.1', connections: 2 },
  ];
  sessions(): readonly SessionReport[] {
    return this.attached;
  }
  endSession(id: string): void {
    const left = this.attached.filter((session) => session.id !== id);
    if (left.length === this.attached.length) throw new GatewayError('not-found', `there is no session "${id}"`);
    this.attached = left;
  }
  operation(id: string): Operation {
    return {
      id,
      kind: 'drain',
      volume: 'disk0',
      state: 'running',
      totalBytes: 7,
      doneBytes: 0,
      bytesPerSecond: 0,
      reason: undefined,
    };
  }
}
