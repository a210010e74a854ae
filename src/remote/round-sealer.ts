/**
 * Makes sealed segments of a round (engine/rounds.ts): its pieces one after another, each segment as full as it gets and a
 * staged group by itself, and at last the segment that applies them (staged.ts).
 */
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { RoundPiece, RoundSnapshot } from '../ports/replication.js';
import type { GroupFrame, KeyedSegment } from './group-sealer.js';
import type { ObjectSealer } from './seal.js';
import type { SealedBuffers } from './sealed-buffers.js';
import type { SegmentEvent } from './segment-event.js';
import type { SegmentFacts, SegmentRole } from './segment-index.js';
import { SegmentWriter } from './segment-writer.js';

/** Blocks that are asked for at once: the image is not written to meanwhile. */
const PIECE_BLOCKS_MAX = 512;

export interface RoundSealerOptions {
  readonly round: number;
  readonly checksums: Checksums;
  readonly sealer: ObjectSealer;
  /** Payload blocks of one segment. */
  readonly segmentBlocks: number;
  /** Of the sealed segments. */
  readonly buffers: SealedBuffers;
  /** The next blocks from one on, at most so many; undefined: the round was given up. */
  readonly read: (from: BlockNumber, blocksMax: number) => Promise<RoundPiece | undefined>;
  /** Of the LSNs of the group that brings the volume to the round's moment. */
  readonly snapshots: readonly RoundSnapshot[];
}

export class RoundSealer {
  readonly #options: RoundSealerOptions;
  readonly #writer: SegmentWriter;
  /** What is to be read next; undefined: nothing is left. */
  #next: BlockNumber | undefined;

  /** Goes on with block `from`. */
  constructor(options: RoundSealerOptions, from: BlockNumber) {
    this.#options = options;
    this.#next = from;
    this.#writer = new SegmentWriter({ payloadBlocksMax: options.segmentBlocks });
  }

  /** Reads what the next staged segment will hold. */
  async fill(): Promise<'segment' | 'nothing left' | 'given up'> {
    const { read, checksums } = this.#options;
    const writer = this.#writer;
    writer.clear();
    while (this.#next !== undefined) {
      // Each payload block may turn out to be a zero range.
      const room = Math.min(writer.freeBlocks, writer.zerosLeft - limits.roundZeroRangesMax, PIECE_BLOCKS_MAX);
      if (room <= 0) break;
      const piece = await read(this.#next, room);
      if (piece === undefined) return 'given up';
      add(writer, piece, checksums);
      this.#next = piece.next;
    }
    return writer.empty ? 'nothing left' : 'segment';
  }

  /** The staged segment. */
  staged(frame: GroupFrame): KeyedSegment {
    return this.#seal('staged', frame);
  }

  /** What makes all that was staged take effect; of a round with nothing to stage an empty group of data. */
  apply(frame: GroupFrame, isAnyStaged: boolean): KeyedSegment {
    this.#writer.clear();
    for (const snapshot of this.#options.snapshots) this.#writer.addEvent(eventOf(snapshot));
    return this.#seal(isAnyStaged ? 'apply' : 'data', frame);
  }

  #seal(role: SegmentRole, { first: key, facts, previousLink, committed, takeover }: GroupFrame): KeyedSegment {
    const { sealer, buffers } = this.#options;
    const all: SegmentFacts = {
      ...facts,
      role,
      groupId: key.number,
      groupFirstNumber: key.number,
      groupEnd: true,
      previousLink,
      committed: committed(),
      ...(role === 'data' ? {} : { round: this.#options.round }),
      ...(takeover === undefined ? {} : { takeover }),
    };
    return { ...this.#writer.seal(sealer, key, all, { buffers }), key };
  }
}

function eventOf({ lsn, name, snapshotLsn }: RoundSnapshot): SegmentEvent {
  if (snapshotLsn === 0) return { kind: 'lateSnapshot', lsn, name };
  return { kind: 'snapshotDeleted', lsn, name, snapshotLsn };
}

function add(writer: SegmentWriter, { blocks, sums, bytes, zeros }: RoundPiece, checksums: Checksums): void {
  for (const { first, count } of zeros) writer.addZeros(first, count);
  const isZero = (at: number): boolean =>
    (sums[at] ?? 0) > SUM_REMOTE && checksums.isZero(bytes, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES);
  for (let at = 0; at < blocks.length;) {
    const block = blocks[at] ?? 0;
    const zero = isZero(at);
    let run = 1;
    while (at + run < blocks.length && blocks[at + run] === block + run && isZero(at + run) === zero) run++;
    if (zero) writer.addZeros(block, run);
    else writer.add(block, run, bytes, at * BLOCK_BYTES, sums, at);
    at += run;
  }
}
