/**
 * Sends a round (engine/rounds.ts): staged groups of one segment each, as there is room, then the group that applies them.
 * Nothing of it is held but what is on its way: a round that takes days costs no more memory than one of a minute.
 */
import type { BlockNumber } from '../base/units.js';
import type { LogCursor, RoundStart, StagedProgress } from '../ports/replication.js';
import type { GroupFrame, KeyedSegment } from './group-sealer.js';
import { RoundSealer } from './round-sealer.js';
import type { RoundSealerOptions } from './round-sealer.js';
import type { SegmentIndex } from './segment-index.js';
import type { ChainPoint } from './segment-point.js';
import type { UploadPipeline } from './upload-pipeline.js';

export interface RoundUploadOptions extends Omit<RoundSealerOptions, 'round' | 'read'> {
  readonly start: RoundStart;
  readonly read: RoundSealerOptions['read'];
  /** Where to go on; 0: nothing of it is staged. */
  readonly from: BlockNumber;
  readonly pipeline: UploadPipeline;
  /** Throws when this life is over. */
  readonly check: () => void;
  /** What a group without effect, or one that brings the volume to the round's moment, says about itself. */
  readonly frame: (effect: 'none' | 'moment') => GroupFrame;
  /** A segment goes on its way, and is the end of the chain from here on. */
  readonly sending: (
    point: Omit<ChainPoint, 'epoch'>,
    segment: KeyedSegment,
    staged: StagedProgress | undefined,
  ) => void;
}

/** How far a segment brings its round, if it is a staged one: blocks go up in ascending order, each once. */
export function progressOf({ role, round = 0, extents, zeros }: SegmentIndex): StagedProgress | undefined {
  if (role !== 'staged') return undefined;
  let next = 0;
  for (let at = 0; at < extents.count; at++)
    next = Math.max(next, (extents.firstBlock[at] ?? 0) + (extents.blockCount[at] ?? 0));
  for (let at = 0; at < zeros.count; at++)
    next = Math.max(next, (zeros.firstBlock[at] ?? 0) + (zeros.blockCount[at] ?? 0));
  return { round, next };
}

/** How many segments it staged; undefined: the round was given up. What was sent is committed in its turn. */
export async function uploadRound(options: RoundUploadOptions): Promise<number | undefined> {
  const { start, from, pipeline, check, frame } = options;
  const { round, cursor } = start;
  const sealer = new RoundSealer({ ...options, round }, from);
  let staged = 0;
  for (;;) {
    const filled = await sealer.fill();
    check();
    if (filled === 'given up') return undefined;
    if (filled === 'nothing left') break;
    await pipeline.reserve();
    const segment = sealer.staged(frame('none'));
    send(segment, options);
    staged++;
  }
  await pipeline.reserve();
  const segment = sealer.apply(frame('moment'), staged > 0 || from > 0);
  send(segment, options, cursor);
  return staged;
}

/** `cursor`: the log behind the round's moment; undefined: it has nothing of the log. */
function send(segment: KeyedSegment, { pipeline, sending }: RoundUploadOptions, cursor?: LogCursor): void {
  const { index, link, key } = segment;
  const { lastLsn, wallMs, sizeBytes } = index;
  const staged = progressOf(index);
  sending({ number: key.number, link, lsn: lastLsn, wallMs }, segment, staged);
  const group = pipeline.begin();
  pipeline.send(group, segment);
  const point = { ...key, link, lsn: lastLsn, wallMs };
  pipeline.finish(group, { cursor, sizeBytes, lastLsn, point, ...(staged === undefined ? {} : { staged }) });
}
