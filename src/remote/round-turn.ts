/**
 * What the replicator does for a round while the log does not hold what the bucket lacks: sends what differs as staged
 * segments, from where the bucket has it, and its last group, which brings the bucket to the round's moment.
 */
import type { BlockNumber, Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { RoundPiece, RoundStart } from '../ports/replication.js';
import type { OwnedEpoch } from './owned-epoch.js';
import { uploadRound } from './round-upload.js';
import type { ObjectSealer } from './seal.js';
import type { SealedBuffers } from './sealed-buffers.js';

/** A round of so many segments is worth a checkpoint of its own. */
const ROUND_CHECKPOINT_SEGMENTS = 8;

export interface RoundTurn {
  readonly owned: OwnedEpoch;
  readonly start: RoundStart;
  /** Before the first recovery point the bucket shows the volume as it was created, then. */
  readonly createdMs: number;
  readonly checksums: Checksums;
  readonly sealer: ObjectSealer;
  readonly segmentBlocks: number;
  readonly buffers: SealedBuffers;
  readonly read: (from: BlockNumber, blocksMax: number) => Promise<RoundPiece | undefined>;
  /** Throws once this life is over. */
  readonly check: () => void;
  readonly replicatedTo: (lsn: Lsn) => Promise<void>;
}

/** Resolves when the bucket has the round. False: it was given up, and the next one begins anew. */
export async function takeRoundTurn(turn: RoundTurn): Promise<boolean> {
  const { owned, start, checksums, sealer, segmentBlocks, buffers, read, check } = turn;
  const { round, cursor, sizeBytes, wallMs, snapshots } = start;
  const { pipeline, housekeeping } = owned;
  const before = { lastLsn: owned.tail.lsn, wallMs: owned.tail.wallMs || turn.createdMs };
  const staged = await uploadRound({
    start,
    // The end of the history says what is staged of it: everything before that is staged too (staged.ts).
    from: owned.staged?.round === round ? owned.staged.next : 0,
    checksums,
    sealer,
    segmentBlocks,
    buffers,
    pipeline,
    // What this life's groups, or an earlier one's, have carried already is not taken twice.
    snapshots: snapshots.filter(({ lsn }) => lsn > owned.tail.lsn),
    read,
    check,
    frame: (effect) =>
      owned.frame(
        effect === 'none' ? { ...before, sizeBytes: owned.sizeBytes } : { lastLsn: cursor.lsn - 1, wallMs, sizeBytes },
      ),
    sending: (point, segment, progress) => {
      housekeeping.sending(point.number);
      owned.tail = point;
      owned.sizeBytes = segment.index.sizeBytes;
      owned.staged = progress;
    },
  });
  if (staged === undefined) return false;
  await turn.replicatedTo(cursor.lsn - 1);
  // Whoever restores would have to read all of it once more.
  if (staged >= ROUND_CHECKPOINT_SEGMENTS) housekeeping.demandCheckpoint();
  return true;
}
