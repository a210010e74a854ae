/**
 * An epoch that this life owns: where its chain ends, and what adds to it. Only the replicator's loop adds, one group after
 * the other: `tail` is the end of what was sealed, and what the next segment hangs on.
 */
import type { Lsn } from '../base/units.js';
import type { StagedProgress } from '../ports/replication.js';
import type { GroupFrame, GroupSealer, KeyedSegment } from './group-sealer.js';
import type { Housekeeping } from './housekeeping.js';
import type { ChainPoint } from './segment-point.js';
import type { SegmentFacts } from './segment-index.js';
import type { CommittedGroup, UploadPipeline } from './upload-pipeline.js';

/** What was sealed last, or what the epoch begins with. */
export interface EpochEnd {
  tail: Pick<ChainPoint, 'number' | 'link' | 'lsn' | 'wallMs'>;
  sizeBytes: number;
  /** What the last segment of the history says of a round. */
  staged: StagedProgress | undefined;
  /** Goes into the first segment where the store cannot fence. */
  takeover: SegmentFacts['takeover'] | undefined;
}

export interface EpochParts {
  readonly epoch: number;
  readonly pipeline: UploadPipeline;
  readonly sealer: GroupSealer;
  readonly housekeeping: Housekeeping;
}

export class OwnedEpoch implements EpochParts, EpochEnd {
  readonly epoch: number;
  readonly pipeline: UploadPipeline;
  readonly sealer: GroupSealer;
  readonly housekeeping: Housekeeping;
  tail: EpochEnd['tail'];
  sizeBytes: number;
  staged: StagedProgress | undefined;
  takeover: SegmentFacts['takeover'] | undefined;

  constructor(parts: EpochParts, from: Readonly<EpochEnd>) {
    this.epoch = parts.epoch;
    this.pipeline = parts.pipeline;
    this.sealer = parts.sealer;
    this.housekeeping = parts.housekeeping;
    this.tail = from.tail;
    this.sizeBytes = from.sizeBytes;
    this.staged = from.staged;
    this.takeover = from.takeover;
  }

  /** What all segments of the next group say. */
  frame(facts: { readonly lastLsn: Lsn; readonly wallMs: number; readonly sizeBytes: number }): GroupFrame {
    const { takeover, tail, epoch, pipeline } = this;
    this.takeover = undefined;
    return {
      first: { epoch, number: tail.number + 1 },
      previousLink: tail.link,
      facts: { firstLsn: tail.lsn + 1, ...facts },
      takeover,
      committed: () => pipeline.committed,
    };
  }

  /**
   * Sends a group, segment after segment as there is room; it is committed once all of them are acknowledged. `check` throws
   * once this life is over.
   */
  async upload(
    segments: AsyncGenerator<KeyedSegment, void, undefined>,
    end: Pick<CommittedGroup, 'sizeBytes' | 'cursor' | 'lastLsn'> & { readonly wallMs: number },
    check: () => void,
  ): Promise<void> {
    const { pipeline, epoch } = this;
    const { lastLsn, wallMs } = end;
    const group = pipeline.begin();
    for (let ended = false; !ended;) {
      await pipeline.reserve();
      const { value: segment } = await segments.next();
      check();
      if (segment === undefined) break;
      this.housekeeping.sending(segment.key.number);
      pipeline.send(group, segment);
      this.tail = { number: segment.key.number, link: segment.link, lsn: lastLsn, wallMs };
      ended = segment.index.groupEnd;
    }
    this.sizeBytes = end.sizeBytes;
    const { number, link } = this.tail;
    pipeline.finish(group, { ...end, point: { epoch, number, link, lsn: lastLsn, wallMs } });
  }
}
