/** A volume as the API, the metrics and the command line show it. */
import type { Lsn } from '../base/units.js';
import type { ReplicationStatus } from './replication.js';

export const volumeStates = ['opening', 'online', 'hydrating', 'stalled', 'failed', 'fenced'] as const;
export type VolumeState = (typeof volumeStates)[number];

/** What the engine itself knows. */
export interface EngineStatus {
  readonly state: VolumeState;
  /** Why it is failed, stalled or fenced, as one line. */
  readonly reason: string | undefined;
  readonly sizeBytes: number;
  readonly lsn: { readonly acknowledged: Lsn; readonly durable: Lsn; readonly destaged: Lsn; readonly replicated: Lsn };
  readonly bufferCapacityBytes: number;
  readonly bufferUsedBytes: number;
  /** Log bytes behind the acknowledged end that are not replicated. */
  readonly pendingBytes: number;
  /** While tracking: blocks that may differ from the newest recovery point. */
  readonly trackedDirtyBlocks: number;
  readonly overlayBlocks: number;
  readonly destagedBytes: number;
  /** Milliseconds since 1970 when the oldest write that is not replicated was acknowledged; 0: none. */
  readonly oldestPendingMs: number;
  readonly flushes: { readonly count: number; readonly sumUs: number; readonly buckets: readonly number[] };
  /** Blocks that did not have their checksum, and how many of the image's were healed. */
  readonly checksumErrors: number;
  readonly healedBlocks: number;
  /** full: its space is reserved; `problem`: why not all of it is, as one line. */
  readonly provision: { readonly mode: 'thin' | 'full'; readonly problem: string | undefined };
}

/** Of a restored volume whose content still comes from its bucket. */
export interface HydrationStatus {
  /** Blocks that are still to come, at most; undefined: not known yet. */
  readonly remainingBlocks: number | undefined;
  /** What keeps it from going on, as one line. */
  readonly problem: string | undefined;
}

/** Of a volume that SCSI initiators have reserved. */
export interface ReservationStatus {
  /** "write exclusive", "RESERVE(6)". */
  readonly type: string;
  /** The holder's initiator name; undefined: all that are registered hold it. */
  readonly holder: string | undefined;
  /** Initiator ports that are registered. */
  readonly registrations: number;
}

export interface VolumeStatus extends EngineStatus {
  readonly name: string;
  readonly uuid: string;
  readonly readOnly: boolean;
  readonly clients: readonly {
    readonly frontend: 'nbd' | 'iscsi';
    readonly description: string;
    readonly connections: number;
  }[];
  /** undefined: replication is off. */
  readonly replication: ReplicationStatus | undefined;
  /** undefined: everything is here. */
  readonly hydration: HydrationStatus | undefined;
  /** undefined: nobody has it reserved. */
  readonly reservation: ReservationStatus | undefined;
}
