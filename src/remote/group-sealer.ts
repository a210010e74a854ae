/**
 * Makes sealed segments of a group: reads its payload from the log in the order in which it lies there, verifies it
 * against the log's sums (P3: rot is never uploaded), leaves out blocks of zeros, and carries the sums on as block sums.
 *
 * A block that has rotted in the log is taken from the image if that has it already (its sum tells). If it has not, the
 * content is nowhere any more: the segment then says so, with zeros for a payload and the sum 1, so that everything else
 * goes on being replicated and a restore gives an error for this block, not an older version of it.
 *
 * One segment at a time: a buffer of a segment's size is all its memory, however large the group is. The payload is
 * encrypted from where it was read to, in block order.
 */
import { BLOCK_BYTES } from '../base/units.js';
import type { ImageCopy } from '../engine/image-copy.js';
import { fileOf, offsetOf } from '../engine/overlay.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { Log } from '../ports/log.js';
import type { BlockRange, GroupContent, LogSource } from './group-collector.js';
import type { SegmentKey } from './name.js';
import type { ObjectSealer } from './seal.js';
import type { SealedBuffers } from './sealed-buffers.js';
import type { SegmentFacts } from './segment-index.js';
import { SegmentWriter } from './segment-writer.js';
import type { SealedSegment } from './segment-writer.js';

/** States of checkLogBlocks. */
const ZEROS = 1;
const UNSOUND = 2;

export interface GroupSealerOptions {
  readonly source: LogSource;
  readonly checksums: Checksums;
  readonly sealer: ObjectSealer;
  /** Payload blocks of one segment. */
  readonly segmentBlocks: number;
  /** Of the sealed segments. */
  readonly buffers: SealedBuffers;
  readonly image: ImageCopy;
  readonly log: Log;
}

/** What all segments of a group share; the rest follows from their order. */
export interface GroupFrame {
  readonly first: SegmentKey;
  readonly previousLink: Uint8Array;
  readonly facts: Omit<
    SegmentFacts,
    'role' | 'groupId' | 'groupFirstNumber' | 'groupEnd' | 'previousLink' | 'committed' | 'takeover'
  >;
  readonly takeover: SegmentFacts['takeover'] | undefined;
  /** Asked when a segment is sealed. */
  readonly committed: () => SegmentKey;
}

export interface KeyedSegment extends SealedSegment {
  readonly key: SegmentKey;
}

export class GroupSealer {
  readonly #options: GroupSealerOptions;
  readonly #writer: SegmentWriter;
  readonly #raw: Uint8Array;
  readonly #sums: Uint32Array;
  /** Of each payload block of the segment, its place in #raw. */
  readonly #places: Uint32Array;
  /** checkLogBlocks. */
  readonly #states: Uint8Array;
  /** readRuns. */
  readonly #runs: Float64Array;

  constructor(options: GroupSealerOptions) {
    const { segmentBlocks, checksums } = options;
    this.#options = options;
    // One block more than is ever used, so that a segment full of payload still takes zero extents.
    this.#raw = checksums.alignedBuffer((segmentBlocks + 1) * BLOCK_BYTES);
    this.#writer = new SegmentWriter({ payloadBlocksMax: segmentBlocks + 1, payload: this.#raw });
    this.#sums = new Uint32Array(segmentBlocks);
    this.#places = new Uint32Array(segmentBlocks + 1);
    this.#states = new Uint8Array(segmentBlocks);
    this.#runs = new Float64Array(3 * segmentBlocks);
  }

  /** Its buffer's memory goes back to the system; only between two groups. */
  releaseMemory(): void {
    this.#options.checksums.discard(this.#raw);
  }

  /** The group's segments in order, each sealed when it is asked for. */
  async *seal(content: GroupContent, frame: GroupFrame): AsyncGenerator<KeyedSegment, void, undefined> {
    const { sealer, segmentBlocks, buffers } = this.#options;
    const writer = this.#writer;
    let { previousLink } = frame;
    let zerosTaken = 0;
    let taken = 0;
    for (let number = frame.first.number; ; number++) {
      writer.clear();
      const isFirst = number === frame.first.number;
      if (isFirst) for (const event of content.events) writer.addEvent(event);
      const count = Math.min(segmentBlocks, content.count - taken);
      if (count > 0) await this.#fill(content, taken, count);
      taken += count;
      if (taken === content.count) zerosTaken = addZeros(writer, content.zeros, zerosTaken);
      const groupEnd = taken === content.count && zerosTaken === content.zeros.length;
      const key = { epoch: frame.first.epoch, number };
      const takeover = isFirst ? frame.takeover : undefined;
      const facts: SegmentFacts = {
        ...frame.facts,
        role: 'data',
        groupId: frame.first.number,
        groupFirstNumber: frame.first.number,
        groupEnd,
        previousLink,
        committed: frame.committed(),
        ...(takeover === undefined ? {} : { takeover }),
      };
      const sealed = writer.seal(sealer, key, facts, { blocks: this.#places, buffers });
      previousLink = sealed.link;
      yield { ...sealed, key };
      if (groupEnd) return;
    }
  }

  /** Brings content[from, from + count) into the writer, in block order. */
  async #fill(content: GroupContent, from: number, count: number): Promise<void> {
    await this.#read(content, from, count);
    await this.#verify(content, from, count);
    const { blocks } = content;
    const order = inBlockOrder(blocks, from, count);
    for (let next = 0; next < count;) {
      const at = order[next] ?? 0;
      const block = blocks[from + at] ?? 0;
      const zero = this.#states[at] === ZEROS;
      // As many as follow each other in the volume as they do in the log.
      let run = 1;
      while (next + run < count && order[next + run] === at + run && blocks[from + at + run] === block + run) {
        if ((this.#states[at + run] === ZEROS) !== zero) break;
        run++;
      }
      if (zero) this.#writer.addZeros(block, run);
      else this.#add(block, run, at);
      next += run;
    }
  }

  /** Takes payload blocks that follow each other in the volume and in #raw, from `at` on. */
  #add(block: number, count: number, at: number): void {
    const payloadIndex = this.#writer.reserve(block, count);
    for (let next = 0; next < count; next++) {
      this.#places[payloadIndex + next] = at + next;
      this.#writer.sums[payloadIndex + next] = this.#sums[at + next] ?? 0;
    }
  }

  /** Reads runs that lie together in the log, those of a file at once. */
  async #read(content: GroupContent, from: number, count: number): Promise<void> {
    const { locations } = content;
    const runs = this.#runs;
    for (let at = 0; at < count;) {
      const file = fileOf(locations[from + at] ?? 0);
      let runCount = 0;
      while (at < count && fileOf(locations[from + at] ?? 0) === file) {
        const location = locations[from + at] ?? 0;
        let run = 1;
        while (at + run < count && locations[from + at + run] === location + run) run++;
        runs[3 * runCount] = at * BLOCK_BYTES;
        runs[3 * runCount + 1] = run * BLOCK_BYTES;
        runs[3 * runCount + 2] = offsetOf(location);
        runCount++;
        at += run;
      }
      await this.#options.source.readRuns(file, this.#raw, runs, runCount);
    }
  }

  /** Against the log sums, which become block sums; notes which blocks are zeros. */
  async #verify(content: GroupContent, from: number, count: number): Promise<void> {
    const { checksums } = this.#options;
    const { blocks, lsns, logSums } = content;
    const sums = this.#sums.subarray(0, count);
    const states = this.#states.subarray(0, count);
    sums.set(logSums.subarray(from, from + count));
    const columns = [blocks.subarray(from, from + count), lsns.subarray(from, from + count)] as const;
    if (checksums.checkLogBlocks(this.#raw, ...columns, sums, states) === 0) return;
    for (let at = 0; at < count; at++) {
      if (states[at] !== UNSOUND) continue;
      if (await this.#readElsewhere(content, from, at)) {
        checksums.logToBlockSums(sums, at, 1, blocks[from + at] ?? 0, lsns[from + at] ?? 0);
        states[at] = checksums.isZero(this.#raw, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES) ? ZEROS : 0;
      } else {
        this.#raw.fill(0, at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES);
        sums[at] = SUM_REMOTE;
        states[at] = 0;
      }
    }
  }

  #isSound(at: number, block: number, lsn: number): boolean {
    return this.#options.checksums.verifyLogBlocks(this.#raw, at * BLOCK_BYTES, 1, block, lsn, this.#sums, at) < 0;
  }

  /** A block that does not have its sum: looks once more, then into the image. */
  async #readElsewhere(content: GroupContent, from: number, at: number): Promise<boolean> {
    const { source, image, log } = this.#options;
    const block = content.blocks[from + at] ?? 0;
    const lsn = content.lsns[from + at] ?? 0;
    const location = content.locations[from + at] ?? 0;
    await source.readPayload(fileOf(location), offsetOf(location), 1, this.#raw, at * BLOCK_BYTES);
    if (this.#isSound(at, block, lsn)) return true;
    const where = `block ${block} (LSN ${lsn}) has rotted in log file ${fileOf(location)} at byte ${offsetOf(location)}`;
    const found = (await image.read(block, this.#raw, at * BLOCK_BYTES)) && this.#isSound(at, block, lsn);
    if (found) log.warn(`${where}; it is replicated from the image`, { block, lsn });
    else
      log.error(`${where} and is nowhere else; it is lost in the bucket too, until it is written again`, {
        block,
        lsn,
      });
    return found;
  }
}

/** Indexes from 0 to count - 1 in the order of blocks[from…]. A native sort of numbers: comparing in JavaScript costs more. */
function inBlockOrder(blocks: Float64Array, from: number, count: number): Uint32Array {
  const keys = new Float64Array(count);
  for (let at = 0; at < count; at++) keys[at] = (blocks[from + at] ?? 0) * count + at;
  keys.sort();
  const order = new Uint32Array(count);
  for (let next = 0; next < count; next++) order[next] = (keys[next] ?? 0) % count;
  return order;
}

/** Takes ranges from `from` on while the segment has room; returns how many are taken by now. */
function addZeros(writer: SegmentWriter, zeros: readonly BlockRange[], from: number): number {
  let at = from;
  for (let range = zeros[at]; range !== undefined && !writer.full; range = zeros[++at]) {
    writer.addZeros(range.first, range.count);
  }
  return at;
}
