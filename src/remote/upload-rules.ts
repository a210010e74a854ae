/**
 * The rules of an epoch's uploads, as pure functions (P2, P7): whose object lies at a key, what it means when it is not
 * one's own, and which groups are committed. upload.ts and upload-pipeline.ts do the I/O around them;
 * test/sim/ownership-steps.ts explores them together with ownership.ts.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { SegmentKey } from './name.js';
import type { ClearHeader, ObjectKind } from './seal-header.js';
import type { Fence } from './segment-fence.js';

export type PutOutcome =
  /** `stored`: by this very request, which is over. */
  | { readonly outcome: 'mine'; readonly stored?: true }
  /** Another object is there; `kind` is what its clear header claims. */
  | { readonly outcome: 'other'; readonly kind: ObjectKind };

/** Replies get lost and requests arrive twice: one's own object is recognised by its salt, never by guessing. */
export function outcomeOf(found: Pick<ClearHeader, 'salt' | 'kind'>, own: Pick<ClearHeader, 'salt'>): PutOutcome {
  return equalBytes(found.salt, own.salt) ? { outcome: 'mine' } : { outcome: 'other', kind: found.kind };
}

/** What ends an owner whose PUT at `key` met another object, which was authenticated. */
export function conflictOf(
  key: SegmentKey,
  found: { readonly kind: 'fence'; readonly fence: Pick<Fence, 'successorEpoch'> } | { readonly kind: string },
): GatewayError {
  if ('fence' in found) {
    const { successorEpoch } = found.fence;
    return new GatewayError('fenced', `epoch ${key.epoch} was ended by the owner of epoch ${successorEpoch}`, {
      context: { epoch: key.epoch, successor: successorEpoch },
    });
  }
  return new GatewayError(
    'remote-forked',
    `another writer’s segment lies at ${key.epoch}-${key.number}, in an epoch that this gateway claimed`,
  );
}

/**
 * How many groups, from the oldest on, are committed: sent to their end, with every key acknowledged. A later group
 * whose segments arrive first waits, because a reader stops at the first absent key.
 */
export function committedCount(groups: readonly { readonly ended: boolean; readonly pending: number }[]): number {
  const waiting = groups.findIndex(({ ended, pending }) => !ended || pending > 0);
  return waiting < 0 ? groups.length : waiting;
}
