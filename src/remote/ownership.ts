/**
 * Taking ownership of a remote volume, as a pure state machine (P7): `begin` and `next` compute states, `actionOf` says
 * what I/O a state asks for, and ownership-driver.ts performs it. Nothing here knows time, stores or bytes, so that
 * every interleaving of several owners can be enumerated.
 *
 *   claiming      PUT epochs/n, If-None-Match; taken: the next n
 *   checkingHead  the segment that the local directory believes to be the newest must be there, with its link
 *   walking       read key after key from the local head on; a fence leads to its successor
 *   lookingAhead  a key is absent at the end of a history, or because its segment was dead and was deleted: then there is a
 *                 checkpoint behind it, for good (deletion.ts). Asked before the fence is put, and once more behind it:
 *                 what a slow incarnation found absent long ago may have been written and deleted since
 *   comparing     a complete group behind the local head must be what the local log says: this directory sent it in an
 *                 earlier life. Anything else was written by a directory that was rolled back, cloned or forked
 *   fencing       PUT a fence at the first absent key; refused: somebody was there first, walk on
 *   headMissing   the local head is gone: was it deleted, or lost?
 *   owned         upload as epoch n behind the last complete group
 *   refused       final; nothing was overwritten
 *
 * Invariants: an epoch is claimed by one incarnation only. A fence is put only at a key that was seen absent, after
 * every group before it was found to be this directory's own, so a refused incarnation fences nobody (at most it leaves
 * a fence where a segment was deleted, which no walk from a checkpoint meets). An epoch
 * is walked without fencing only by the incarnation that claimed it; when that one meets a fence in it, it is fenced.
 */
import { assert } from '../base/assert.js';
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { ErrorCode } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import { chainAt, emptyChain, extend, FIRST_EPOCH, followFence, keyText } from './chain.js';
import type { ChainState } from './chain.js';
import type { SegmentKey } from './name.js';
import type { Fence } from './segment-fence.js';
import type { SegmentFacts } from './segment-index.js';
import type { ChainPoint } from './segment-point.js';

/** What the local directory knows of its remote history. */
export interface LocalHead extends SegmentKey {
  /** Number 0: nothing was committed yet as far as the directory knows. */
  readonly link: Uint8Array;
  readonly replicatedLsn: Lsn;
  readonly durableLsn: Lsn;
}

interface Claimed {
  readonly epoch: number;
  readonly local: LocalHead;
}

export type OwnershipState =
  | ({ readonly phase: 'claiming' } & Claimed)
  | ({ readonly phase: 'checkingHead' } & Claimed)
  | ({ readonly phase: 'headMissing' } & Claimed)
  /** `ahead`: segment number of the newest checkpoint that was seen, 0: none. */
  | ({ readonly phase: 'walking'; readonly chain: ChainState; readonly ahead: number } & Claimed)
  | ({ readonly phase: 'lookingAhead'; readonly chain: ChainState; readonly fenced: boolean } & Claimed)
  | ({ readonly phase: 'comparing'; readonly chain: ChainState; readonly ahead: number } & Claimed)
  | ({ readonly phase: 'fencing'; readonly chain: ChainState } & Claimed)
  | {
      readonly phase: 'owned';
      readonly epoch: number;
      readonly chain: ChainState;
      /** The fence that led here; undefined when there was no epoch before. */
      readonly fence: Pick<Fence, 'successorEpoch' | 'lastGroup'> | undefined;
    }
  | { readonly phase: 'refused'; readonly code: ErrorCode; readonly reason: string };

export type OwnershipEvent =
  | { readonly type: 'claim'; readonly outcome: 'mine' | 'taken' }
  | { readonly type: 'absent' }
  | { readonly type: 'segment'; readonly facts: SegmentFacts; readonly link: Uint8Array }
  | { readonly type: 'fence'; readonly fence: Fence }
  | { readonly type: 'compared'; readonly same: boolean }
  /** Segment number of a checkpoint at or behind what was asked for, 0: there is none. */
  | { readonly type: 'ahead'; readonly number: number }
  | { readonly type: 'fencePut'; readonly outcome: 'stored' | 'exists' };

export type OwnershipAction =
  | { readonly do: 'claim'; readonly epoch: number }
  | { readonly do: 'read'; readonly key: SegmentKey }
  /** Compare the group that ends at `group` with the local log. */
  | { readonly do: 'compare'; readonly group: ChainPoint }
  /** Find a sound checkpoint of a recovery point at or behind this segment number. */
  | { readonly do: 'lookAhead'; readonly number: number }
  | { readonly do: 'fence'; readonly key: SegmentKey; readonly successorEpoch: number; readonly lastGroup: ChainPoint }
  | { readonly do: 'nothing' };

/** `epoch`: the lowest that is not claimed, as far as was seen. */
export function begin(local: LocalHead, epoch: number): OwnershipState {
  return { phase: 'claiming', epoch, local };
}

export function actionOf(state: OwnershipState): OwnershipAction {
  switch (state.phase) {
    case 'claiming':
      return { do: 'claim', epoch: state.epoch };
    case 'checkingHead':
      return { do: 'read', key: { epoch: state.local.epoch, number: state.local.number } };
    case 'headMissing':
      return { do: 'lookAhead', number: state.local.number };
    case 'walking':
      return { do: 'read', key: state.chain.nextKey };
    case 'lookingAhead':
      return { do: 'lookAhead', number: state.chain.nextKey.number };
    case 'comparing':
      return { do: 'compare', group: state.chain.lastGroup };
    case 'fencing':
      return {
        do: 'fence',
        key: state.chain.nextKey,
        successorEpoch: state.epoch,
        lastGroup: state.chain.lastGroup,
      };
    case 'owned':
    case 'refused':
      return { do: 'nothing' };
  }
}

export function next(state: OwnershipState, event: OwnershipEvent): OwnershipState {
  switch (state.phase) {
    case 'claiming':
      assert(event.type === 'claim', 'a claim is answered');
      if (event.outcome === 'taken') return { ...state, epoch: state.epoch + 1 };
      return afterClaim(state);
    case 'checkingHead':
      return checkHead(state, event);
    case 'headMissing':
      assert(event.type === 'ahead', 'a look ahead is answered');
      // A checkpoint’s own recovery point is never deleted.
      return event.number > state.local.number ? deletedSince(state.local, event.number) : missingHead(state.local);
    case 'walking':
      return walk(state, event);
    case 'lookingAhead':
      assert(event.type === 'ahead', 'a look ahead is answered');
      return lookedAhead(state, event.number);
    case 'comparing':
      assert(event.type === 'compared', 'a comparison is answered');
      if (event.same) return { ...state, phase: 'walking' };
      return refused(
        'remote-forked',
        `segment ${keyText(state.chain.lastGroup)} in the bucket is not what this directory’s log holds: the directory was rolled back, cloned or forked`,
      );
    case 'fencing':
      assert(event.type === 'fencePut', 'a fence is answered');
      if (event.outcome === 'exists') return { ...state, phase: 'walking', ahead: 0 };
      return { ...state, phase: 'lookingAhead', fenced: true };
    case 'owned':
    case 'refused':
      throw new GatewayError('invalid-request', `ownership is ${state.phase}: nothing can follow`);
  }
}

function afterClaim(state: Claimed): OwnershipState {
  const { epoch, local } = state;
  if (local.number > 0) return { phase: 'checkingHead', epoch, local };
  return { phase: 'walking', epoch, local, chain: emptyChain, ahead: 0 };
}

function checkHead(state: Claimed, event: OwnershipEvent): OwnershipState {
  const { epoch, local } = state;
  if (event.type === 'absent') return { phase: 'headMissing', epoch, local };
  const problem = headProblem(local, event);
  if (problem !== undefined) return problem;
  assert(event.type === 'segment', 'a sound head is a segment');
  const { facts, link } = event;
  const point = { epoch: local.epoch, number: local.number, link, lsn: facts.lastLsn, wallMs: facts.wallMs };
  return { phase: 'walking', epoch, local, chain: chainAt(point, facts.sizeBytes), ahead: 0 };
}

/** What is wrong with what lies where the local head should be; undefined: nothing. */
export function headProblem(
  local: LocalHead,
  event: OwnershipEvent,
): (OwnershipState & { readonly phase: 'refused' }) | undefined {
  if (event.type === 'absent') return missingHead(local);
  const name = keyText(local);
  const sound =
    event.type === 'segment' &&
    equalBytes(event.link, local.link) &&
    event.facts.groupEnd &&
    event.facts.lastLsn <= local.replicatedLsn;
  return sound
    ? undefined
    : refused('remote-forked', `segment ${name} in the bucket is not the one this directory sent`);
}

function missingHead(local: LocalHead): OwnershipState & { readonly phase: 'refused' } {
  const name = keyText(local);
  return refused('remote-vanished', `segment ${name}, the newest that was replicated, is not in the bucket any more`);
}

/** Only what all of this directory's lives have recorded is deleted: another directory's owner did it. */
export function deletedSince(key: SegmentKey, ahead: number): OwnershipState & { readonly phase: 'refused' } {
  return refused(
    'remote-ahead',
    `the bucket goes on to segment ${ahead}, and segment ${keyText(key)}, which this directory needs, was deleted since: the directory was rolled back or cloned`,
  );
}

function lookedAhead(state: OwnershipState & { readonly phase: 'lookingAhead' }, ahead: number): OwnershipState {
  const { epoch, local, chain, fenced } = state;
  const isEnd = ahead < chain.nextKey.number;
  if (fenced) {
    const following = followFence(chain, fenceOf(state));
    // Either the fence lies where a segment was deleted, or somebody was quick enough to end this epoch already.
    return isEnd ? owned(epoch, following) : { phase: 'walking', epoch, local, chain: following, ahead };
  }
  // It may have been written since it was seen absent: only what is absent still was deleted.
  return isEnd ? { phase: 'fencing', epoch, local, chain } : { phase: 'walking', epoch, local, chain, ahead };
}

function walk(state: OwnershipState & { readonly phase: 'walking' }, event: OwnershipEvent): OwnershipState {
  const { epoch, local, chain } = state;
  try {
    switch (event.type) {
      case 'absent':
        // Nobody fences an epoch from inside: reaching the own epoch's empty end means to own it.
        if (state.ahead >= chain.nextKey.number) return deletedSince(chain.nextKey, state.ahead);
        if (chain.nextKey.epoch === epoch) return owned(epoch, chain);
        return { phase: 'lookingAhead', epoch, local, chain, fenced: false };
      case 'fence':
        // Going on would lead to fencing the successor and then back here, in a circle.
        if (chain.nextKey.epoch === epoch) {
          return refused('fenced', `epoch ${epoch} was ended by the owner of epoch ${event.fence.successorEpoch}`);
        }
        return { ...state, chain: followFence(chain, event.fence) };
      case 'segment':
        return extended(state, extend(chain, event.facts, event.link));
      case 'claim':
      case 'compared':
      case 'ahead':
      case 'fencePut':
        throw new GatewayError('invalid-request', `a walk is not answered with ${event.type}`);
    }
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'remote-forked') return refused(error.code, error.message);
    throw error;
  }
}

function extended(state: OwnershipState & { readonly phase: 'walking' }, chain: ChainState): OwnershipState {
  const { local, epoch } = state;
  // Only its claimer uploads into an epoch, and it does not before it owns it.
  if (chain.nextKey.epoch === epoch) {
    return refused('remote-forked', `epoch ${epoch} was claimed by this gateway, and another one wrote into it`);
  }
  if (chain.open !== undefined) return { ...state, chain };
  const { lsn } = chain.lastGroup;
  if (lsn > local.durableLsn) {
    return refused(
      'remote-ahead',
      `the bucket has this volume up to LSN ${lsn}, this directory up to ${local.durableLsn}: the directory was rolled back or cloned`,
    );
  }
  return { ...state, phase: 'comparing', chain };
}

function owned(epoch: number, chain: ChainState): OwnershipState {
  const fence = epoch === FIRST_EPOCH ? undefined : { successorEpoch: epoch, lastGroup: chain.lastGroup };
  return { phase: 'owned', epoch, chain, fence };
}

function fenceOf(state: { readonly epoch: number; readonly chain: ChainState }): Fence {
  return { successorEpoch: state.epoch, wallMs: 0, lastGroup: state.chain.lastGroup };
}

function refused(code: ErrorCode, reason: string): OwnershipState & { readonly phase: 'refused' } {
  return { phase: 'refused', code, reason };
}
