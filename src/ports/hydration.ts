/**
 * A restored volume that serves while its content still comes from the bucket: what the engine asks for, and what it
 * offers to whoever fills it (remote.md, "Restore"). All content is that of one recovery point, which never moves.
 */
import type { GatewayError } from '../base/errors.js';
import type { BlockNumber } from '../base/units.js';
import type { StoreRequest } from './object-store.js';

/** Consecutive blocks as the recovery point has them, verified. */
export interface FrozenRun {
  readonly firstBlock: BlockNumber;
  readonly blockCount: number;
  /** undefined: the blocks read as zero, and there are no sums. */
  readonly payload:
    | {
        readonly bytes: Uint8Array;
        /** Where the first block is in `bytes`. */
        readonly start: number;
        /** Block sums; 1: the block had rotted before it was replicated. */
        readonly sums: Uint32Array;
        readonly sumsStart: number;
      }
    | undefined;
}

/** The volume at the recovery point, in the bucket. */
export interface FrozenVolume {
  /**
   * All of [first, first + count), in any order, and whatever came along. Rejects with a GatewayError that names what is
   * missing or damaged, and with the store's errors; it does not wait for ever where `signal` ends it.
   */
  fetch(first: BlockNumber, count: number, request: StoreRequest): Promise<readonly FrozenRun[]>;
  /**
   * 0 for each block that reads as zero, of the first of [first, first + count), at least of one; perhaps not of all: no
   * answer takes more than one shard of the map. No content is fetched. Rejects as `fetch`.
   */
  mapped(first: BlockNumber, count: number, request: StoreRequest): Promise<Uint8Array<ArrayBuffer>>;
}

/** How far the filling has come; kept durably with the volume. */
export interface HydrationProgress {
  /** Every block whose copy lies in a segment up to this number is here. */
  readonly segmentsThrough: number;
  /** The pins that protect the rest in the bucket, by their ids. */
  readonly pins: readonly string[];
}

/** Where the volume came from; written by the restore, constant. */
export interface RestoreSource {
  readonly uuid: string;
  /** How the store is opened again; only the composition root reads it. */
  readonly store: Readonly<Record<string, string>>;
  readonly recoveryPoint: {
    readonly epoch: number;
    readonly number: number;
    /** Of that segment, hexadecimal. */
    readonly link: string;
    readonly lsn: number;
    readonly wallMs: number;
  };
  /** Segment number of the checkpoint that the restore began at: what was dead then is not needed; 0: there was none. */
  readonly pinFloor: number;
  /** Size of the volume at the recovery point. */
  readonly sizeBytes: number;
}

/** What fills the volume sees of it. */
export interface HydrationTarget {
  readonly source: RestoreSource;
  readonly progress: HydrationProgress;
  /** Blocks that the volume has now. */
  readonly blockCount: number;
  /** 1 for each of the `count` blocks from `first` on that is still to come from the bucket. */
  owed(first: BlockNumber, count: number): Promise<Uint8Array>;
  /** Puts blocks in their place, where they are still owed. disk-full; disk-failed. */
  fill(run: FrozenRun): Promise<void>;
  /** Makes what was filled durable, and then the progress with it. */
  advance(progress: Partial<HydrationProgress>): Promise<void>;
  /** True: nothing is owed any more, which is durable now. False: something still is. */
  complete(): Promise<boolean>;
}

/** A restored volume, as whoever connects it to its bucket and fills it has it (remote/hydrator.ts). */
export interface HydratingVolume extends HydrationTarget {
  /** False: nothing is owed any more. */
  readonly active: boolean;
  /** From where reads of owed blocks get them; an error: why they do not. */
  connect(frozen: FrozenVolume | GatewayError): void;
}
