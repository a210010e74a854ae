/** What the metrics are read from at a scrape; the gateway implements it. Nothing here is counted on the hot path. */
import type { IoStats } from '../base/io-stats.js';
import type { VolumeStatus } from '../ports/volume-status.js';

export const frontendNames = ['nbd', 'iscsi'] as const;
export type FrontendName = (typeof frontendNames)[number];

export interface MeteredVolume {
  readonly status: VolumeStatus;
  readonly stats: Readonly<Record<FrontendName, IoStats>>;
  /** Seconds until the buffer is full at the present rate; Infinity when it does not fill. */
  readonly timeToFullSeconds: number;
  /** Age of the oldest acknowledged write that is not remote; 0 when there is none. */
  readonly lagSeconds: number;
  /** undefined until the replicator reported. */
  readonly transfers: Transfers | undefined;
  /** Received from the bucket that it was restored from, since the start; undefined: all was here then. */
  readonly hydratedBytes?: number;
  /** undefined: it was never scrubbed. */
  readonly scrub?: ScrubCounts;
  /** undefined: it has no bucket, or that was not read yet. */
  readonly snapshots?: SnapshotCounts | undefined;
}

export interface SnapshotCounts {
  readonly complete: number;
  /** Not in the bucket as a whole yet. */
  readonly pending: number;
  /** When the newest complete one was taken; undefined: there is none. */
  readonly newestMs: number | undefined;
  /** What each of them alone keeps in the bucket, together. */
  readonly exclusiveBytes: number;
  /** Of the schedule, since the start. */
  readonly failures: number;
}

/** Counted by scrubs since the start. */
export interface ScrubCounts {
  blocks: number;
  /** Blocks sent again because their remote copy was damaged; those of the image count in the volume's status. */
  healed: number;
  readonly errors: { image: number; log: number; remote: number };
}

/** What went to and from the store for one volume, every attempt counted. */
export interface Transfers {
  /** Upper bounds of the duration buckets in seconds; the last bucket is open. */
  readonly uploadBoundsSeconds: readonly number[];
  /** Not cumulative; one more than there are bounds. */
  readonly uploads: ArrayLike<number>;
  readonly uploadSecondsSum: number;
  readonly downloadedBytes: number;
}

/** Counted by a front end since the start. */
export interface SessionCounts {
  readonly logins: number;
  /** Clients that were refused, by error code. */
  readonly rejections: ReadonlyMap<string, number>;
}

export interface MetricsSource {
  readonly version: string;
  sessions(): Readonly<Record<FrontendName, SessionCounts>>;
  volumes(): readonly MeteredVolume[];
  /** Bytes per second; undefined: unlimited. */
  uploadLimit(): number | undefined;
}
