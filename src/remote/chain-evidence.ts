/**
 * What an object behind the end of a walk proves, as a pure function (P2): loss is told from what was in flight.
 *
 *   in flight   segments behind the first absent key whose owner did not know that key to be committed: void
 *   loss        an object that says that more was committed than the walk reached
 *
 * Evidence holds for the moment in which the end of the walk was seen absent, not before: a living owner commits the
 * missing key and then says so. chain-walk.ts looks at the end again before it believes any.
 */
import { equalBytes } from '../base/bytes.js';
import { keyText, samePoint } from './chain.js';
import type { ChainState } from './chain.js';
import type { SegmentKey } from './name.js';
import type { Fence } from './segment-fence.js';
import type { SegmentFacts } from './segment-index.js';

export interface Evidence {
  /** What proves that something was lost. */
  readonly gap?: string;
  /** Where no fence can hold: the next epoch's own word for it. */
  readonly takeover?: Fence;
}

/** An object at a segment's key that the walk did not meet. */
export type FoundBehind =
  | { readonly kind: 'fence'; readonly key: SegmentKey; readonly fence: Fence }
  | { readonly kind: 'segment'; readonly key: SegmentKey; readonly index: SegmentFacts };

/** `chain`: the end of the walk. */
export function evidenceOf(chain: ChainState, found: FoundBehind): Evidence {
  const { lastGroup, nextKey } = chain;
  const missing = `segment ${keyText(nextKey)} is missing`;
  if (found.kind === 'fence') {
    const later = found.fence.lastGroup.number > lastGroup.number;
    return later ? { gap: `${missing}: the fence at ${keyText(found.key)} knows it` } : {};
  }
  const { committed, takeover, previousLink } = found.index;
  if (takeover !== undefined && samePoint(takeover.lastGroup, lastGroup)) return { takeover };
  if (committed.number > lastGroup.number) {
    return { gap: `${missing}: the owner of ${keyText(found.key)} knew ${keyText(committed)} to be committed` };
  }
  const continues = found.key.epoch !== nextKey.epoch && equalBytes(previousLink, lastGroup.link);
  return continues ? { gap: `a fence is missing: ${keyText(found.key)} continues from ${keyText(lastGroup)}` } : {};
}
