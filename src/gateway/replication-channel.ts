/**
 * What the main thread and the replication thread say to each other. One thread serves all volumes, so that they share
 * one bandwidth budget and one store client; each volume's messages (remote/replication-messages.ts, and while a restored
 * one is filled remote/hydration-messages.ts) carry its name.
 */
import type { Transfers } from '../metrics/source.js';
import type { RateLimits } from '../ports/bandwidth.js';
import type { LogLevels } from '../platform/log-levels.js';
import type { StoreConfiguration } from '../config/configuration.js';
import type { FromHydrator, ToHydrator } from '../remote/hydration-messages.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';
import type { StoreSettings } from './restore-location.js';

export interface ReplicationThreadData {
  /** undefined: no volume replicates. */
  readonly store: StoreConfiguration | undefined;
  readonly createStore: boolean;
  readonly logLevels: LogLevels;
  readonly limits: RateLimits;
}

export type ToReplicationThread =
  /** Before any message to the volume. */
  | { readonly type: 'open'; readonly volume: string; readonly directory: string }
  | { readonly type: 'to'; readonly volume: string; readonly message: ToReplicator }
  /** Before any message to the hydrator of the volume; the bucket that it was restored from. */
  | { readonly type: 'hydrate'; readonly volume: string; readonly directory: string; readonly store: StoreSettings }
  | { readonly type: 'toHydrator'; readonly volume: string; readonly message: ToHydrator }
  | { readonly type: 'limit'; readonly limits: RateLimits }
  /** The volume is none of the gateway's any more; `released` follows once nothing of it is under way. */
  | { readonly type: 'release'; readonly volume: string }
  /** Stop all volumes, then end the thread. */
  | { readonly type: 'end' };

export type FromReplicationThread =
  | FromVolumeReplicator
  | { readonly volume: string; readonly hydration: FromHydrator; readonly downloadedBytes: number }
  | { readonly released: string }
  /** `auto` has found another rate. */
  | { readonly direction: keyof RateLimits; readonly bytesPerSecond: number };

export interface FromVolumeReplicator {
  readonly volume: string;
  readonly message: FromReplicator;
  /** With every status. */
  readonly transfers: Transfers | undefined;
}
