/**
 * What a volume's main side and its replication worker tell each other. Everything here survives structured clone.
 *
 *   main -> worker   start, then any number of durable, drain, fetch and receipt, then stop
 *   worker -> main   attached once the remote volume was found or created; state, status, drained, fetched, receipt,
 *                    snapshots while it lives;
 *                    fenced or fatal at most once, after which nothing more is sent to the bucket; stopped at last
 */
import type { ErrorCode } from '../base/errors.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import type {
  DurableState,
  ReplicationState,
  ReplicationStatus,
  RoundPiece,
  RoundStart,
} from '../ports/replication.js';
import type { MasterKey } from './key.js';
import type { Mended } from './mend.js';
import type { PastAsk, PastPiece } from './past-reader.js';
import type { RemoteScrub } from './remote-scrub.js';

export interface ReplicationConfig {
  readonly name: string;
  readonly uuid: string;
  /** Size when the volume was created, before any resize in the log. */
  readonly createdSizeBytes: number;
  readonly logicalBlockBytes: number;
  /** Tried in turn to open the volume's key; the first one wraps the key of a new volume. */
  readonly masters: readonly MasterKey[];
  readonly intervalMs: number;
  readonly segmentBytes: number;
  /** auto: refuse a store that ignores If-None-Match. */
  readonly fencing: 'auto' | 'none';
  /** Create the remote volume even where volumes exist that no given key opens. */
  readonly allowNew: boolean;
  /** A receipt is issued that often while there is something new. Default: receiptEveryMsDefault. */
  readonly receiptEveryMs?: number;
  /** Receipts that were kept off this directory: the bucket must contain the newest of them. */
  readonly knownReceipts?: readonly string[];
  /** Whether segments are compacted and dead ones deleted. Default: nothing is ever deleted. */
  readonly compaction?: boolean;
  /** How long what is dead must be known to be, before it is deleted. Default: GRACE_MS. */
  readonly graceMs?: number;
  /** Changes that make a checkpoint write a shard of the map anew. Default: REWRITE_BLOCKS. */
  readonly shardRewriteBlocks?: number;
  /** Who claims epochs, for messages of other gateways (a host name). */
  readonly owner: string;
}

export interface FetchFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

/** ports/replication.ts, RoundSource. */
export type RoundAsk =
  | { readonly do: 'begin' }
  | { readonly do: 'read'; readonly round: number; readonly from: BlockNumber; readonly blocksMax: number }
  | { readonly do: 'end'; readonly round: number };

export type RoundAnswer =
  | { readonly to: 'begin'; readonly result: RoundStart }
  /** undefined: the round was given up. */
  | { readonly to: 'read'; readonly result: RoundPiece | undefined }
  | { readonly to: 'end'; readonly result: Pick<ReplicationState, 'keeping' | 'cursor'> | undefined }
  | { readonly to: 'failed'; readonly result: FetchFailure };

/** A snapshot that is committed. */
export interface KnownSnapshot {
  readonly name: string;
  /** Of its record, which names it. */
  readonly lsn: Lsn;
  /** Of what it holds. */
  readonly pointLsn: Lsn;
  readonly wallMs: number;
  readonly sizeBytes: number;
  /** undefined: its root is not written yet. */
  readonly referencedBytes: number | undefined;
  /** What goes from the bucket with it alone; undefined: not known. */
  readonly exclusiveBytes: number | undefined;
}

export type ToReplicator =
  | {
      readonly type: 'start';
      readonly config: ReplicationConfig;
      readonly replication: ReplicationState;
      readonly durable: DurableState;
    }
  | { readonly type: 'durable'; readonly durable: DurableState }
  /** Replicate everything up to `lsn` now; answered with `drained` (same id) once it is committed. */
  | { readonly type: 'drain'; readonly id: number; readonly lsn: Lsn }
  /**
   * The block as of a recovery point of at least `throughLsn`, to heal the local copy; answered with `fetched` (same id)
   * within limits.healMsMax, or not at all when the replicator ends.
   */
  | { readonly type: 'fetch'; readonly id: number; readonly block: BlockNumber; readonly throughLsn: Lsn }
  /** A receipt of the newest recovery point; answered with `receipt` (same id, from 1 on). */
  | { readonly type: 'receipt'; readonly id: number }
  /**
   * Become the owner again after `fenced` or `fatal`: another life begins, with what the directory has now, and takes an
   * epoch at once. Answered with `tookOver` (same id), or with `fenced` or `fatal` once more; while a life goes on with
   * `tookOver` and its refusal.
   */
  | {
      readonly type: 'takeOver';
      readonly id: number;
      readonly replication: ReplicationState;
      readonly durable: DurableState;
    }
  /** Read all that the bucket holds; answered with any number of `scrubbing`, and `scrubbed` (same id). */
  | { readonly type: 'scrub'; readonly id: number }
  /** What the volume was at a snapshot (past-reader.ts); answered with `past` (same id), or not at all when the replicator ends. */
  | { readonly type: 'past'; readonly id: number; readonly ask: PastAsk }
  /** Nothing more is asked about the past. */
  | { readonly type: 'pastDone' }
  /** Read the log no more, and end this life; answered with `revoked` (same id) when that is so. */
  | { readonly type: 'revoke'; readonly id: number }
  /** After `revoked`: another life begins, with what the directory has now. */
  | { readonly type: 'resume'; readonly replication: ReplicationState; readonly durable: DurableState }
  /** What was asked with the `round` of this id. */
  | { readonly type: 'round'; readonly id: number; readonly answer: RoundAnswer }
  /**
   * Write a checkpoint of what is committed that needs none of the objects, which are missing or damaged; answered with
   * `mended` (same id), or not at all when the replicator ends.
   */
  | { readonly type: 'mend'; readonly id: number; readonly objects: readonly string[] }
  | { readonly type: 'stop' };

export type FromReplicator =
  | { readonly type: 'attached'; readonly created: boolean }
  /** To be made durable before log space goes (P4). */
  | { readonly type: 'state'; readonly state: ReplicationState }
  | { readonly type: 'status'; readonly status: ReplicationStatus }
  | { readonly type: 'drained'; readonly id: number }
  | { readonly type: 'revoked'; readonly id: number }
  /** While tracking; answered with `round` (same id). */
  | { readonly type: 'round'; readonly id: number; readonly ask: RoundAsk }
  /** A block's bytes, authenticated, or why they cannot be had. */
  | { readonly type: 'fetched'; readonly id: number; readonly result: Uint8Array | FetchFailure }
  /** A receipt as text, or why there is none; id 0: it was due. */
  | { readonly type: 'receipt'; readonly id: number; readonly result: string | FetchFailure }
  /** The snapshots at the recovery point of `throughLsn`, oldest first: once the bucket was read, and when they change. */
  | { readonly type: 'snapshots'; readonly throughLsn: Lsn; readonly snapshots: readonly KnownSnapshot[] }
  | { readonly type: 'past'; readonly id: number; readonly result: PastPiece | FetchFailure }
  | { readonly type: 'scrubbing'; readonly id: number; readonly doneBytes: number; readonly totalBytes: number }
  /** What the bucket's newest copy of blocks has for block sums, to be held against the image's. */
  | { readonly type: 'liveSums'; readonly blocks: Float64Array; readonly sums: Uint32Array }
  | { readonly type: 'scrubbed'; readonly id: number; readonly result: RemoteScrub | FetchFailure }
  | { readonly type: 'mended'; readonly id: number; readonly result: Mended | FetchFailure }
  /** Owner again: a state with `fenced` false was sent before. Or why not, nothing having changed. */
  | { readonly type: 'tookOver'; readonly id: number; readonly refusal: FetchFailure | undefined }
  /** `state.fenced` is true: to be made durable at once (P7). */
  | { readonly type: 'fenced'; readonly state: ReplicationState; readonly reason: string }
  | { readonly type: 'fatal'; readonly code: ErrorCode; readonly message: string }
  | { readonly type: 'stopped' };
