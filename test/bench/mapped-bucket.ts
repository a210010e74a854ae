/**
 * A bucket that holds a volume of any size, completely mapped, as a directory store has it, without the data: a checkpoint
 * with every shard of the map and of the segment table, and as many segments with their data as are wanted. Block b lies in
 * segment 1 + b / 2048. Written as files, without fsync: a bucket for a bench, not one to keep.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Checksums } from '../../src/ports/checksum.js';
import type { Random } from '../../src/ports/random.js';
import { emptyDelta, sealCheckpoint } from '../../src/remote/checkpoint.js';
import { sealEpoch } from '../../src/remote/epoch-object.js';
import { generateVolumeKey, wrapVolumeKey } from '../../src/remote/key.js';
import type { MasterKey } from '../../src/remote/key.js';
import { ObjectSealer } from '../../src/remote/seal.js';
import type { SegmentFacts } from '../../src/remote/segment-index.js';
import { SegmentWriter } from '../../src/remote/segment-writer.js';
import { MapEntries, mapPageSums, SHARD_BLOCKS, SHARD_BYTES, sealMapShard } from '../../src/remote/shard-map.js';
import type { MapShardReference } from '../../src/remote/shard-map.js';
import { sealTableShard, segmentRow, TABLE_SHARD_NUMBERS } from '../../src/remote/shard-table.js';
import type { SegmentRow, TableShardReference } from '../../src/remote/shard-table.js';
import { sealVolume } from '../../src/remote/volume-object.js';

export const BLOCK = 4096;
const SEGMENT_BLOCKS = 2048;
const WALL_MS = 1_800_000_000_000;

export interface MappedBucketOptions {
  readonly directory: string;
  readonly master: MasterKey;
  readonly checksums: Checksums;
  readonly random: Random;
  readonly name: string;
  /** A multiple of 128 MiB. */
  readonly sizeBytes: number;
  /** How many of the segments have their data; which ones is random. */
  readonly segments: number;
}

export interface MappedBucket {
  /** First block of each segment that has its data, ascending: 2048 blocks each. */
  readonly readable: readonly number[];
  readonly objects: number;
  readonly bytes: number;
}

/** The content of a block. */
export function contentOf(block: number): Uint8Array {
  const content = new Uint8Array(BLOCK).fill(1 + (block % 251));
  new DataView(content.buffer).setFloat64(0, block, true);
  return content;
}

export async function makeMappedBucket(options: MappedBucketOptions): Promise<MappedBucket> {
  return new Maker(options).make();
}

class Maker {
  readonly #options: MappedBucketOptions;
  readonly #sealer: ObjectSealer;
  readonly #volumeKey: Uint8Array;
  readonly #directories = new Set<string>();
  readonly #count: number;
  #objects = 0;
  #bytes = 0;

  constructor(options: MappedBucketOptions) {
    const { random, sizeBytes } = options;
    this.#options = options;
    this.#volumeKey = generateVolumeKey(random);
    this.#sealer = new ObjectSealer({ key: this.#volumeKey, uuid: random.uuid(), random });
    this.#count = sizeBytes / BLOCK / SEGMENT_BLOCKS;
  }

  async make(): Promise<MappedBucket> {
    const { master, random, name, sizeBytes } = this.#options;
    const { names } = this.#sealer;
    const created = { name, createdMs: WALL_MS, sizeBytes, logicalBlockBytes: 512 };
    await this.#put(names.volume, sealVolume(this.#sealer, created).bytes);
    const wrapped = wrapVolumeKey({ master, uuid: names.uuid, volumeKey: this.#volumeKey, wallMs: WALL_MS, random });
    await this.#put(wrapped.name, wrapped.object.bytes);
    const claim = { wallMs: WALL_MS, incarnation: random.bytes(16), owner: 'bench' };
    await this.#put(names.epoch(1), sealEpoch(this.#sealer, 1, claim).bytes);
    const { rows, link, readable } = await this.#segments();
    const recoveryPoint = { epoch: 1, number: this.#count, link, lsn: this.#count, wallMs: WALL_MS };
    const tableShards = await this.#tableShards(rows);
    const mapShards = await this.#mapShards();
    const root = sealCheckpoint(
      this.#sealer,
      { epoch: 1, number: this.#count },
      {
        sizeBytes,
        wallMs: WALL_MS,
        recoveryPoint,
        epochs: [{ epoch: 1, firstNumber: 1, link: new Uint8Array(32) }],
        receipts: [],
        mapShards,
        tableShards,
        tail: [],
        delta: emptyDelta,
        snapshots: [],
      },
    );
    await this.#put(names.checkpoint({ epoch: 1, number: this.#count }), root.bytes);
    return { readable, objects: this.#objects, bytes: this.#bytes };
  }

  /** The last one is always there: the history ends in it. */
  async #segments(): Promise<{ rows: Map<number, SegmentRow>; link: Uint8Array; readable: number[] }> {
    const { segments, checksums, random } = this.#options;
    const numbers = new Set([this.#count]);
    while (numbers.size < Math.min(segments, this.#count)) {
      numbers.add(1 + (new DataView(random.bytes(4).buffer).getUint32(0, true) % this.#count));
    }
    const writer = new SegmentWriter({ payloadBlocksMax: SEGMENT_BLOCKS });
    const rows = new Map<number, SegmentRow>();
    let link = new Uint8Array(32);
    for (const number of [...numbers].sort((left, right) => left - right)) {
      const first = (number - 1) * SEGMENT_BLOCKS;
      writer.clear();
      writer.reserve(first, SEGMENT_BLOCKS);
      for (let at = 0; at < SEGMENT_BLOCKS; at++) writer.payload.set(contentOf(first + at), at * BLOCK);
      checksums.sumBlocks(writer.payload, 0, SEGMENT_BLOCKS, writer.sums, 0);
      checksums.toBlockSums(writer.sums, 0, SEGMENT_BLOCKS, first);
      const segment = writer.seal(this.#sealer, { epoch: 1, number }, factsOf(number, this.#options.sizeBytes));
      rows.set(number, segmentRow({ epoch: 1, number }, segment));
      link = new Uint8Array(segment.link);
      await this.#put(segment.name, segment.bytes);
    }
    return { rows, link, readable: [...rows.keys()].map((number) => (number - 1) * SEGMENT_BLOCKS) };
  }

  async #tableShards(real: ReadonlyMap<number, SegmentRow>): Promise<TableShardReference[]> {
    const { random } = this.#options;
    const model = real.get(this.#count);
    if (model === undefined) throw new Error('the last segment has its data');
    const shards: TableShardReference[] = [];
    for (let tableIndex = 0; tableIndex * TABLE_SHARD_NUMBERS <= this.#count; tableIndex++) {
      const rows: SegmentRow[] = [];
      const live = new Uint16Array(TABLE_SHARD_NUMBERS);
      for (let at = 0; at < TABLE_SHARD_NUMBERS; at++) {
        const number = tableIndex * TABLE_SHARD_NUMBERS + at;
        if (number === 0 || number > this.#count) continue;
        rows.push(real.get(number) ?? { ...model, number, lastLsn: number, salt: random.bytes(32) });
        live[at] = SEGMENT_BLOCKS;
      }
      const key = { epoch: 1, number: this.#count, part: tableIndex };
      const object = sealTableShard(this.#sealer, key, tableIndex, rows);
      await this.#put(this.#sealer.names.shard(key), object.bytes);
      shards.push({ ...key, tableIndex, link: object.link, live });
    }
    return shards;
  }

  async #mapShards(): Promise<MapShardReference[]> {
    const { checksums, sizeBytes } = this.#options;
    const shards: MapShardReference[] = [];
    const bytes = new Uint8Array(SHARD_BYTES);
    const entries = new MapEntries(bytes);
    for (let shardIndex = 0; shardIndex < sizeBytes / BLOCK / SHARD_BLOCKS; shardIndex++) {
      const first = shardIndex * SHARD_BLOCKS;
      for (let at = 0; at < SHARD_BLOCKS; at++) {
        entries.set(at, 1 + Math.floor((first + at) / SEGMENT_BLOCKS), at % SEGMENT_BLOCKS);
      }
      const pageSums = mapPageSums(checksums, shardIndex, bytes);
      const key = { epoch: 1, number: this.#count, part: 1_000_000 + shardIndex };
      const object = sealMapShard(this.#sealer, checksums, key, { shardIndex, entries: bytes, pageSums });
      await this.#put(this.#sealer.names.shard(key), object.bytes);
      shards.push({ ...key, shardIndex, link: object.link });
    }
    return shards;
  }

  async #put(key: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.#options.directory, key);
    const folder = dirname(path);
    if (!this.#directories.has(folder)) await mkdir(folder, { recursive: true });
    this.#directories.add(folder);
    await writeFile(path, bytes);
    this.#objects++;
    this.#bytes += bytes.length;
  }
}

function factsOf(number: number, sizeBytes: number): SegmentFacts {
  return {
    role: 'data',
    groupId: number,
    groupFirstNumber: number,
    groupEnd: true,
    firstLsn: number,
    lastLsn: number,
    wallMs: WALL_MS,
    sizeBytes,
    // The chain before the checkpoint is nobody's business any more.
    previousLink: new Uint8Array(32),
    committed: { epoch: number === 1 ? 0 : 1, number: number - 1 },
  };
}
