/**
 * How a life of the replicator comes to own the remote volume, and what then works for it: what seals groups and uploads them,
 * and what looks after checkpoints, compaction and deletion.
 */
import type { ImageCopy } from '../engine/image-copy.js';
import type { LogCursor, DurableState } from '../ports/replication.js';
import type { BookKeeper } from './book-keeper.js';
import { claimEpoch } from './epoch-claim.js';
import { GroupSealer } from './group-sealer.js';
import { Housekeeping } from './housekeeping.js';
import { OwnedEpoch } from './owned-epoch.js';
import type { RemoteBook } from './remote-map-book.js';
import type { TalliedStore } from './remote-tally.js';
import { localHeadOf } from './replicator-attach.js';
import type { AttachedRemote } from './replicator-attach.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ReplicatorProgress } from './replicator-progress.js';
import type { StoreRetry } from './replicator-retry.js';
import type { ReplicatorPorts } from './replicator-options.js';
import type { ReplicationConfig } from './replication-messages.js';
import type { SealedBuffers } from './sealed-buffers.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import type { SentGroups } from './sent-groups.js';
import { UploadPipeline } from './upload-pipeline.js';
import type { CommittedGroup } from './upload-pipeline.js';

export interface EpochOptions extends Omit<ReplicatorPorts, 'store'> {
  readonly config: ReplicationConfig;
  readonly store: TalliedStore;
  readonly retry: StoreRetry;
  readonly incarnation: Incarnation;
  readonly progress: ReplicatorProgress;
  readonly durable: () => DurableState;
  readonly sent: SentGroups;
  readonly keeper: BookKeeper;
  readonly image: ImageCopy;
  readonly buffers: SealedBuffers;
  /** Segments that are uploaded at a time, and payload blocks of one. */
  readonly slots: number;
  readonly segmentBlocks: number;
  /** Highest segment number that was sent. */
  readonly sentThrough: () => number;
  /** The bucket has what an earlier life sent and did not live to record. */
  readonly found: (point: ChainPoint, cursor: LogCursor) => void;
  readonly committed: (group: CommittedGroup) => void;
  /** What the bucket holds has changed; with the book where that is known. */
  readonly counted: (book: RemoteBook | undefined) => void;
  /** See Deletion. */
  readonly exclusive: (bytes: ReadonlyMap<number, number>) => void;
  readonly wake: () => void;
  readonly failed: (error: unknown) => void;
}

/** @throws GatewayError where the claim is refused */
export async function takeEpoch(remote: AttachedRemote, options: EpochOptions): Promise<OwnedEpoch> {
  const { source, checksums, clock, config, log, progress, sent, segmentBlocks, buffers } = options;
  const { sealer, fencing } = remote;
  const { end, cursor, staged } = await claimEpoch(localHeadOf(progress.state, options.durable().durableLsn), {
    ...options,
    sealer,
    fencing,
    owner: config.owner,
    cursor: progress.state.cursor,
    head: remote.head?.index,
    isTracking: () => progress.tracking,
  });
  log.info(`took epoch ${end.epoch} of ${config.name}, continuing from segment ${end.chain.lastGroup.number}`);
  const from = end.chain.lastGroup;
  if (from !== chainOrigin && from.number > progress.state.segmentNumber) options.found(from, cursor);
  // Never before the segment that it is read from.
  if (staged !== undefined) progress.goesOn(staged);
  const housekeeping = newHousekeeping(remote, end.epoch, options);
  housekeeping.begin();
  const parts = {
    epoch: end.epoch,
    housekeeping,
    pipeline: new UploadPipeline({
      ...options,
      sealer,
      fencing,
      sent,
      from,
      committed: (group) => {
        options.committed(group);
        housekeeping.committed(group);
      },
    }),
    sealer: new GroupSealer({ source, checksums, sealer, segmentBlocks, buffers, image: options.image, log }),
  };
  return new OwnedEpoch(parts, {
    tail: from,
    sizeBytes: end.chain.sizeBytes ?? remote.volume.sizeBytes,
    staged,
    takeover: fencing === 'none' && end.fence !== undefined ? { ...end.fence, wallMs: clock.wallMs() } : undefined,
  });
}

function newHousekeeping(remote: AttachedRemote, epoch: number, options: EpochOptions): Housekeeping {
  const { config, progress, durable, counted } = options;
  return new Housekeeping({
    ...options,
    ...remote,
    epoch,
    createdSizeBytes: remote.volume.sizeBytes,
    compaction: config.compaction === true && !remote.deletesForbidden,
    ...(config.graceMs === undefined ? {} : { graceMs: config.graceMs }),
    ...(config.shardRewriteBlocks === undefined ? {} : { shardRewriteBlocks: config.shardRewriteBlocks }),
    sent: options.sentThrough,
    recorded: () => durable().segmentRecorded,
    deleted: () => counted(undefined),
    applied: (segmentNumber) => progress.applied(segmentNumber),
  });
}
