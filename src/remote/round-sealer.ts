/**
 * Makes sealed segments of a round (engine/rounds.ts): its pieces one after another, each segment as full as it gets. They
 * are one ordinary group: without effect until its last segment is there, and then the bucket equals one moment of the
 * volume exactly, whatever was sent in which order and however long it took.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES } from '../base/units.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { RoundPiece } from '../ports/replication.js';
import type { GroupFrame, KeyedSegment } from './group-sealer.js';
import type { ObjectSealer } from './seal.js';
import { SegmentWriter } from './segment-writer.js';

/** Blocks that are asked for at once: the image is not written to meanwhile. */
const PIECE_BLOCKS_MAX = 512;

export interface RoundSealerOptions {
  readonly checksums: Checksums;
  readonly sealer: ObjectSealer;
  /** Payload blocks of one segment. */
  readonly segmentBlocks: number;
  /** The next blocks, at most so many; undefined: the round was given up. */
  readonly read: (blocksMax: number) => Promise<RoundPiece | undefined>;
}

/** The round's segments in order, each sealed when it is asked for. disk-full: the round was given up meanwhile. */
export async function* sealRound(
  options: RoundSealerOptions,
  frame: GroupFrame,
): AsyncGenerator<KeyedSegment, void, undefined> {
  const { sealer, segmentBlocks } = options;
  const writer = new SegmentWriter({ payloadBlocksMax: segmentBlocks });
  let { previousLink } = frame;
  for (let number = frame.first.number; ; number++) {
    writer.clear();
    const groupEnd = await fill(writer, options);
    const key = { epoch: frame.first.epoch, number };
    const takeover = number === frame.first.number ? frame.takeover : undefined;
    const sealed = writer.seal(sealer, key, {
      ...frame.facts,
      role: 'data',
      groupId: frame.first.number,
      groupFirstNumber: frame.first.number,
      groupEnd,
      previousLink,
      committed: frame.committed(),
      ...(takeover === undefined ? {} : { takeover }),
    });
    previousLink = sealed.link;
    yield { ...sealed, key };
    if (groupEnd) return;
  }
}

/** True: the round ends with this segment. */
async function fill(writer: SegmentWriter, { read, checksums }: RoundSealerOptions): Promise<boolean> {
  for (;;) {
    // Each payload block may turn out to be a zero range.
    const room = Math.min(writer.freeBlocks, writer.zerosLeft - limits.roundZeroRangesMax, PIECE_BLOCKS_MAX);
    if (room <= 0) return false;
    const piece = await read(room);
    if (piece === undefined) throw new GatewayError('disk-full', 'the round was given up: it begins anew');
    add(writer, piece, checksums);
    if (piece.ended) return true;
  }
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
