/**
 * Uploads of one epoch: several segments in flight at once, groups committed in order (upload-rules.ts).
 *
 * Frozen means frozen: what is in flight is repeated with the same bytes until it is answered, whatever is written
 * meanwhile. A refused PUT is recognised: one's own object (by salt) is success, a fence ends this owner, anything else
 * is another writer's and fatal (P7).
 */
import { assert } from '../base/assert.js';
import type { Lsn } from '../base/units.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { LogCursor, StagedProgress } from '../ports/replication.js';
import type { KeyedSegment } from './group-sealer.js';
import type { SegmentKey } from './name.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { StoreRetry } from './replicator-retry.js';
import type { ObjectSealer } from './seal.js';
import type { SealedBuffers } from './sealed-buffers.js';
import type { ChainPoint } from './segment-point.js';
import type { SentGroups } from './sent-groups.js';
import { readSegmentHead } from './segment-reader.js';
import { putOnce } from './upload.js';
import { committedCount, conflictOf } from './upload-rules.js';
import type { Fencing } from './upload.js';

/** What is kept of a segment once it is stored. */
export type StoredSegment = Pick<KeyedSegment, 'key' | 'index' | 'header' | 'link'>;

export interface CommittedGroup {
  readonly point: ChainPoint;
  readonly sizeBytes: number;
  /** The log behind the group, and everything up to it; undefined: it has nothing of the log. */
  readonly cursor: LogCursor | undefined;
  readonly lastLsn: Lsn;
  /** How far it brings a round. */
  readonly staged?: StagedProgress;
  readonly segments: readonly StoredSegment[];
}

export interface PipelineOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly retry: StoreRetry;
  readonly incarnation: Incarnation;
  readonly fencing: Fencing;
  readonly slots: number;
  /** Of the segments that are sent; a segment may have memory of its own. */
  readonly buffers: SealedBuffers;
  /** Notes a group before it may be complete in the bucket. */
  readonly sent: SentGroups;
  /** Where this epoch continues from. */
  readonly from: ChainPoint;
  readonly committed: (group: CommittedGroup) => void;
  /** At most once matters: the caller stops the incarnation. */
  readonly failed: (error: unknown) => void;
}

class InflightGroup {
  readonly segments: StoredSegment[] = [];
  end: Omit<CommittedGroup, 'segments'> | undefined;
  pending = 0;

  /** All its segments are sent. */
  get ended(): boolean {
    return this.end !== undefined;
  }
}

export class UploadPipeline {
  readonly #options: PipelineOptions;
  readonly #groups: InflightGroup[] = [];
  readonly #waiting: (() => void)[] = [];
  #free: number;
  #committed: SegmentKey;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#free = options.slots;
    this.#committed = { epoch: options.from.epoch, number: options.from.number };
    const wakeAll = (): void => {
      for (const wake of this.#waiting.splice(0)) wake();
    };
    options.incarnation.signal.addEventListener('abort', wakeAll, { once: true });
  }

  /** The newest segment that is known to be committed. */
  get committed(): SegmentKey {
    return this.#committed;
  }

  get idle(): boolean {
    return this.#groups.length === 0;
  }

  begin(): InflightGroup {
    const group = new InflightGroup();
    this.#groups.push(group);
    return group;
  }

  /** Waits for room to hold one more sealed segment. */
  async reserve(): Promise<void> {
    const { incarnation } = this.#options;
    while (this.#free === 0) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
      incarnation.check();
    }
    incarnation.check();
    this.#free--;
  }

  /** Uploads a segment of `group` into a reserved slot; returns at once. */
  send(group: InflightGroup, segment: KeyedSegment): void {
    const { key, index, header, link } = segment;
    group.segments.push({ key, index, header, link });
    group.pending++;
    this.#upload(segment).then(
      () => {
        group.pending--;
        this.#free++;
        this.#waiting.shift()?.();
        this.#commit();
      },
      (error: unknown) => this.#options.failed(error),
    );
  }

  /** All segments of the group are sent. */
  finish(group: InflightGroup, end: Omit<CommittedGroup, 'segments'>): void {
    group.end = end;
    this.#commit();
  }

  async #upload(segment: KeyedSegment): Promise<void> {
    const { store, sealer, retry, fencing, sent, buffers } = this.#options;
    if (segment.index.groupEnd) await sent.add({ ...segment.key, link: segment.link });
    let attempts = 0;
    const put = await retry.run(`upload ${segment.name}`, (request) => {
      attempts++;
      return putOnce(store, fencing, segment.name, segment, request);
    });
    if (put.outcome === 'mine') {
      // A request that was given up may still be reading the bytes, and so may one that was refused before its end.
      if (attempts === 1 && put.stored === true) buffers.giveBack(segment.bytes);
      return;
    }
    // Believed only after its authentication.
    const head = await retry.run('read a conflicting object', (request) =>
      readSegmentHead(store, sealer, segment.key, request),
    );
    throw conflictOf(segment.key, head);
  }

  #commit(): void {
    if (this.#options.incarnation.stopped) return;
    for (const { end, segments } of this.#groups.splice(0, committedCount(this.#groups))) {
      assert(end !== undefined && segments.length > 0, 'a committed group has ended and has a segment');
      const { epoch, number } = end.point;
      this.#committed = { epoch, number };
      this.#options.committed({ ...end, segments });
    }
  }
}

export type { InflightGroup };
