/**
 * The segments in which blocks of one recovery point lie, for a reader of it: those of its checkpoint, whose table shards
 * come on first use, and those behind that. Segments of compaction behind the checkpoint are not among them
 * (frozen-map.ts). Rows are kept as the bytes that they came in: a volume of a terabyte has a hundred thousand.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Checkpoint } from './checkpoint.js';
import type { ObjectSealer } from './seal.js';
import {
  livesIn,
  openTableShard,
  readRow,
  ROW_BYTES,
  TABLE_SHARD_NUMBERS,
  tableIndexOf,
  writeRow,
} from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import { SharedFetch } from './shared-fetch.js';

/** Table shards that are kept in memory, 64 KiB each. */
const SHARDS_MAX = 128;

interface TailSegment {
  readonly row: SegmentRow;
  readonly liveBlocks: number;
}

export class FrozenTable {
  readonly #store: ObjectStore;
  readonly #sealer: ObjectSealer;
  readonly #shards: ReadonlyMap<number, TableShardReference>;
  readonly #tail: Map<number, TailSegment>;
  readonly #loads = new SharedFetch<Uint8Array>();
  /** Numbers of staged segments (staged.ts) that the checkpoint knows and that have no effect: nothing lives in them. */
  #staged: { readonly first: number; readonly last: number } | undefined;
  /** Least recently used first; rows in the order of their numbers. */
  readonly #loaded = new Map<number, Uint8Array>();

  constructor(
    checkpoint: Checkpoint | undefined,
    { store, sealer }: { readonly store: ObjectStore; readonly sealer: ObjectSealer },
  ) {
    this.#store = store;
    this.#sealer = sealer;
    this.#shards = new Map(checkpoint?.tableShards.map((shard) => [shard.tableIndex, shard]));
    this.#tail = new Map(checkpoint?.tail.map((entry) => [entry.row.number, entry]));
    if (checkpoint?.staged !== undefined)
      this.#staged = { first: checkpoint.staged.firstNumber, last: checkpoint.recoveryPoint.number };
  }

  /** A segment behind the checkpoint, in the order of their numbers. */
  add(row: SegmentRow): void {
    this.#tail.set(row.number, { row, liveBlocks: row.payloadBlocks });
  }

  /** What was staged when the checkpoint was written has taken effect. */
  applied(): void {
    this.#staged = undefined;
  }

  #isStaged(number: number): boolean {
    return this.#staged !== undefined && number >= this.#staged.first && number <= this.#staged.last;
  }

  /** remote-gap: no table has it. object-missing, object-damaged; store errors. */
  async row(number: number, request: StoreRequest): Promise<SegmentRow> {
    const tail = this.#tail.get(number);
    if (tail !== undefined) return tail.row;
    const shard = this.#shards.get(tableIndexOf(number));
    const row = shard && findRow(await this.#rows(shard, request), number);
    if (row === undefined) throw new GatewayError('remote-gap', `segment ${number} is in no table`);
    return row;
  }

  /** Blocks that live in segments with higher numbers, at most: what was overwritten behind the checkpoint counts too. */
  liveBlocksBehind(number: number): number {
    let blocks = 0;
    for (const { tableIndex, live } of this.#shards.values()) {
      for (let at = 0; at < live.length; at++) {
        const segment = tableIndex * TABLE_SHARD_NUMBERS + at;
        if (segment > number && !this.#isStaged(segment)) blocks += live[at] ?? 0;
      }
    }
    for (const { row, liveBlocks } of this.#tail.values())
      if (row.number > number && !this.#isStaged(row.number)) blocks += liveBlocks;
    return blocks;
  }

  /** Segments with higher numbers in which anything may live, ascending, and how much. */
  async *liveBehind(number: number, request: StoreRequest): AsyncGenerator<TailSegment, void, undefined> {
    // A checkpoint's tail begins behind its table shards.
    for (const shard of [...this.#shards.values()].sort((left, right) => left.tableIndex - right.tableIndex)) {
      if ((shard.tableIndex + 1) * TABLE_SHARD_NUMBERS <= number || !shard.live.some((live) => live > 0)) continue;
      const bytes = await this.#rows(shard, request);
      for (let start = 0; start < bytes.length; start += ROW_BYTES) {
        const row = rowAt(bytes, start);
        if (row.number <= number || this.#isStaged(row.number) || !livesIn(shard, row)) continue;
        yield { row, liveBlocks: shard.live[row.number % TABLE_SHARD_NUMBERS] ?? 0 };
      }
    }
    for (const entry of [...this.#tail.values()].sort((left, right) => left.row.number - right.row.number)) {
      if (entry.row.number > number && !this.#isStaged(entry.row.number) && entry.liveBlocks > 0) yield entry;
    }
  }

  async #rows(shard: TableShardReference, request: StoreRequest): Promise<Uint8Array> {
    const { tableIndex } = shard;
    const bytes =
      this.#loaded.get(tableIndex) ??
      (await this.#loads.get(`shard ${tableIndex} of the segment table`, request, (shared) =>
        this.#load(shard, shared),
      ));
    this.#loaded.delete(tableIndex);
    this.#loaded.set(tableIndex, bytes);
    const [oldest] = this.#loaded.keys();
    if (this.#loaded.size > SHARDS_MAX && oldest !== undefined) this.#loaded.delete(oldest);
    return bytes;
  }

  async #load(shard: TableShardReference, request: StoreRequest): Promise<Uint8Array> {
    const bytes = await this.#store.get(this.#sealer.names.shard(shard), request);
    const writer = new ByteWriter(TABLE_SHARD_NUMBERS * ROW_BYTES);
    for (const row of openTableShard(this.#sealer, shard, bytes)) writeRow(writer, row);
    return writer.finish();
  }
}

/** Rows ascend. */
function findRow(bytes: Uint8Array, number: number): SegmentRow | undefined {
  let low = 0;
  let high = bytes.length / ROW_BYTES;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const row = rowAt(bytes, middle * ROW_BYTES);
    if (row.number === number) return row;
    if (row.number < number) low = middle + 1;
    else high = middle;
  }
  return undefined;
}

function rowAt(bytes: Uint8Array, start: number): SegmentRow {
  return readRow(new ByteReader(bytes.subarray(start, start + ROW_BYTES), 'a row of the segment table'), 'a row');
}
