/**
 * Claims an epoch for a directory (ownership.ts), and says from where it goes on: what an earlier life sent and did not live
 * to record is compared with the log; while tracking the log is gone, and what was sent decides (sent-groups.ts).
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { LogCursor, StagedProgress } from '../ports/replication.js';
import type { LogSource } from './group-collector.js';
import { compareGroup } from './group-compare.js';
import type { LocalHead } from './ownership.js';
import { takeOwnership } from './ownership-driver.js';
import type { OwnershipEnd, OwnershipOptions } from './ownership-driver.js';
import { progressOf } from './round-upload.js';
import type { SegmentIndex } from './segment-index.js';
import type { SentGroups } from './sent-groups.js';

export interface EpochClaimOptions extends Omit<OwnershipOptions, 'compare'> {
  readonly source: LogSource;
  readonly checksums: Checksums;
  readonly sent: SentGroups;
  /** Where the log goes on behind the local head. */
  readonly cursor: LogCursor;
  /** The newest segment of the history that is known. */
  readonly head: SegmentIndex | undefined;
  /** Whether the log does not hold what the bucket lacks; asked when it matters. */
  readonly isTracking: () => boolean;
}

export interface EpochClaim {
  readonly end: Extract<OwnershipEnd, { phase: 'owned' }>;
  readonly cursor: LogCursor;
  readonly staged: StagedProgress | undefined;
}

/** @throws GatewayError where the claim is refused */
export async function claimEpoch(local: LocalHead, options: EpochClaimOptions): Promise<EpochClaim> {
  const { source, checksums, sent, head, isTracking } = options;
  let { cursor } = options;
  let staged = head && progressOf(head);
  const end = await takeOwnership(local, {
    ...options,
    compare: async (segments) => {
      const last = segments.at(-1);
      assert(last !== undefined, 'a group that is compared has segments');
      staged = progressOf(last.index);
      // The log is gone, and with it everything else that could tell.
      if (isTracking()) return last.index.role === 'compaction' || sent.has({ ...last.key, link: last.link });
      const compared = await compareGroup({ source, checksums, cursor, segments });
      cursor = compared.cursor;
      return compared.same;
    },
  });
  if (end.phase === 'refused') throw new GatewayError(end.code, end.reason);
  return { end, cursor, staged };
}
