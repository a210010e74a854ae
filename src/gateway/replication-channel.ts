/**
 * What the main thread and the replication thread say to each other. One thread serves all volumes, so that they share
 * one bandwidth budget and one store client; each volume's messages (remote/replication-messages.ts) carry its name.
 */
import type { Transfers } from '../metrics/source.js';
import type { RateLimits } from '../ports/bandwidth.js';
import type { LogLevel } from '../platform/pino-log.js';
import type { StoreConfiguration } from '../config/configuration.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';

export interface ReplicationThreadData {
  readonly store: StoreConfiguration;
  readonly createStore: boolean;
  readonly logLevel: LogLevel;
  readonly limits: RateLimits;
}

export type ToReplicationThread =
  /** Before any message to the volume. */
  | { readonly type: 'open'; readonly volume: string; readonly directory: string }
  | { readonly type: 'to'; readonly volume: string; readonly message: ToReplicator }
  | { readonly type: 'limit'; readonly limits: RateLimits }
  /** Stop all volumes, then end the thread. */
  | { readonly type: 'end' };

export type FromReplicationThread =
  | FromVolumeReplicator
  /** `auto` has found another rate. */
  | { readonly direction: keyof RateLimits; readonly bytesPerSecond: number };

export interface FromVolumeReplicator {
  readonly volume: string;
  readonly message: FromReplicator;
  /** With every status. */
  readonly transfers: Transfers | undefined;
}
