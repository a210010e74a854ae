/** What front ends know of the gateway: which volumes there are, and who may attach one. */
import type { IoStats } from '../base/io-stats.js';
import type { BlockDevice } from './block-device.js';
import type { VolumeReservations } from './volume-reservations.js';
import type { VolumeSanitizer } from './volume-sanitizer.js';

export interface ClientIdentity {
  readonly frontend: 'nbd' | 'iscsi';
  /** Connections with the same key are one client (TLS identity, peer address or uid; initiator name and ISID). */
  readonly key: string;
  /** For logs and `keepgate status`: "nbd 127.0.0.1", "iscsi iqn.…". */
  readonly description: string;
}

/** How the directory reaches a connection that holds a volume. */
export interface SessionControl {
  /** Resolves to true when the peer still answers; the caller bounds the wait. */
  probe(): Promise<boolean>;
  /** Its client gave it up; what was sent before may still lie unread. */
  peerHasLeft(): boolean;
  /** Ends the connection; nothing of it reaches the volume after this returned. */
  evict(reason: string): void;
}

export interface Attachment {
  release(): void;
}

export interface ChapSecrets {
  readonly user: string;
  readonly secret: Uint8Array;
  readonly mutualUser?: string;
  readonly mutualSecret?: Uint8Array;
}

export interface ServedVolume {
  readonly device: BlockDevice;
  readonly description: string;
  readonly nbd: {
    readonly enabled: boolean;
    readonly stats: IoStats;
    /** Those whom TLS names so, and nobody in clear; none: any client. */
    readonly users?: readonly string[];
    /** Its data lie on a disk that turns, as far as is known. */
    readonly rotational?: boolean;
  };
  readonly iscsi: {
    readonly enabled: boolean;
    readonly stats: IoStats;
    /** Initiator names that may log in; empty: any. */
    readonly initiators: readonly string[];
    /** What initiators are told of how it is made: 4096, or 512 for those that refuse anything else. Default 4096. */
    readonly physicalBlockBytes?: number;
    readonly chap: ChapSecrets | undefined;
  };
  readonly reservations: VolumeReservations;
  /** undefined: the volume cannot be sanitized, because it replicates. */
  readonly sanitizer: VolumeSanitizer | undefined;
  /** True when several clients may attach at once (access: shared): front ends then advertise accordingly. */
  readonly shared: boolean;
  /**
   * Takes the volume for a client. With access: exclusive and another client holding it, that one is probed and
   * evicted when dead; rejects with volume-in-use otherwise. May take up to 15 s.
   */
  attach(client: ClientIdentity, control: SessionControl): Promise<Attachment>;
}

export interface VolumeDirectory {
  list(): readonly ServedVolume[];
  find(name: string): ServedVolume | undefined;
}
