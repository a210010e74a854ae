/**
 * What the replicator does for compaction between its own groups, since only its loop may read the log and add to the
 * chain: it lends the compactor its log reader, and sends what is ready as a group of its own.
 */
import type { LocalCopy } from './pending-log.js';
import type { Compactor } from './compactor.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ChainPoint } from './segment-point.js';
import type { UploadPipeline } from './upload-pipeline.js';

/** Of an epoch that is owned. */
export interface CompactionTurn {
  readonly epoch: number;
  readonly compactor: Compactor;
  readonly pipeline: UploadPipeline;
  readonly incarnation: Incarnation;
  readonly local: LocalCopy;
  /** End of what was sealed, asked when a group is begun. */
  readonly tail: () => {
    readonly point: Pick<ChainPoint, 'number' | 'link' | 'lsn' | 'wallMs'>;
    readonly sizeBytes: number;
  };
  /** A segment of so many bytes goes on its way, and is the end of the chain from here on. */
  readonly sending: (point: ChainPoint, lengthBytes: number) => void;
}

/** Goes on with compaction; false: there is nothing to do for it now. */
export async function takeCompactionTurn(turn: CompactionTurn): Promise<boolean> {
  const { epoch, compactor, pipeline, incarnation, local } = turn;
  if (compactor.due === undefined) return false;
  if (compactor.due === 'local') {
    await compactor.fillLocal(local);
    incarnation.check();
    return true;
  }
  await pipeline.reserve();
  const { point: before, sizeBytes } = turn.tail();
  const key = { epoch, number: before.number + 1 };
  const segment = compactor.seal(key, {
    role: 'compaction',
    groupId: key.number,
    groupFirstNumber: key.number,
    groupEnd: true,
    firstLsn: before.lsn + 1,
    lastLsn: before.lsn,
    wallMs: before.wallMs,
    sizeBytes,
    previousLink: before.link,
    committed: pipeline.committed,
  });
  const point = { ...before, ...key, link: segment.link };
  turn.sending(point, segment.bytes.length);
  const group = pipeline.begin();
  pipeline.send(group, segment);
  pipeline.finish(group, { point, sizeBytes, cursor: undefined, lastLsn: before.lsn });
  return true;
}
