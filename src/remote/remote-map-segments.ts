/**
 * The segments of a volume's valid history: where each one's frames are, and how many of its blocks are still live.
 * Complete runs of 1024 numbers stand in table shards in the bucket; their rows are not held in memory, their live counts
 * are. The rest is the tail.
 */
import { assert } from '../base/assert.js';
import type { TailRow } from './checkpoint.js';
import type { SegmentLife } from './compaction-plan.js';
import { TABLE_SHARD_NUMBERS, tableIndexOf } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import { sealedObjectBytes, TAG_BYTES } from './seal-header.js';
import { BLOCK_BYTES } from '../base/units.js';

export class SegmentTable {
  readonly #shards = new Map<number, TableShardReference>();
  /** Payload blocks of the numbers in table shards, once their rows were seen; 0: none has that number. */
  readonly #payloads = new Map<number, Uint16Array>();
  readonly #tail = new Map<number, { readonly row: SegmentRow; live: number }>();
  /** In the tail, or what died in this life: nothing lives in them. */
  #emptied = new Set<number>();
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
    if (live === 0) this.#emptied.add(row.number);
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
    if (live === 1) this.#emptied.add(number);
    this.#liveBlocks--;
  }

  /** Nothing of a segment is live any more, all of it having been. */
  dropAll(number: number): void {
    const entry = this.#tail.get(number);
    const shard = this.#shards.get(tableIndexOf(number));
    const at = number % TABLE_SHARD_NUMBERS;
    this.#liveBlocks -= entry?.live ?? shard?.live[at] ?? 0;
    if (entry !== undefined) entry.live = 0;
    else if (shard !== undefined) shard.live[at] = 0;
    this.#emptied.add(number);
  }

  isLive(number: number): boolean {
    const live =
      this.#tail.get(number)?.live ?? this.#shards.get(tableIndexOf(number))?.live[number % TABLE_SHARD_NUMBERS];
    return live !== undefined && live > 0;
  }

  /**
   * Segments in which nothing lives, each told once, and forgotten here: no map will point at them again, and no reader
   * needs their rows. Table shards go with the last segment that lives in them.
   */
  takeEmptied(): number[] {
    const numbers = [...this.#emptied];
    this.#emptied.clear();
    for (const number of numbers) {
      const entry = this.#tail.get(number);
      if (entry === undefined) continue;
      this.#tail.delete(number);
      this.#tailBytes -= rowBytes(entry.row);
    }
    for (const { tableIndex, live } of this.tableShards) {
      if (live.some((blocks) => blocks > 0)) continue;
      this.#shards.delete(tableIndex);
      this.#payloads.delete(tableIndex);
    }
    return numbers;
  }

  /** Every segment of which something is known; of table shards only those whose rows were seen. */
  *lives(): Generator<SegmentLife, void, undefined> {
    for (const { tableIndex, live } of this.#shards.values()) {
      const payloads = this.#payloads.get(tableIndex);
      if (payloads === undefined) continue;
      for (let at = 0; at < live.length; at++) {
        const payload = payloads[at] ?? 0;
        if (payload > 0) yield { number: tableIndex * TABLE_SHARD_NUMBERS + at, live: live[at] ?? 0, payload };
      }
    }
    for (const { row, live } of this.#tail.values()) yield { number: row.number, live, payload: row.payloadBlocks };
  }

  /** Table shards with something that lives, whose rows were not seen yet. */
  unknownShards(): TableShardReference[] {
    const unknown = this.tableShards.filter(({ tableIndex }) => !this.#payloads.has(tableIndex));
    return unknown.filter(({ live }) => live.some((blocks) => blocks > 0));
  }

  learn(tableIndex: number, rows: readonly SegmentRow[]): void {
    const payloads = new Uint16Array(TABLE_SHARD_NUMBERS);
    for (const row of rows) payloads[row.number % TABLE_SHARD_NUMBERS] = row.payloadBlocks;
    this.#payloads.set(tableIndex, payloads);
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
    this.learn(reference.tableIndex, this.rowsOf(reference.tableIndex));
    for (const { row, liveBlocks } of this.tail) {
      if (tableIndexOf(row.number) !== reference.tableIndex) continue;
      live[row.number % TABLE_SHARD_NUMBERS] = liveBlocks;
      this.#tail.delete(row.number);
      this.#tailBytes -= rowBytes(row);
    }
    this.#shards.set(reference.tableIndex, { ...reference, live });
  }

  /** A shard was written again, with rows of all segments that live in it. */
  replaced(reference: Omit<TableShardReference, 'live'>): void {
    const before = this.#shards.get(reference.tableIndex);
    assert(before !== undefined, 'a shard that is replaced was there');
    this.#shards.set(reference.tableIndex, { ...reference, live: before.live });
  }
}

function rowBytes(row: SegmentRow): number {
  return sealedObjectBytes(row.indexSealedBytes - TAG_BYTES, row.payloadBlocks * BLOCK_BYTES);
}
