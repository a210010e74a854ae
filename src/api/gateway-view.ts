/** What the API shows and does; the gateway implements it. */
import type { ByteLength } from '../base/units.js';
import type { BandwidthChange, BandwidthReports } from '../ports/bandwidth.js';
import type { MeteredVolume } from '../metrics/source.js';

/** Work that a request began and that goes on by itself. */
export interface Operation {
  readonly id: string;
  readonly kind: 'drain' | 'takeover' | 'scrub' | 'restore' | 'revert';
  readonly volume: string;
  readonly state: 'running' | 'done' | 'failed';
  /** Log bytes that were pending when it began, and how many of them are done. */
  readonly totalBytes: number;
  readonly doneBytes: number;
  readonly bytesPerSecond: number;
  /** Why it failed, why it does not advance at the moment, or what there is to say of its end, as one line. */
  readonly reason: string | undefined;
}

export interface RestoreRequest {
  /** Name or uuid in the bucket. */
  readonly volume: string;
  /** "s3://BUCKET/PREFIX" or "file:///DIRECTORY". */
  readonly from: string;
  /** Default: its own name. */
  readonly as?: string;
  /** Continue the volume itself, from the gateway's own store. */
  readonly takeOver?: boolean;
  readonly snapshot?: string;
  /** As text. */
  readonly receipt?: string;
  readonly acceptLoss?: boolean;
  /** It is done when everything is here, not when it is served. */
  readonly full?: boolean;
  /** Default: the gateway's own. */
  readonly keyFile?: string;
  readonly endpoint?: string;
  readonly region?: string;
  readonly forcePathStyle?: boolean;
}

/** A client that holds a volume, with all its connections. */
export interface SessionReport {
  /** Of this process alone: "disk0.3". */
  readonly id: string;
  readonly volume: string;
  readonly frontend: 'nbd' | 'iscsi';
  readonly client: string;
  readonly connections: number;
}

export interface SnapshotReport {
  readonly name: string;
  /** Its place in the order of writes, and when that was; of a pending one that is late: of its call. */
  readonly lsn: number;
  readonly timeMs: number;
  /** pending: durable here, and not yet in the bucket with all that a restore needs. */
  readonly state: 'pending' | 'complete';
  /** It could not be that of its call, and is the first recovery point behind that. */
  readonly late: boolean;
  readonly sizeBytes: number;
  /** Of the blocks that do not read as zero; undefined while it is pending. */
  readonly referencedBytes: number | undefined;
  /** What goes from the bucket when it alone is deleted: objects that nothing else needs. undefined: not known. */
  readonly exclusiveBytes: number | undefined;
}

export interface GatewayView {
  readonly version: string;
  /** Every volume is open and every listener is up. */
  ready(): boolean;
  volumes(): readonly MeteredVolume[];
  /** @throws GatewayError not-found, volume-closed, not-supported */
  drain(volume: string): Operation;
  /** Becomes the owner again after `fenced`. @throws GatewayError not-found */
  takeOver(volume: string): Operation;
  /** Verifies log, image and bucket; with `heal` what the bucket lost is sent again. @throws GatewayError not-found */
  scrub(volume: string, heal: boolean): Operation;
  /** Adds a detached copy from a bucket. One at a time. @throws GatewayError invalid-request */
  restore(request: RestoreRequest): Operation;
  /** A receipt of the newest recovery point as text. @throws GatewayError not-found, not-supported, disk-full */
  receipt(volume: string): Promise<string>;
  /** Grows a volume while it is served; durable once it resolves. @throws GatewayError not-found, size-invalid, read-only */
  resize(volume: string, sizeBytes: ByteLength): Promise<void>;
  /** Adds what an entry of `volumes` says; its name. @throws GatewayError config-invalid, volume-exists, remote-exists … */
  addVolume(written: Readonly<Record<string, unknown>>): Promise<string>;
  /**
   * Removes an added volume that nobody has, with its directory; `confirm`: its name again.
   * @throws GatewayError not-found, invalid-request, volume-in-use, remote-behind
   */
  removeVolume(
    volume: string,
    removal: { readonly confirm: string | undefined; readonly acceptLoss: boolean },
  ): Promise<void>;
  /** Oldest first. @throws GatewayError not-found, not-supported, store-unreachable */
  snapshots(volume: string): readonly SnapshotReport[];
  /** Everything acknowledged before this call is in it; resolves once it is durable here. Without a name: the time. */
  createSnapshot(volume: string, name: string | undefined): Promise<SnapshotReport>;
  deleteSnapshot(volume: string, snapshot: string): Promise<void>;
  /** Makes a detached volume what a snapshot is; what it was before becomes a snapshot, where that is wanted. */
  revert(volume: string, snapshot: string, keepsPresent: boolean): Operation;
  operation(id: string): Operation | undefined;
  /** Those that run and the last that ended, oldest first. */
  operations(): readonly Operation[];
  sessions(): readonly SessionReport[];
  /** Cuts its connections; a client that connects anew by itself comes back. @throws GatewayError not-found */
  endSession(id: string): void;
  bandwidth(): BandwidthReports;
  changeBandwidth(change: BandwidthChange): void;
}
