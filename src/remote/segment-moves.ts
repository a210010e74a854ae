/**
 * What a compaction segment (role 3) says beside its blocks: where each of them was before. Behind the block sums:
 *
 *      4  sources
 *      8  per source: segment number 6, blocks 2; together they are the payload blocks, in the order of the payload
 *      2  per payload block: its payload index in its source
 *
 * A block moves only if, for the reader that applies the segment in its turn, the map still points at its source; any other
 * is dead from the start. So a move never undoes a write, whatever was committed between its making and its place in the
 * chain, and all readers decide alike.
 */
import { assert } from '../base/assert.js';
import type { ByteReader, ByteWriter } from '../base/bytes.js';

/** Columns over the payload blocks. */
export interface SegmentMoves {
  readonly segment: Float64Array;
  readonly payload: Uint32Array;
}

const SOURCE_BYTES = 8;
const SOURCE_BLOCKS_MAX = 0xffff;

export function writeMoves(writer: ByteWriter, { segment, payload }: SegmentMoves): void {
  assert(segment.length === payload.length, 'each moved block has a source');
  const sources: { readonly number: number; blocks: number }[] = [];
  for (const number of segment) {
    const last = sources.at(-1);
    if (last?.number === number && last.blocks < SOURCE_BLOCKS_MAX) last.blocks++;
    else sources.push({ number, blocks: 1 });
  }
  writer.u32(sources.length);
  for (const { number, blocks } of sources) {
    writer.u48(number);
    writer.u16(blocks);
  }
  for (const index of payload) writer.u16(index);
}

export function readMoves(reader: ByteReader, payloadBlocks: number): SegmentMoves {
  const segment = new Float64Array(payloadBlocks);
  const payload = new Uint32Array(payloadBlocks);
  const sources = reader.count(SOURCE_BYTES);
  let at = 0;
  for (let source = 0; source < sources; source++) {
    const number = reader.u48();
    const blocks = reader.u16();
    if (number === 0 || blocks === 0 || at + blocks > payloadBlocks) reader.fail('a source of its blocks is none');
    segment.fill(number, at, at + blocks);
    at += blocks;
  }
  if (at !== payloadBlocks) reader.fail(`its sources hold ${at} blocks instead of ${payloadBlocks}`);
  for (let block = 0; block < payloadBlocks; block++) payload[block] = reader.u16();
  return { segment, payload };
}
