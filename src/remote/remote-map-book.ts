/**
 * Everything that a checkpoint says, kept up to date: the map, the segment table, the epochs and the volume's size as of
 * the last group that was applied. The owner keeps one to write checkpoints from, a restore builds one to read by.
 */
import { assert } from '../base/assert.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { samePoint } from './chain.js';
import { emptyDelta, epochOf } from './checkpoint.js';
import type { Checkpoint, EpochStart } from './checkpoint.js';
import { RemoteMap } from './remote-map.js';
import { MapFile } from './remote-map-file.js';
import { MapDoubtError, nowhere } from './remote-map-header.js';
import { SegmentTable } from './remote-map-segments.js';
import type { ObjectSealer } from './seal.js';
import type { SegmentKey } from './name.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { openMapShard } from './shard-map.js';
import type { MapShardReference } from './shard-map.js';
import { segmentRow } from './shard-table.js';
import { afterGroup } from './snapshots.js';
import type { Snapshot, SnapshotRoot } from './snapshots.js';
import { afterSegment } from './staged.js';
import type { StagedRound } from './staged.js';
import { readStaged } from './staged-read.js';
import type { StoredSegment } from './upload-pipeline.js';

export interface BookOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  /** Where the map file is. */
  readonly disk: Disk;
  readonly request: StoreRequest;
  /** For tests: entries of the map's delta in memory while a round is applied. */
  readonly foldEntries?: number;
}

/** Entries of the map's delta in the middle of a round that is applied: about 16 MiB. */
const FOLD_ENTRIES = 256 * 1024;

/** A complete group with all its segments. */
export interface BookGroup {
  readonly point: ChainPoint;
  readonly sizeBytes: number;
  readonly segments: readonly StoredSegment[];
}

export class RemoteBook {
  readonly map: RemoteMap;
  readonly table: SegmentTable;
  readonly mapShards: Map<number, MapShardReference>;
  readonly epochs: EpochStart[];
  /** Issued, as far as the checkpoint knew; ascending. */
  readonly receipts: readonly ChainPoint[];
  /** The newest checkpoint: this book is of it, or has gone on from it. */
  root: SegmentKey | undefined;
  #position: ChainPoint;
  #sizeBytes: number | undefined;
  #snapshots: readonly Snapshot[];
  #staged: StagedRound | undefined;
  readonly #options: BookOptions;

  private constructor(map: RemoteMap, table: SegmentTable, checkpoint: Checkpoint | undefined, options: BookOptions) {
    this.#options = options;
    this.#staged = checkpoint?.staged;
    this.map = map;
    this.table = table;
    this.mapShards = new Map(checkpoint?.mapShards.map((shard) => [shard.shardIndex, shard]));
    this.epochs = [...(checkpoint?.epochs ?? [])];
    this.receipts = checkpoint?.receipts ?? [];
    this.#position = checkpoint?.recoveryPoint ?? chainOrigin;
    this.#sizeBytes = checkpoint?.sizeBytes;
    this.#snapshots = checkpoint?.snapshots ?? [];
  }

  /**
   * The book at a checkpoint (undefined: before the first segment). A map file that shows this very point is taken, else
   * it is made again from the shards. Throws object-missing and object-damaged for what the checkpoint names, and then a
   * sound map file of another point is still there: an older checkpoint may be the one that it shows.
   */
  static async load(checkpoint: Checkpoint | undefined, options: BookOptions): Promise<RemoteBook> {
    const table = new SegmentTable();
    if (checkpoint !== undefined) table.load(checkpoint.tableShards, checkpoint.tail);
    const found = await openFile(checkpoint, options);
    if (found === 'of another point') await proveShards(checkpoint, options);
    const file = typeof found === 'object' ? found : await makeFile(checkpoint, options);
    return new RemoteBook(new RemoteMap(file, table, checkpoint?.delta ?? emptyDelta), table, checkpoint, options);
  }

  /** The recovery point that the book shows. */
  get position(): ChainPoint {
    return this.#position;
  }

  /** undefined: as it was created. */
  get sizeBytes(): number | undefined {
    return this.#sizeBytes;
  }

  /** That are not deleted, oldest first. Another list after every change of them. */
  get snapshots(): readonly Snapshot[] {
    return this.#snapshots;
  }

  /** Of a round that is not applied yet. */
  get staged(): StagedRound | undefined {
    return this.#staged;
  }

  /** Blocks that do not read as zero. */
  get mappedBlocks(): number {
    return this.table.liveBytes / BLOCK_BYTES - (this.#staged?.blocks ?? 0);
  }

  /** The root of the snapshot at this very position was written. */
  rooted(root: SnapshotRoot): void {
    const { number } = this.#position;
    if (!this.#snapshots.some(({ point }) => point.number === number)) return;
    this.#snapshots = this.#snapshots.map((snapshot) =>
      snapshot.point.number === number ? { ...snapshot, root } : snapshot,
    );
  }

  epochOf(number: number): number {
    return epochOf(this.epochs, number);
  }

  async apply(group: BookGroup): Promise<void> {
    assert(group.segments[0]?.key.number === this.#position.number + 1, 'a book leaves no group out');
    for (const { key, index, header, link } of group.segments) {
      const { waits, ended } = afterSegment(this.#staged, key, index);
      if (ended?.as === 'applied') await this.#applyStaged(ended.firstNumber, key.number);
      else if (ended !== undefined) this.#dropStaged(ended.firstNumber, key.number);
      this.#staged = waits;
      this.table.add(segmentRow(key, { index, header }), index.payloadBlocks);
      if (index.role !== 'staged') await this.map.apply(key.number, index);
      if (this.epochs.at(-1)?.epoch !== key.epoch) {
        this.epochs.push({ epoch: key.epoch, firstNumber: key.number, link });
      }
    }
    this.#position = group.point;
    this.#sizeBytes = group.sizeBytes;
    this.#snapshots = afterGroup(this.#snapshots, group);
  }

  /** What was staged from `first` on takes effect. */
  async #applyStaged(first: number, at: number): Promise<void> {
    const { foldEntries = FOLD_ENTRIES } = this.#options;
    const options = { ...this.#options, epochOf: (number: number) => this.epochOf(number) };
    for await (const { key, index } of readStaged(first, at, options)) {
      await this.map.apply(key.number, index, at);
      if (this.map.deltaEntries >= foldEntries) await this.map.fold(at);
    }
  }

  #dropStaged(first: number, at: number): void {
    for (let number = first; number < at; number++) this.table.dropAll(number);
  }

  async close(): Promise<void> {
    await this.map.file.close();
  }
}

async function openFile(
  checkpoint: Checkpoint | undefined,
  options: BookOptions,
): Promise<MapFile | 'of another point' | 'none'> {
  try {
    const file = await MapFile.open({ ...options, uuid: options.sealer.names.uuid });
    if (samePoint(file.position, checkpoint?.recoveryPoint ?? chainOrigin)) return file;
    await file.close();
    return 'of another point';
  } catch (error) {
    if (error instanceof MapDoubtError) return 'none';
    throw error;
  }
}

/** A map is given up only for one that can be had: shards are few, and read twice when this is rare. */
async function proveShards(checkpoint: Checkpoint | undefined, options: BookOptions): Promise<void> {
  const { store, sealer, checksums, request } = options;
  for (const shard of checkpoint?.mapShards ?? [])
    openMapShard(sealer, checksums, shard, await store.get(sealer.names.shard(shard), request));
}

async function makeFile(checkpoint: Checkpoint | undefined, options: BookOptions): Promise<MapFile> {
  const { store, sealer, checksums, request } = options;
  // Until it shows the checkpoint, it must not be taken for an empty one.
  const position = checkpoint === undefined ? chainOrigin : nowhere();
  const file = await MapFile.create({ ...options, uuid: sealer.names.uuid }, position);
  if (checkpoint === undefined) return file;
  try {
    for (const shard of checkpoint.mapShards) {
      const bytes = await store.get(sealer.names.shard(shard), request);
      await file.writeShard(openMapShard(sealer, checksums, shard, bytes));
    }
    const nobody = { drop: (): void => undefined };
    const change = await file.begin();
    await new RemoteMap(file, nobody, checkpoint.delta).stage(change);
    await file.commit(change, checkpoint.recoveryPoint);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
