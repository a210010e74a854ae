/**
 * What an owner does for its bucket beside sending its log: checkpoints, compaction, deletion, and counting. One for each
 * epoch that is owned. Checkpoints set the pace: each counts what lives, from which compaction chooses, and makes an older
 * one unneeded, and what was dead before that.
 */
import { BLOCK_BYTES } from '../base/units.js';
import type { ImageCopy } from '../engine/image-copy.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { Random } from '../ports/random.js';
import type { BookKeeper } from './book-keeper.js';
import { CheckpointWriter } from './checkpoint-writer.js';
import { Compactor } from './compactor.js';
import { Deletion, GRACE_MS } from './deletion.js';
import type { Mended } from './mend.js';
import type { ReceiptKeeper } from './receipt-keeper.js';
import type { RemoteBook } from './remote-map-book.js';
import type { TalliedStore } from './remote-tally.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ObjectSealer } from './seal.js';
import { RetryingStore } from './store-retry.js';
import type { Fencing } from './upload.js';
import type { CommittedGroup } from './upload-pipeline.js';

export interface HousekeepingOptions {
  readonly keeper: BookKeeper;
  readonly store: TalliedStore;
  readonly sealer: ObjectSealer;
  readonly fencing: Fencing;
  readonly epoch: number;
  readonly createdSizeBytes: number;
  /** Payload blocks of one segment. */
  readonly segmentBlocks: number;
  readonly image: ImageCopy;
  readonly receipts: Pick<ReceiptKeeper, 'upTo'>;
  /** false: the bucket is only added to. */
  readonly compaction: boolean;
  readonly graceMs?: number;
  /** See ShardLimits. */
  readonly shardRewriteBlocks?: number;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly incarnation: Incarnation;
  /** The highest segment number that this life has sent. */
  readonly sent: () => number;
  /** DurableState.segmentRecorded */
  readonly recorded: () => number;
  /** Something was deleted. */
  readonly deleted: () => void;
  /** See Deletion. */
  readonly exclusive: (bytes: ReadonlyMap<number, number>) => void;
  /** The book was changed. */
  readonly counted: (book: RemoteBook) => void;
  /** The map file shows everything up to this segment, durably. */
  readonly applied: (segmentNumber: number) => void;
  /** There is something for the replicator to do. */
  readonly wake: () => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

export class Housekeeping {
  /** undefined: nothing is compacted. */
  readonly compactor: Compactor | undefined;
  readonly #checkpoints: CheckpointWriter;
  readonly #deletion: Deletion | undefined;

  constructor(options: HousekeepingOptions) {
    const { store, clock, random, segmentBlocks, compaction, graceMs = GRACE_MS } = options;
    const retrying = new RetryingStore(store, { clock, random });
    this.compactor = compaction ? new Compactor({ ...options, store: retrying }) : undefined;
    this.#deletion = compaction ? new Deletion({ ...options, reading: retrying, graceMs }) : undefined;
    this.#checkpoints = new CheckpointWriter({
      ...options,
      bytesDueMin: 2 * segmentBlocks * BLOCK_BYTES,
      written: (checkpoint, book) => {
        // Where nothing can be deleted, moving what lives would only add to the bucket.
        if (this.#deletion?.forbidden === false) this.compactor?.planned();
        // Taken in any case: else the list grows with every segment.
        const emptied = book.table.takeEmptied();
        this.#deletion?.checkpointed(checkpoint, emptied);
      },
    });
  }

  /** A segment goes on its way. */
  sending(number: number): void {
    this.#deletion?.sending(number);
  }

  committed(group: CommittedGroup): void {
    this.#checkpoints.committed(group);
    this.#deletion?.committed(group.point.number);
  }

  /** Somebody waited until all was replicated. */
  drained(): void {
    this.#checkpoints.drained();
  }

  /** The epoch is owned, and all that was committed before is known. */
  begin(): void {
    this.#checkpoints.begin();
  }

  demandCheckpoint(): void {
    this.#checkpoints.demand();
  }

  /** See CheckpointWriter. */
  mend(objects: readonly string[]): Promise<Mended> {
    return this.#checkpoints.mend(objects);
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    await this.#checkpoints.ended();
    await this.compactor?.ended();
    await this.#deletion?.ended();
  }
}
