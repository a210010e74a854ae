/**
 * What a restored volume and whoever fills it from its bucket (hydrator.ts, in the replication thread) tell each other.
 * Everything here survives structured clone.
 *
 *   main -> worker   start; then fetch and abandon for reads, map and abandon for what reads as zero, and an answer to
 *                    each ask; stop at last
 *   worker -> main   connected, ask and status as they come; fetched or mapped once for each fetch or map that is not
 *                    abandoned
 */
import type { BlockNumber } from '../base/units.js';
import type { HydrationProgress, RestoreSource } from '../ports/hydration.js';
import type { HydratorStatus } from './hydrator.js';
import type { MasterKey } from './key.js';
import type { FetchFailure } from './replication-messages.js';
import type { RunParcel } from './run-parcel.js';

export interface HydrationConfig {
  readonly source: RestoreSource;
  readonly progress: HydrationProgress;
  readonly blockCount: number;
  /** Tried in turn to open the volume's key. */
  readonly masters: readonly MasterKey[];
  /** Who reads, for the pin (a host name). */
  readonly reader: string;
}

/** ports/hydration.ts, HydrationTarget. */
export type HydrationAsk =
  | { readonly to: 'owed'; readonly first: BlockNumber; readonly count: number }
  | { readonly to: 'fill'; readonly parcel: RunParcel }
  | { readonly to: 'advance'; readonly progress: Partial<HydrationProgress> }
  | { readonly to: 'complete' };

export type HydrationAnswer =
  | { readonly to: 'owed'; readonly owed: Uint8Array }
  | { readonly to: 'fill' }
  | { readonly to: 'advance'; readonly progress: HydrationProgress }
  | { readonly to: 'complete'; readonly complete: boolean }
  | { readonly to: 'failed'; readonly failure: FetchFailure };

export type ToHydrator =
  | { readonly type: 'start'; readonly config: HydrationConfig }
  | { readonly type: 'fetch'; readonly id: number; readonly first: BlockNumber; readonly count: number }
  /** ports/hydration.ts, FrozenVolume.mapped. Shares its ids with fetch. */
  | { readonly type: 'map'; readonly id: number; readonly first: BlockNumber; readonly count: number }
  /** Nobody waits for it any more. */
  | { readonly type: 'abandon'; readonly id: number }
  | { readonly type: 'answer'; readonly id: number; readonly answer: HydrationAnswer; readonly blockCount: number }
  | { readonly type: 'stop' };

export type FromHydrator =
  /** From where reads get blocks; a failure: why they do not. */
  | { readonly type: 'connected'; readonly failure: FetchFailure | undefined }
  | { readonly type: 'fetched'; readonly id: number; readonly result: RunParcel | FetchFailure }
  | { readonly type: 'mapped'; readonly id: number; readonly result: Uint8Array<ArrayBuffer> | FetchFailure }
  | { readonly type: 'ask'; readonly id: number; readonly ask: HydrationAsk }
  /** While it runs, once a second where it changed. */
  | { readonly type: 'status'; readonly status: HydratorStatus };
