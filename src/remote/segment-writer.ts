/**
 * Collects the content of one segment and seals it. The payload stands in one buffer that the writer keeps over its
 * life: `seal` encrypts it into a fresh object and `clear` begins the next. Nothing is allocated per block.
 *
 * Not its business: which blocks belong to a group, that none stands twice in it (segment-index.ts), and whether the
 * payload matches its sums: the caller verifies what it read from the log before it adds it (P3).
 */
import { assert } from '../base/assert.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { BlockNumber } from '../base/units.js';
import type { SegmentKey } from './name.js';
import { FRAME_PLAIN_BYTES, FRAME_SEALED_BYTES, TAG_BYTES } from './seal-header.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';
import type { SealedBuffers } from './sealed-buffers.js';
import type { SegmentEvent } from './segment-event.js';
import { encodeSegmentIndex, EXTENT_BLOCKS_MAX } from './segment-index.js';
import type { SegmentFacts, SegmentIndex } from './segment-index.js';
import type { SegmentMoves } from './segment-moves.js';

/** Extents, zero extents and events that one segment holds at most: they bound its index. */
const ZERO_EXTENTS_MAX = 16_384;
const EVENTS_MAX = 1024;

export interface SealedSegment extends SealedObject {
  readonly name: string;
  readonly index: SegmentIndex;
}

export interface SegmentSealOptions {
  readonly moves?: SegmentMoves;
  /** Payload block k stands at payload[4096 blocks[k]…] instead. */
  readonly blocks?: Uint32Array;
  /** Where the object's memory is from. */
  readonly buffers?: SealedBuffers;
}

export class SegmentWriter {
  /** Payload block k stands at payload[4096 k…] (but see SegmentSealOptions). */
  readonly payload: Uint8Array;
  /** Block sums (ports/checksum.ts) of the payload blocks. */
  readonly sums: Uint32Array;
  readonly payloadBlocksMax: number;
  readonly #extentFirst: Float64Array;
  readonly #extentBlocks: Uint32Array;
  readonly #zeroFirst = new Float64Array(ZERO_EXTENTS_MAX);
  readonly #zeroBlocks = new Float64Array(ZERO_EXTENTS_MAX);
  readonly #events: SegmentEvent[] = [];
  #extents = 0;
  #zeros = 0;
  #payloadBlocks = 0;

  constructor(options: { readonly payloadBlocksMax: number; readonly payload?: Uint8Array }) {
    const { payloadBlocksMax } = options;
    assert(payloadBlocksMax > 0 && payloadBlocksMax * BLOCK_BYTES <= limits.segmentBytesMax, 'a segment is too large');
    this.payloadBlocksMax = payloadBlocksMax;
    this.payload = options.payload ?? Buffer.allocUnsafeSlow(payloadBlocksMax * BLOCK_BYTES);
    assert(this.payload.length >= payloadBlocksMax * BLOCK_BYTES, 'a segment’s buffer is too small');
    this.sums = new Uint32Array(payloadBlocksMax);
    this.#extentFirst = new Float64Array(payloadBlocksMax);
    this.#extentBlocks = new Uint32Array(payloadBlocksMax);
  }

  get payloadBlocks(): number {
    return this.#payloadBlocks;
  }

  get freeBlocks(): number {
    return this.payloadBlocksMax - this.#payloadBlocks;
  }

  /** Zero extents that still fit. */
  get zerosLeft(): number {
    return ZERO_EXTENTS_MAX - this.#zeros;
  }

  get empty(): boolean {
    return this.#payloadBlocks === 0 && this.#zeros === 0 && this.#events.length === 0;
  }

  /** Whether no further zero extent or event fits: seal and go on in the next segment. */
  get full(): boolean {
    return this.freeBlocks === 0 || this.#zeros === ZERO_EXTENTS_MAX || this.#events.length === EVENTS_MAX;
  }

  /**
   * Takes place for `blockCount` blocks (at most freeBlocks) and returns the payload index k of the first: the caller
   * fills payload[4096 k…] and sums[k…] before `seal`.
   */
  reserve(firstBlock: BlockNumber, blockCount: number): number {
    assert(blockCount > 0 && blockCount <= this.freeBlocks, 'a segment has no room for the blocks');
    const payloadIndex = this.#payloadBlocks;
    this.#payloadBlocks += blockCount;
    let first = firstBlock;
    let left = blockCount;
    const last = this.#extents - 1;
    const lastBlocks = this.#extentBlocks[last] ?? 0;
    if (last >= 0 && (this.#extentFirst[last] ?? 0) + lastBlocks === first) {
      const taken = Math.min(left, EXTENT_BLOCKS_MAX - lastBlocks);
      this.#extentBlocks[last] = lastBlocks + taken;
      first += taken;
      left -= taken;
    }
    if (left > 0) {
      this.#extentFirst[this.#extents] = first;
      this.#extentBlocks[this.#extents] = left;
      this.#extents++;
    }
    return payloadIndex;
  }

  /** As reserve, with the content at source[sourceStart…] and its block sums at sums[sumsStart…]; returns k. */
  add(
    firstBlock: BlockNumber,
    blockCount: number,
    source: Uint8Array,
    sourceStart: number,
    sums: Uint32Array,
    sumsStart: number,
  ): number {
    const payloadIndex = this.reserve(firstBlock, blockCount);
    this.payload.set(source.subarray(sourceStart, sourceStart + blockCount * BLOCK_BYTES), payloadIndex * BLOCK_BYTES);
    this.sums.set(sums.subarray(sumsStart, sumsStart + blockCount), payloadIndex);
    return payloadIndex;
  }

  /** Blocks that read as zero from this group on; only while not `full`. */
  addZeros(firstBlock: BlockNumber, blockCount: number): void {
    assert(blockCount > 0, 'a zero extent is empty');
    const last = this.#zeros - 1;
    const lastBlocks = this.#zeroBlocks[last] ?? 0;
    if (last >= 0 && (this.#zeroFirst[last] ?? 0) + lastBlocks === firstBlock) {
      this.#zeroBlocks[last] = lastBlocks + blockCount;
      return;
    }
    assert(this.#zeros < ZERO_EXTENTS_MAX, 'a segment has no room for a zero extent');
    this.#zeroFirst[this.#zeros] = firstBlock;
    this.#zeroBlocks[this.#zeros] = blockCount;
    this.#zeros++;
  }

  addEvent(event: SegmentEvent): void {
    assert(this.#events.length < EVENTS_MAX, 'a segment has no room for an event');
    this.#events.push(event);
  }

  /** The index, should the segment be sealed now. Its columns are copies, but for `moves`. */
  index(facts: SegmentFacts, moves?: SegmentMoves): SegmentIndex {
    const extents = this.#extents;
    const payload = new Uint32Array(extents);
    for (let at = 1; at < extents; at++) payload[at] = (payload[at - 1] ?? 0) + (this.#extentBlocks[at - 1] ?? 0);
    return {
      ...facts,
      payloadBlocks: this.#payloadBlocks,
      extents: {
        count: extents,
        firstBlock: this.#extentFirst.slice(0, extents),
        blockCount: this.#extentBlocks.slice(0, extents),
        payload,
      },
      zeros: {
        count: this.#zeros,
        firstBlock: this.#zeroFirst.slice(0, this.#zeros),
        blockCount: this.#zeroBlocks.slice(0, this.#zeros),
      },
      events: [...this.#events],
      frameEnds: frameEndsOf(this.#payloadBlocks),
      sums: this.sums.slice(0, this.#payloadBlocks),
      ...(moves === undefined ? {} : { moves }),
    };
  }

  /** The object for `key`. Once per key: a retry stores the same bytes again. */
  seal(sealer: ObjectSealer, key: SegmentKey, facts: SegmentFacts, options: SegmentSealOptions = {}): SealedSegment {
    const { moves, blocks, buffers } = options;
    const index = this.index(facts, moves);
    const identity = segmentIdentity(sealer, key);
    const plain = encodeSegmentIndex(index);
    const from = buffers === undefined ? {} : { buffers };
    const sealed =
      blocks === undefined
        ? sealer.seal(identity, plain, this.payload.subarray(0, this.#payloadBlocks * BLOCK_BYTES), from)
        : sealer.seal(identity, plain, this.payload, { ...from, blocks: blocks.subarray(0, this.#payloadBlocks) });
    return { ...sealed, name: identity.name, index };
  }

  /** Begins the next segment in the same buffer. */
  clear(): void {
    this.#extents = 0;
    this.#zeros = 0;
    this.#payloadBlocks = 0;
    this.#events.length = 0;
  }
}

export function segmentIdentity(sealer: ObjectSealer, key: SegmentKey): ObjectIdentity {
  return { kind: 'segment', name: sealer.names.segment(key), epoch: key.epoch, number: key.number, part: 0 };
}

/** Frame ends of an uncompressed body, in bytes behind the index. */
export function frameEndsOf(payloadBlocks: number): Uint32Array {
  const bodyBytes = payloadBlocks * BLOCK_BYTES;
  const ends = new Uint32Array(Math.ceil(bodyBytes / FRAME_PLAIN_BYTES));
  for (let frame = 0; frame < ends.length; frame++) {
    const lastFrame = frame === ends.length - 1;
    ends[frame] = lastFrame ? bodyBytes + ends.length * TAG_BYTES : (frame + 1) * FRAME_SEALED_BYTES;
  }
  return ends;
}
