/**
 * Between a volume and its replicator, which runs in a worker thread and reads the volume's log by itself.
 *
 *   volume -> replicator   DurableState: how far the log may be read (never beyond what is durable, P2)
 *   replicator -> volume   ReplicationState: how far the bucket has it; the volume records this in its superblock and
 *                          only then lets log space go (P4)
 */
import type { BlockNumber, Lsn } from '../base/units.js';

/** A place in the log, and what is needed to check the batch that begins there. */
export interface LogCursor {
  /** Sequence number of the log file (its name), and the byte offset in it, a multiple of 4096. */
  readonly file: number;
  readonly offset: number;
  /** LSN that the next record will have at least. */
  readonly lsn: Lsn;
  /** CRC of the batch before, which the next one is chained to. */
  readonly chain: number;
  /** Log epoch in force, 16 hexadecimal digits. */
  readonly epoch: string;
}

export interface DurableState {
  /** Every record up to here is durable (a batch boundary). */
  readonly durableLsn: Lsn;
  readonly sizeBytes: number;
  /** Milliseconds since 1970 when the oldest record after the replicated LSN was acknowledged; 0: none. */
  readonly oldestPendingMs: number;
  /** Everything up to here is in the image. */
  readonly destagedLsn: Lsn;
  /** After any crash the volume knows this committed segment, or a later one: what lies before may go from the bucket. */
  readonly segmentRecorded: number;
}

export type ReplicationMode = 'idle' | 'draining' | 'tracking' | 'resyncing' | 'blocked' | 'off';

/**
 * draining: the log holds everything since the newest recovery point. tracking: it does not, the buffer was too small;
 * a dirty map says what differs, and rounds bring it up.
 */
export type ReplicationKeeping = 'draining' | 'tracking';

/** How much of a round (RoundStart) is staged in the bucket: what it has of the blocks below `next`. */
export interface StagedProgress {
  readonly round: number;
  readonly next: BlockNumber;
}

/** What the superblock keeps for the replicator. */
export interface ReplicationState {
  /** The volume decides; the replicator is told. */
  readonly keeping: ReplicationKeeping;
  /** Every record up to here is in a committed group. */
  readonly replicatedLsn: Lsn;
  /** Where the replicator goes on reading; the batch there is the first that is not replicated. Of no use while tracking. */
  readonly cursor: LogCursor;
  /** Remote epoch of the newest committed segment, 0 before the first. */
  readonly remoteEpoch: number;
  /** Number of the newest committed segment, 0 before the first. */
  readonly segmentNumber: number;
  /** Link of the newest committed segment (32 bytes; zeros before the first). */
  readonly chainHead: Uint8Array;
  /** Segment number through which the local map is applied and durable. */
  readonly mapAppliedThrough: number;
  readonly fenced: boolean;
  /** In committed groups of the round that was sent last. */
  readonly staged?: StagedProgress;
}

/** A round: everything that differs from the bucket, as of one place in the log, goes up and takes effect at once. */
export interface RoundStart {
  /** A random number, never 0. */
  readonly round: number;
  /** The state of the volume before the batch that begins here is what goes up. */
  readonly cursor: LogCursor;
  readonly sizeBytes: number;
  readonly wallMs: number;
  /** What the bucket may lack of the snapshots and ends of snapshots before `cursor`, in order. */
  readonly snapshots: readonly RoundSnapshot[];
}

/** A snapshot, or the end of the one with LSN `snapshotLsn` (0: a snapshot). */
export interface RoundSnapshot {
  readonly lsn: Lsn;
  readonly name: string;
  readonly snapshotLsn: Lsn;
}

/** Some of a round's blocks, ascending. */
export interface RoundPiece {
  readonly blocks: Float64Array;
  /** Block sums (ports/checksum.ts); 1: the block is lost, and its bytes are zeros. */
  readonly sums: Uint32Array;
  /** 4096 bytes for each of `blocks`. */
  readonly bytes: Uint8Array;
  /** What reads as zero. */
  readonly zeros: readonly { readonly first: BlockNumber; readonly count: number }[];
  /** Where to read on; undefined: nothing follows. */
  readonly next: BlockNumber | undefined;
}

/** The volume, as its replicator asks it while tracking. */
export interface RoundSource {
  /** Begins a round of everything that is durable; one that goes on is given up. */
  begin(): Promise<RoundStart>;
  /** At most `blocksMax` blocks, from the block `from` on; undefined: the round was given up. */
  read(round: number, from: BlockNumber, blocksMax: number): Promise<RoundPiece | undefined>;
  /** The bucket has all of it: how it goes on. undefined: the round was given up. */
  end(round: number): Promise<Pick<ReplicationState, 'keeping' | 'cursor'> | undefined>;
}

/** What the replicator reports for status and metrics. */
export interface ReplicationStatus {
  readonly mode: ReplicationMode;
  readonly recoveryPoint:
    { readonly lsn: Lsn; readonly segment: number; readonly epoch: number; readonly timeMs: number } | undefined;
  readonly uploadedBytes: number;
  readonly coalescedBytes: number;
  /** Uploaded to make room: part of uploadedBytes. */
  readonly compactionBytes: number;
  readonly uploadRequests: Readonly<Record<string, number>>;
  readonly uploadBytesPerSecond: number;
  readonly storeErrors: Readonly<Record<string, number>>;
  readonly remoteObjects: number;
  readonly remoteBytes: number;
  readonly remoteLiveBytes: number;
  /** Why mode is blocked or the volume fenced, as one line. */
  readonly reason: string | undefined;
}
