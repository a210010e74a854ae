/** What a reader of one recovery point knows of it (frozen-map.ts, frozen-table.ts); changes only while it is opened. */
import { assert } from '../base/assert.js';
import { epochOf } from './checkpoint.js';
import type { Checkpoint, EpochStart } from './checkpoint.js';
import { FrozenMap } from './frozen-map.js';
import type { FrozenMapOptions } from './frozen-map.js';
import { FrozenTable } from './frozen-table.js';
import type { HistoryBook } from './restore-history.js';
import type { BookGroup } from './remote-map-book.js';
import { isWithoutEffect } from './segment-index.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { segmentRow } from './shard-table.js';
import { afterGroup } from './snapshots.js';
import type { Snapshot } from './snapshots.js';
import { afterSegment } from './staged.js';
import type { StagedRound } from './staged.js';
import { readStaged } from './staged-read.js';

export class FrozenBook implements HistoryBook {
  readonly map: FrozenMap;
  readonly table: FrozenTable;
  /** Segment number of the checkpoint that it began at; 0: it began at the beginning. */
  readonly floor: number;
  readonly epochs: EpochStart[];
  #position: ChainPoint;
  #sizeBytes: number | undefined;
  #snapshots: readonly Snapshot[];
  #staged: StagedRound | undefined;
  readonly #options: FrozenMapOptions;

  /** As of a checkpoint; undefined: before the first segment. Nothing of it is fetched yet. */
  constructor(checkpoint: Checkpoint | undefined, options: FrozenMapOptions) {
    this.#options = options;
    this.#staged = checkpoint?.staged;
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
    for (const { key, index, header, link } of group.segments) {
      const { waits, ended } = afterSegment(this.#staged, key, index);
      if (ended?.as === 'applied') await this.#applyStaged(ended.firstNumber, key.number);
      this.#staged = waits;
      if (this.epochs.at(-1)?.epoch !== key.epoch)
        this.epochs.push({ epoch: key.epoch, firstNumber: key.number, link });
      // What is staged is nobody's yet.
      if (isWithoutEffect(index.role)) continue;
      this.table.add(segmentRow(key, { index, header }));
      await this.map.apply(key.number, index);
    }
    this.#position = group.point;
    this.#sizeBytes = group.sizeBytes;
    this.#snapshots = afterGroup(this.#snapshots, group);
  }

  async #applyStaged(first: number, at: number): Promise<void> {
    const options = { ...this.#options, epochOf: (number: number) => epochOf(this.epochs, number) };
    if (first <= this.floor) this.table.applied();
    for await (const { key, index, header } of readStaged(first, at, options)) {
      if (key.number > this.floor) this.table.add(segmentRow(key, { index, header }));
      await this.map.apply(key.number, index, at);
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
