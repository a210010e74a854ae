/** What a reader of one recovery point knows of it (frozen-map.ts, frozen-table.ts); changes only while it is opened. */
import { assert } from '../base/assert.js';
import type { Checkpoint } from './checkpoint.js';
import { FrozenMap } from './frozen-map.js';
import type { FrozenMapOptions } from './frozen-map.js';
import { FrozenTable } from './frozen-table.js';
import type { HistoryBook } from './restore-history.js';
import type { BookGroup } from './remote-map-book.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { segmentRow } from './shard-table.js';
import { afterGroup } from './snapshots.js';
import type { Snapshot } from './snapshots.js';

export class FrozenBook implements HistoryBook {
  readonly map: FrozenMap;
  readonly table: FrozenTable;
  /** Segment number of the checkpoint that it began at; 0: it began at the beginning. */
  readonly floor: number;
  readonly epochs: { readonly epoch: number }[];
  #position: ChainPoint;
  #sizeBytes: number | undefined;
  #snapshots: readonly Snapshot[];

  /** As of a checkpoint; undefined: before the first segment. Nothing of it is fetched yet. */
  constructor(checkpoint: Checkpoint | undefined, options: FrozenMapOptions) {
    this.map = new FrozenMap(checkpoint, options);
    this.table = new FrozenTable(checkpoint, options);
    this.epochs = [...(checkpoint?.epochs ?? [])];
    this.#position = checkpoint?.recoveryPoint ?? chainOrigin;
    this.floor = this.#position.number;
    this.#sizeBytes = checkpoint?.sizeBytes;
    this.#snapshots = checkpoint?.snapshots ?? [];
  }

  get position(): ChainPoint {
    return this.#position;
  }

  get sizeBytes(): number | undefined {
    return this.#sizeBytes;
  }

  get snapshots(): readonly Snapshot[] {
    return this.#snapshots;
  }

  async apply(group: BookGroup): Promise<void> {
    assert(group.segments[0]?.key.number === this.#position.number + 1, 'a book leaves no group out');
    for (const { key, index, header } of group.segments) {
      if (index.role === 'compaction') continue;
      this.table.add(segmentRow(key, { index, header }));
      await this.map.apply(key.number, index);
    }
    this.#position = group.point;
    this.#sizeBytes = group.sizeBytes;
    this.#snapshots = afterGroup(this.#snapshots, group);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
