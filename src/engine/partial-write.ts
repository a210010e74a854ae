/**
 * A write whose payload arrives in pieces, or whose ends are no block ends. It holds whole blocks: the payload is copied
 * to where it stands in them and summed in the same pass; what is missing of the first and last block is merged in by
 * the volume before the write takes its place in the log.
 */
import { assert } from '../base/assert.js';
import { BLOCK_BYTES, roundUp, type BlockNumber, type ByteLength, type ByteOffset } from '../base/units.js';
import type { Completion, PartialWrite } from '../ports/block-device.js';
import type { Checksums } from '../ports/checksum.js';
import type { BufferPool } from './buffer-pool.js';

/** A record to be: consecutive whole blocks in a buffer of its own. */
export interface WritePiece {
  readonly first: BlockNumber;
  readonly count: number;
  readonly bytes: Uint8Array;
  /** Plain sums. */
  readonly sums: Uint32Array;
}

export class BlockWrite implements PartialWrite {
  readonly firstBlock: BlockNumber;
  readonly endBlock: BlockNumber;
  readonly pieces: readonly WritePiece[];
  /** Blocks of which the payload covers only a part, at most two. */
  readonly edges: readonly BlockNumber[];
  forceUnitAccess = false;
  completion: Completion | undefined;
  private readonly end: ByteOffset;
  private position: ByteOffset;
  private readonly begin: ByteOffset;
  private readonly checksums: Checksums;
  private readonly pool: BufferPool;
  private readonly pieceBlocksMax: number;
  private readonly onSubmit: (write: BlockWrite) => void;
  private readonly onRelease: (write: BlockWrite) => void;
  private released = false;

  constructor(
    options: {
      readonly checksums: Checksums;
      readonly pool: BufferPool;
      /** Blocks of the longest record. */
      readonly pieceBlocksMax: number;
      readonly onSubmit: (write: BlockWrite) => void;
      /** Its buffers were given back. */
      readonly onRelease: (write: BlockWrite) => void;
      /** No payload: the block at `offset` is merged whole, so that it is written again as it is. */
      readonly rewrites?: boolean;
    },
    offset: ByteOffset,
    lengthBytes: ByteLength,
  ) {
    this.checksums = options.checksums;
    this.pool = options.pool;
    this.pieceBlocksMax = options.pieceBlocksMax;
    this.onSubmit = options.onSubmit;
    this.onRelease = options.onRelease;
    this.begin = offset;
    this.position = offset;
    this.end = offset + lengthBytes;
    this.firstBlock = Math.floor(offset / BLOCK_BYTES);
    this.endBlock = options.rewrites === true ? this.firstBlock + 1 : roundUp(this.end, BLOCK_BYTES) / BLOCK_BYTES;
    const edges: BlockNumber[] = options.rewrites === true ? [this.firstBlock] : [];
    if (offset % BLOCK_BYTES !== 0) edges.push(this.firstBlock);
    if (this.end % BLOCK_BYTES !== 0 && edges[0] !== this.endBlock - 1) edges.push(this.endBlock - 1);
    this.edges = edges;
    const pieces: WritePiece[] = [];
    for (let first = this.firstBlock; first < this.endBlock; first += this.pieceBlocksMax) {
      const count = Math.min(this.pieceBlocksMax, this.endBlock - first);
      pieces.push({ first, count, bytes: this.pool.take(count * BLOCK_BYTES), sums: new Uint32Array(count) });
    }
    this.pieces = pieces;
  }

  /** Memory that the payload takes. */
  get heldBytes(): ByteLength {
    return (this.endBlock - this.firstBlock) * BLOCK_BYTES;
  }

  get remainingBytes(): ByteLength {
    return this.end - this.position;
  }

  fill(source: Uint8Array, start: number, end: number): void {
    assert(end - start <= this.remainingBytes && !this.released, 'a write is filled with its own payload only');
    for (let at = start; at < end;) {
      const index = Math.floor((Math.floor(this.position / BLOCK_BYTES) - this.firstBlock) / this.pieceBlocksMax);
      const piece = this.pieces[index];
      assert(piece !== undefined, 'a payload byte lies in a piece');
      const inPiece = this.position - piece.first * BLOCK_BYTES;
      const length = Math.min(end - at, piece.count * BLOCK_BYTES - inPiece);
      this.checksums.copyAndSum(source, at, at + length, piece.bytes, inPiece, piece.sums);
      at += length;
      this.position += length;
    }
  }

  submit(forceUnitAccess: boolean, completion: Completion): void {
    assert(
      this.remainingBytes === 0 && this.completion === undefined && !this.released,
      'a whole write is submitted once',
    );
    this.forceUnitAccess = forceUnitAccess;
    this.completion = completion;
    this.onSubmit(this);
  }

  abandon(): void {
    assert(this.completion === undefined, 'a submitted write is not abandoned');
    this.release();
  }

  /** Puts the old content of an edge block where the payload does not cover it. */
  merge(block: BlockNumber, old: Uint8Array): void {
    const piece = this.pieces[Math.floor((block - this.firstBlock) / this.pieceBlocksMax)];
    assert(piece !== undefined, 'an edge block lies in a piece');
    const at = (block - piece.first) * BLOCK_BYTES;
    const blockStart = block * BLOCK_BYTES;
    const head = Math.max(0, this.begin - blockStart);
    const tail = Math.min(BLOCK_BYTES, this.end - blockStart);
    piece.bytes.set(old.subarray(0, head), at);
    piece.bytes.set(old.subarray(tail, BLOCK_BYTES), at + tail);
    this.checksums.sumBlocks(piece.bytes, at, 1, piece.sums, block - piece.first);
  }

  /** The old content of all blocks is in the one piece: lets `change` work on what the write covers of it. */
  change(change: (bytes: Uint8Array) => boolean): boolean {
    const [piece] = this.pieces;
    assert(piece !== undefined && this.pieces.length === 1, 'an update is one record');
    const blockStart = this.firstBlock * BLOCK_BYTES;
    const changed = change(piece.bytes.subarray(this.begin - blockStart, this.end - blockStart));
    if (changed) this.checksums.sumBlocks(piece.bytes, 0, piece.count, piece.sums, 0);
    return changed;
  }

  /** Gives the buffers back; nothing may look at the pieces afterwards. */
  release(): void {
    if (this.released) return;
    this.released = true;
    for (const piece of this.pieces) this.pool.give(piece.bytes);
    this.onRelease(this);
  }
}
