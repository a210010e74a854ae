/**
 * The rules of a volume's history, as a pure function: which segment may follow which. Everybody who reads segments in
 * order (taking ownership, restoring, verifying) feeds what lies at `nextKey` into `extend` or `followFence`.
 *
 *   origin -> 1-1 -> 1-2 -> fence at 1-3 naming epoch 4 and 1-2 -> 4-3 -> 4-4 -> ...
 *
 * - A segment carries the link of the one before it; numbers are consecutive; a group's LSN range begins where the last
 *   group's ended; that of a group without effect (compaction, staged) is empty; all segments of a group agree on the group.
 * - A history is valid up to its last complete group. Segments of an incomplete group have no effect.
 * - A fence names the last complete group before it, as everyone computes it, and the epoch that continues. What else
 *   the fenced epoch holds behind that group is void: the successor uses the numbers again.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { SegmentKey } from './name.js';
import type { Fence } from './segment-fence.js';
import { isWithoutEffect } from './segment-index.js';
import type { SegmentFacts } from './segment-index.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';

/** Epochs are claimed from here on, and the history begins in this one. */
export const FIRST_EPOCH = 1;

type GroupFacts = Pick<
  SegmentFacts,
  'role' | 'round' | 'groupId' | 'groupFirstNumber' | 'firstLsn' | 'lastLsn' | 'wallMs' | 'sizeBytes'
>;

export interface ChainState {
  /** What is to be read next. */
  readonly nextKey: SegmentKey;
  readonly previousLink: Uint8Array;
  readonly lastGroup: ChainPoint;
  /** Size of the volume after lastGroup; undefined where only the volume object knows. */
  readonly sizeBytes: number | undefined;
  /** The group that has begun and not ended. */
  readonly open: GroupFacts | undefined;
}

/** The history before its first segment. */
export const emptyChain: ChainState = {
  nextKey: { epoch: FIRST_EPOCH, number: 1 },
  previousLink: chainOrigin.link,
  lastGroup: chainOrigin,
  sizeBytes: undefined,
  open: undefined,
};

/** The history at a group's end that is known from elsewhere (a checkpoint, the superblock). */
export function chainAt(point: ChainPoint, sizeBytes: number | undefined): ChainState {
  if (point.epoch === 0) return { ...emptyChain, sizeBytes };
  return {
    nextKey: { epoch: point.epoch, number: point.number + 1 },
    previousLink: point.link,
    lastGroup: point,
    sizeBytes,
    open: undefined,
  };
}

/** The history with the segment at nextKey; remote-forked when it cannot follow. `link` is that segment's. */
export function extend(chain: ChainState, facts: SegmentFacts, link: Uint8Array): ChainState {
  const { nextKey, lastGroup, open } = chain;
  const problem = problemOf(chain, facts);
  if (problem !== undefined) {
    throw new GatewayError('remote-forked', `segment ${keyText(nextKey)} ${problem}`, { context: { ...nextKey } });
  }
  const following = { epoch: nextKey.epoch, number: nextKey.number + 1 };
  if (!facts.groupEnd) {
    return { nextKey: following, previousLink: link, lastGroup, sizeBytes: chain.sizeBytes, open: open ?? facts };
  }
  const point = { ...nextKey, link, lsn: facts.lastLsn, wallMs: facts.wallMs };
  return { nextKey: following, previousLink: link, lastGroup: point, sizeBytes: facts.sizeBytes, open: undefined };
}

/** The history behind a fence at nextKey; remote-forked when the fence is of another one. */
export function followFence(chain: ChainState, fence: Fence): ChainState {
  const { lastGroup } = chain;
  if (!samePoint(fence.lastGroup, lastGroup)) {
    const message = `the fence at ${keyText(chain.nextKey)} continues from ${keyText(fence.lastGroup)}, the last complete group ends at ${keyText(lastGroup)}`;
    throw new GatewayError('remote-forked', message, { context: { ...chain.nextKey } });
  }
  return {
    nextKey: { epoch: fence.successorEpoch, number: lastGroup.number + 1 },
    previousLink: lastGroup.link,
    lastGroup,
    sizeBytes: chain.sizeBytes,
    open: undefined,
  };
}

export function samePoint(left: ChainPoint, right: ChainPoint): boolean {
  return (
    left.epoch === right.epoch &&
    left.number === right.number &&
    left.lsn === right.lsn &&
    equalBytes(left.link, right.link)
  );
}

export function keyText(key: SegmentKey): string {
  return `${key.epoch}-${key.number}`;
}

function isRange({ role, firstLsn, lastLsn }: GroupFacts): boolean {
  return isWithoutEffect(role) ? lastLsn === firstLsn - 1 : lastLsn >= firstLsn;
}

function problemOf(chain: ChainState, facts: SegmentFacts): string | undefined {
  const { nextKey, lastGroup, open } = chain;
  if (!equalBytes(facts.previousLink, chain.previousLink)) return 'does not follow the segment before it';
  if (!isRange(facts)) return 'has no range of LSNs that a group of its kind may have';
  if (open === undefined) {
    if (facts.groupFirstNumber !== nextKey.number) return 'is in the middle of a group that did not begin';
    if (facts.firstLsn !== lastGroup.lsn + 1) return `begins at LSN ${facts.firstLsn} after ${lastGroup.lsn}`;
    return undefined;
  }
  const agrees =
    facts.role === open.role &&
    facts.round === open.round &&
    facts.groupId === open.groupId &&
    facts.groupFirstNumber === open.groupFirstNumber &&
    facts.firstLsn === open.firstLsn &&
    facts.lastLsn === open.lastLsn &&
    facts.wallMs === open.wallMs &&
    facts.sizeBytes === open.sizeBytes;
  return agrees ? undefined : 'disagrees with its group';
}
