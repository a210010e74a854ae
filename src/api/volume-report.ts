/** A volume as the API shows it, with the schema that OpenAPI documents and the serializer follows. */
import type { MeteredVolume } from '../metrics/source.js';
import { volumeStates } from '../ports/volume-status.js';
import { boolean, group, listOf, nullable, number, orNull, saying, string, time } from './schema.js';

export const volumeSchema = {
  $id: 'Volume',
  ...group({
    name: string,
    uuid: saying(string, 'Its identity in the bucket'),
    state: { type: 'string', enum: volumeStates },
    reason: saying(nullable('string'), 'Why it is in that state'),
    readOnly: boolean,
    sizeBytes: number,
    lsn: saying(
      group({ acknowledged: number, durable: number, destaged: number, replicated: number }),
      'Places in the order of writes, up to which they are',
    ),
    clients: listOf(group({ frontend: string, description: string, connections: number })),
    buffer: group({
      capacityBytes: number,
      usedBytes: number,
      timeToFullSeconds: saying(nullable('number'), 'At the present rate; null: it does not fill'),
    }),
    hydration: saying(
      orNull(group({ remainingBlocks: nullable('number'), problem: nullable('string') })),
      'While content still comes from the bucket that it was restored from; blocks of 4096 bytes',
    ),
    reservation: saying(
      orNull(group({ type: string, holder: nullable('string'), registrations: number })),
      'Who has it reserved over SCSI; a holder of null: all that are registered',
    ),
    provision: group({ mode: { type: 'string', enum: ['thin', 'full'] }, problem: nullable('string') }),
    overlayBlocks: number,
    trackedDirtyBlocks: number,
    checksumErrors: number,
    healedBlocks: number,
    replication: group({
      mode: { type: 'string', enum: ['idle', 'draining', 'tracking', 'resyncing', 'blocked', 'off'] },
      reason: nullable('string'),
      lagSeconds: saying(number, 'Age of the oldest acknowledged write that is not in the bucket; 0: there is none'),
      pendingBytes: number,
      uploadBytesPerSecond: number,
      uploadedBytes: number,
      remoteBytes: number,
      remoteObjects: number,
      recoveryPoint: saying(
        orNull(group({ lsn: number, segment: number, epoch: number, time })),
        'What a restore would bring back now; null: nothing yet',
      ),
    }),
  }),
};

/** null stands for "none" and "never", since JSON has neither undefined nor infinity. */
export interface VolumeReport {
  readonly name: string;
  readonly uuid: string;
  readonly state: string;
  readonly reason: string | null;
  readonly readOnly: boolean;
  readonly sizeBytes: number;
  readonly lsn: {
    readonly acknowledged: number;
    readonly durable: number;
    readonly destaged: number;
    readonly replicated: number;
  };
  readonly clients: readonly {
    readonly frontend: string;
    readonly description: string;
    readonly connections: number;
  }[];
  readonly buffer: {
    readonly capacityBytes: number;
    readonly usedBytes: number;
    readonly timeToFullSeconds: number | null;
  };
  /** While content still comes from the bucket that it was restored from. */
  readonly hydration: { readonly remainingBlocks: number | null; readonly problem: string | null } | null;
  /** Who has it reserved over SCSI; a holder of null: all that are registered. */
  readonly reservation: {
    readonly type: string;
    readonly holder: string | null;
    readonly registrations: number;
  } | null;
  /** Of mode "full", with a problem: not all of its space is reserved. */
  readonly provision: { readonly mode: string; readonly problem: string | null };
  readonly overlayBlocks: number;
  readonly trackedDirtyBlocks: number;
  readonly checksumErrors: number;
  readonly healedBlocks: number;
  readonly replication: {
    readonly mode: string;
    readonly reason: string | null;
    readonly lagSeconds: number;
    readonly pendingBytes: number;
    readonly uploadBytesPerSecond: number;
    readonly uploadedBytes: number;
    readonly remoteBytes: number;
    readonly remoteObjects: number;
    readonly recoveryPoint: {
      readonly lsn: number;
      readonly segment: number;
      readonly epoch: number;
      readonly time: string;
    } | null;
  };
}

export function reportVolume({ status, timeToFullSeconds, lagSeconds }: MeteredVolume): VolumeReport {
  const { replication, hydration, reservation } = status;
  const point = replication?.recoveryPoint;
  return {
    name: status.name,
    uuid: status.uuid,
    state: status.state,
    reason: status.reason ?? null,
    readOnly: status.readOnly,
    sizeBytes: status.sizeBytes,
    lsn: status.lsn,
    clients: status.clients,
    buffer: {
      capacityBytes: status.bufferCapacityBytes,
      usedBytes: status.bufferUsedBytes,
      timeToFullSeconds: Number.isFinite(timeToFullSeconds) ? timeToFullSeconds : null,
    },
    hydration:
      hydration === undefined
        ? null
        : { remainingBlocks: hydration.remainingBlocks ?? null, problem: hydration.problem ?? null },
    reservation: reservation === undefined ? null : { ...reservation, holder: reservation.holder ?? null },
    provision: { mode: status.provision.mode, problem: status.provision.problem ?? null },
    overlayBlocks: status.overlayBlocks,
    trackedDirtyBlocks: status.trackedDirtyBlocks,
    checksumErrors: status.checksumErrors,
    healedBlocks: status.healedBlocks,
    replication: {
      mode: replication?.mode ?? 'off',
      reason: replication?.reason ?? null,
      lagSeconds: replication === undefined ? 0 : lagSeconds,
      pendingBytes: replication === undefined ? 0 : status.pendingBytes,
      uploadBytesPerSecond: replication?.uploadBytesPerSecond ?? 0,
      uploadedBytes: replication?.uploadedBytes ?? 0,
      remoteBytes: replication?.remoteBytes ?? 0,
      remoteObjects: replication?.remoteObjects ?? 0,
      recoveryPoint:
        point === undefined
          ? null
          : {
              lsn: point.lsn,
              segment: point.segment,
              epoch: point.epoch,
              time: new Date(point.timeMs).toISOString(),
            },
    },
  };
}

export const exampleVolume: VolumeReport = {
  name: 'disk0',
  uuid: '5f0c9a52-6b1e-4c7e-9d0a-2f6c6f3a1b77',
  state: 'online',
  reason: null,
  readOnly: false,
  sizeBytes: 107_374_182_400,
  lsn: { acknowledged: 81_224, durable: 81_200, destaged: 80_917, replicated: 80_640 },
  clients: [{ frontend: 'nbd', description: 'nbd 127.0.0.1', connections: 4 }],
  buffer: { capacityBytes: 1_073_741_824, usedBytes: 41_943_040, timeToFullSeconds: 5160 },
  hydration: null,
  reservation: null,
  provision: { mode: 'thin', problem: null },
  overlayBlocks: 2048,
  trackedDirtyBlocks: 0,
  checksumErrors: 0,
  healedBlocks: 0,
  replication: {
    mode: 'draining',
    reason: null,
    lagSeconds: 7.2,
    pendingBytes: 25_165_824,
    uploadBytesPerSecond: 5_242_880,
    uploadedBytes: 912_680_550,
    remoteBytes: 871_366_656,
    remoteObjects: 131,
    recoveryPoint: { lsn: 80_640, segment: 118, epoch: 2, time: '2026-11-26T08:15:02.000Z' },
  },
};
