/**
 * The blocks of one compaction segment on their way: which they are and where they live, then their content, from the
 * local copy where that is certain to be the same, else from the bucket.
 *
 * The local copy counts for a block only if it is certain to be what the bucket holds (P2):
 *
 *   not older   everything up to the group of the bucket's copy was in the image before the image was read;
 *   not newer   nothing in the log behind the newest committed group touches the block, durable or not;
 *   not rotten  it has the sum that the bucket's copy has (P3: every block is verified, wherever it comes from).
 *
 * A sum alone would not do: a client may choose what it writes.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { BlockNumber } from '../base/units.js';
import type { ImageCopy } from '../engine/image-copy.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { KeyedSegment } from './group-sealer.js';
import type { SegmentKey } from './name.js';
import type { LocalCopy, PendingLog } from './pending-log.js';
import type { ObjectSealer } from './seal.js';
import { FRAME_PLAIN_BYTES } from './seal-header.js';
import type { SegmentFacts } from './segment-index.js';
import { readFrame } from './segment-reader.js';
import type { OpenedSegment } from './segment-reader.js';
import { SegmentWriter } from './segment-writer.js';

const FRAME_BLOCKS = FRAME_PLAIN_BYTES / BLOCK_BYTES;

interface Move {
  readonly block: BlockNumber;
  readonly source: OpenedSegment;
  readonly payload: number;
}

export interface BatchOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly image: Pick<ImageCopy, 'read'>;
}

export class CompactionBatch {
  readonly #options: BatchOptions;
  readonly #blocksMax: number;
  /** Block k of the segment is #content[4096 k…]. */
  readonly #content: Uint8Array;
  #moves: Move[] = [];
  /** 1: its content is there. */
  #there: Uint8Array;

  constructor(options: BatchOptions, blocksMax: number) {
    this.#options = options;
    this.#blocksMax = blocksMax;
    this.#content = options.checksums.alignedBuffer(blocksMax * BLOCK_BYTES);
    this.#there = new Uint8Array(blocksMax);
  }

  get empty(): boolean {
    return this.#moves.length === 0;
  }

  get full(): boolean {
    return this.#moves.length >= this.#blocksMax;
  }

  /** Whether all content is there. */
  get complete(): boolean {
    return this.#moves.every((_, at) => this.#there[at] === 1);
  }

  /** Takes a live payload block of `source`; only while not `full`. */
  add(source: OpenedSegment, block: BlockNumber, payload: number): void {
    assert(!this.full, 'a compaction segment has no room for the block');
    this.#moves.push({ block, source, payload });
  }

  /** Takes what the local copy certainly has. */
  async fillLocal(local: LocalCopy, log: PendingLog): Promise<void> {
    if (log.isTooLong(local)) return;
    const destagedLsn = local.destagedLsn();
    for (const [at, { block, source }] of this.#moves.entries()) {
      if (source.index.lastLsn > destagedLsn) continue;
      const read = await this.#options.image.read(block, this.#content, at * BLOCK_BYTES);
      if (read && this.#isSound(at)) this.#there[at] = 1;
    }
    // Only now: whatever the image had when it was read was in the log before.
    const pending = await log.blocks(local);
    for (const [at, { block }] of this.#moves.entries()) {
      if (pending === undefined || pending.lookup(block) !== -1) this.#there[at] = 0;
    }
  }

  /** Fetches what is missing yet. Of segments that are damaged nothing more is moved: they are returned, with the reason. */
  async fetchRest(request: StoreRequest): Promise<ReadonlyMap<number, GatewayError>> {
    const damaged = new Map<number, GatewayError>();
    let held: HeldFrame | undefined;
    for (const [at, { source }] of this.#moves.entries()) {
      if (this.#there[at] === 1) continue;
      try {
        held = await this.#fetch(at, held, request);
      } catch (error) {
        if (!(error instanceof GatewayError) || error.code.startsWith('store-')) throw error;
        damaged.set(source.key.number, error);
      }
    }
    this.#drop();
    return damaged;
  }

  /** The segment. Each move says where it is from, and counts only where the map still points there. */
  seal(key: SegmentKey, facts: SegmentFacts): KeyedSegment {
    const moves = this.#moves;
    assert(moves.length > 0 && this.complete, 'a compaction segment has all its content');
    const writer = new SegmentWriter({ payloadBlocksMax: moves.length, payload: this.#content });
    for (const { block, source, payload } of moves) {
      writer.sums[writer.reserve(block, 1)] = source.index.sums[payload] ?? 0;
    }
    const sources = {
      segment: Float64Array.from(moves, ({ source }) => source.key.number),
      payload: Uint32Array.from(moves, ({ payload }) => payload),
    };
    return { ...writer.seal(this.#options.sealer, key, facts, { moves: sources }), key };
  }

  async #fetch(at: number, held: HeldFrame | undefined, request: StoreRequest): Promise<HeldFrame | undefined> {
    const { store, sealer } = this.#options;
    const move = this.#moves[at];
    if (move === undefined) return held;
    const { source, payload } = move;
    const target = at * BLOCK_BYTES;
    if (source.index.sums[payload] === SUM_REMOTE) {
      // Said to be lost where it was; it is so here.
      this.#content.fill(0, target, target + BLOCK_BYTES);
      this.#there[at] = 1;
      return held;
    }
    const number = Math.floor(payload / FRAME_BLOCKS);
    let frame = held;
    if (frame?.of !== source || frame.number !== number) {
      frame = { of: source, number, bytes: await readFrame(store, sealer, source.key, source.frames, number, request) };
    }
    const start = (payload % FRAME_BLOCKS) * BLOCK_BYTES;
    this.#content.set(frame.bytes.subarray(start, start + BLOCK_BYTES), target);
    if (!this.#isSound(at)) {
      const name = sealer.names.segment(source.key);
      throw new GatewayError('object-damaged', `${name}: a block of it does not have the sum that its index states`);
    }
    this.#there[at] = 1;
    return frame;
  }

  /** What is not there stays where it is. */
  #drop(): void {
    let kept = 0;
    for (let at = 0; at < this.#moves.length; at++) {
      if (this.#there[at] !== 1) continue;
      this.#content.copyWithin(kept * BLOCK_BYTES, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES);
      kept++;
    }
    this.#moves = this.#moves.filter((_, at) => this.#there[at] === 1);
    this.#there.fill(1, 0, kept);
  }

  #isSound(at: number): boolean {
    const move = this.#moves[at];
    if (move === undefined) return false;
    const { block, source, payload } = move;
    const { sums } = source.index;
    return this.#options.checksums.verifyBlocks(this.#content, at * BLOCK_BYTES, 1, block, sums, payload) < 0;
  }
}

interface HeldFrame {
  readonly of: OpenedSegment;
  readonly number: number;
  readonly bytes: Uint8Array;
}
