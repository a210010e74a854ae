/** A volume as the API shows it, with the schema that OpenAPI documents and the serializer follows. */
import type { MeteredVolume } from '../metrics/source.js';

const nullable = (type: string) => ({ type: [type, 'null'] });
const number = { type: 'number' };
const string = { type: 'string' };
const group = (properties: Readonly<Record<string, object>>) => ({
  type: 'object',
  required: Object.keys(properties),
  properties,
});

export const volumeSchema = group({
  name: string,
  uuid: string,
  state: string,
  reason: nullable('string'),
  readOnly: { type: 'boolean' },
  sizeBytes: number,
  lsn: group({ acknowledged: number, durable: number, destaged: number, replicated: number }),
  clients: { type: 'array', items: group({ frontend: string, description: string, connections: number }) },
  buffer: group({ capacityBytes: number, usedBytes: number, timeToFullSeconds: nullable('number') }),
  hydration: { anyOf: [{ type: 'null' }, group({ remainingBlocks: nullable('number'), problem: nullable('string') })] },
  reservation: {
    anyOf: [{ type: 'null' }, group({ type: string, holder: nullable('string'), registrations: number })],
  },
  provision: group({ mode: string, problem: nullable('string') }),
  overlayBlocks: number,
  trackedDirtyBlocks: number,
  checksumErrors: number,
  healedBlocks: number,
  replication: group({
    mode: string,
    reason: nullable('string'),
    lagSeconds: number,
    pendingBytes: number,
    uploadBytesPerSecond: number,
    uploadedBytes: number,
    remoteBytes: number,
    remoteObjects: number,
    recoveryPoint: {
      anyOf: [{ type: 'null' }, group({ lsn: number, segment: number, epoch: number, time: string })],
    },
  }),
});

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
