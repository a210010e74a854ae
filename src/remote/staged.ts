/**
 * A round (engine/rounds.ts) in the bucket: its blocks go up as *staged* groups, complete and without effect; the *apply*
 * group of the same round makes all of them take effect at once, in the order of their numbers, and then the bucket equals
 * one moment of the volume exactly. So a round takes as long as it takes, over any number of epochs, and neither its owner
 * nor a reader ever holds more of it than a segment's index.
 *
 *   staged 7, staged 7, fence, staged 7, apply 7      segments of three groups take effect
 *   staged 7, staged 7, staged 8, …, apply 8          those of round 7 are void
 *   staged 7, data                                    and so they are here
 *
 * Invariant: between the first staged segment that waits and the end of the history stand only staged segments of the same
 * round. Nothing is compacted meanwhile: nothing dies either.
 */
import { GatewayError } from '../base/errors.js';
import { keyText } from './chain.js';
import type { SegmentKey } from './name.js';
import type { SegmentIndex } from './segment-index.js';

/** Staged segments that wait for their apply group. They count as live. */
export interface StagedRound {
  readonly round: number;
  /** The first that waits; all behind it, to the end of the history, do so too. */
  readonly firstNumber: number;
  readonly blocks: number;
}

export interface StagedChange {
  /** What waits behind the segment. */
  readonly waits: StagedRound | undefined;
  /** The first of those that waited before it, and what becomes of them. */
  readonly ended: { readonly firstNumber: number; readonly as: 'applied' | 'void' } | undefined;
}

/** What the next segment of a valid history does to what waits. remote-forked: it cannot be the next. */
export function afterSegment(
  waits: StagedRound | undefined,
  key: SegmentKey,
  { role, round = 0, payloadBlocks }: Pick<SegmentIndex, 'role' | 'round' | 'payloadBlocks'>,
): StagedChange {
  const ended = (as: 'applied' | 'void'): StagedChange['ended'] =>
    waits === undefined ? undefined : { firstNumber: waits.firstNumber, as };
  switch (role) {
    case 'staged':
      if (waits?.round === round)
        return { waits: { ...waits, blocks: waits.blocks + payloadBlocks }, ended: undefined };
      return { waits: { round, firstNumber: key.number, blocks: payloadBlocks }, ended: ended('void') };
    case 'apply':
      if (waits?.round !== round) throw impossible(key, 'applies a round of which nothing is staged');
      return { waits: undefined, ended: ended('applied') };
    case 'data':
      return { waits: undefined, ended: ended('void') };
    case 'compaction':
      if (waits !== undefined) throw impossible(key, 'compacts in the middle of a round');
      return { waits: undefined, ended: undefined };
  }
}

function impossible(key: SegmentKey, what: string): GatewayError {
  return new GatewayError('remote-forked', `segment ${keyText(key)} ${what}`, { context: { ...key } });
}
