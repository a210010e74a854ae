/**
 * The segments of a volume's valid history: where each one's frames are, and how many of its blocks are still live.
 * Complete runs of 1024 numbers stand in table shards in the bucket; their rows are not held in memory, their live counts
 * are. The rest is the tail.
 */
import { assert } from '../base/assert.js';
import type { TailRow } from './checkpoint.js';
import { TABLE_SHARD_NUMBERS, tableIndexOf } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import { sealedObjectBytes, TAG_BYTES } from './seal-header.js';
import { BLOCK_BYTES } from '../base/units.js';

export class SegmentTable {
  readonly #shards = new Map<number, TableShardReference>();
  readonly #tail = new Map<number, { readonly row: SegmentRow; live: number }>();
  #liveBlocks = 0;
  /** Objects and bytes of the rows that this process has seen, and a sum over the shards' live counts otherwise. */
  #tailBytes = 0;

  load(shards: readonly TableShardReference[], tail: readonly TailRow[]): void {
    for (const shard of shards) {
      this.#shards.set(shard.tableIndex, { ...shard, live: shard.live.slice() });
      for (const live of shard.live) this.#liveBlocks += live;
    }
    for (const { row, liveBlocks } of tail) this.add(row, liveBlocks);
  }

  add(row: SegmentRow, live: number): void {
    this.#tail.set(row.number, { row, live });
    this.#liveBlocks += live;
    this.#tailBytes += rowBytes(row);
  }

  /** One block less of a segment is live. */
  drop(number: number): void {
    const entry = this.#tail.get(number);
    const shard = this.#shards.get(tableIndexOf(number));
    const at = number % TABLE_SHARD_NUMBERS;
    const live = entry?.live ?? shard?.live[at];
    assert(live !== undefined && live > 0, 'a mapped block is a live block of a known segment');
    if (entry !== undefined) entry.live--;
    else if (shard !== undefined) shard.live[at] = live - 1;
    this.#liveBlocks--;
  }

  get liveBytes(): number {
    return this.#liveBlocks * BLOCK_BYTES;
  }

  get objects(): number {
    return this.#tail.size + this.#shards.size * TABLE_SHARD_NUMBERS;
  }

  /** Bytes of the tail's objects; a table shard's are estimated by its live blocks. */
  get bytes(): number {
    let bytes = this.#tailBytes;
    for (const { live } of this.#shards.values()) for (const blocks of live) bytes += blocks * BLOCK_BYTES;
    return bytes;
  }

  get tableShards(): TableShardReference[] {
    return [...this.#shards.values()].sort((left, right) => left.tableIndex - right.tableIndex);
  }

  get tail(): TailRow[] {
    return [...this.#tail.values()]
      .map(({ row, live }) => ({ row, liveBlocks: live }))
      .sort((left, right) => left.row.number - right.row.number);
  }

  /** The row of a segment in the tail. */
  tailRow(number: number): SegmentRow | undefined {
    return this.#tail.get(number)?.row;
  }

  /** The table shard that has the row of a segment; undefined: it is in the tail. */
  shardOf(number: number): TableShardReference | undefined {
    return this.#tail.has(number) ? undefined : this.#shards.get(tableIndexOf(number));
  }

  /** Table indexes whose numbers all lie at or below `number` and are still in the tail. */
  complete(number: number): number[] {
    const indexes = new Set([...this.#tail.keys()].map(tableIndexOf));
    return [...indexes].filter((index) => (index + 1) * TABLE_SHARD_NUMBERS - 1 <= number).sort((a, b) => a - b);
  }

  rowsOf(tableIndex: number): SegmentRow[] {
    return this.tail.map(({ row }) => row).filter((row) => tableIndexOf(row.number) === tableIndex);
  }

  /** The rows of `tableIndex` stand in a shard of the bucket now. */
  moved(reference: Omit<TableShardReference, 'live'>): void {
    const live = new Uint16Array(TABLE_SHARD_NUMBERS);
    for (const { row, liveBlocks } of this.tail) {
      if (tableIndexOf(row.number) !== reference.tableIndex) continue;
      live[row.number % TABLE_SHARD_NUMBERS] = liveBlocks;
      this.#tail.delete(row.number);
      this.#tailBytes -= rowBytes(row);
    }
    this.#shards.set(reference.tableIndex, { ...reference, live });
  }
}

function rowBytes(row: SegmentRow): number {
  return sealedObjectBytes(row.indexSealedBytes - TAG_BYTES, row.payloadBlocks * BLOCK_BYTES);
}
