/**
 * Becoming the owner again after `fenced` (or a refusal). The rule is that of every start: the bucket's groups behind
 * this directory's head must be its own, found again in its log; then nothing is lost on either side, and a new epoch
 * fences whoever was there. Anything else is refused (P9), and this file says what would be lost on which side.
 */
import { GatewayError } from '../base/errors.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { LogCursor } from '../ports/replication.js';
import { chainAt, emptyChain } from './chain.js';
import { walkChain } from './chain-walk.js';
import { GroupCollector } from './group-collector.js';
import type { LogSource } from './group-collector.js';
import { compareGroup } from './group-compare.js';
import type { LocalHead } from './ownership.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';

export interface DivergenceOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly request: StoreRequest;
  readonly createdSizeBytes: number;
  readonly source: LogSource;
  readonly checksums: Checksums;
  /** Where the log goes on behind the head. */
  readonly cursor: LogCursor;
}

export interface Divergence {
  /** The last point that both sides have. */
  readonly common: ChainPoint;
  /** Where the bucket ends. */
  readonly end: ChainPoint;
  /** Whether the log has writes behind the common point, and up to where. */
  readonly localLsn: number | undefined;
}

/** What each side has that the other lacks; undefined: the head itself, or what follows it, is not in the bucket. Reads only. */
export async function findDivergence(local: LocalHead, options: DivergenceOptions): Promise<Divergence | undefined> {
  const { store, sealer, request, source, checksums } = options;
  let { cursor } = options;
  let common = chainOrigin;
  if (local.number > 0) {
    const head = await readSegmentHead(store, sealer, local, request);
    if (head.kind !== 'segment') return undefined;
    common = { ...head.key, link: head.link, lsn: head.index.lastLsn, wallMs: head.index.wallMs };
  }
  let parted = false;
  const { chain, gap } = await walkChain(local.number === 0 ? emptyChain : chainAt(common, undefined), {
    ...options,
    knownEpochs: [],
    visit: async ({ point, segments }) => {
      parted ||= point.lsn > local.durableLsn;
      if (parted) return;
      const compared = await compareGroup({ source, checksums, cursor, segments });
      if (!compared.same) parted = true;
      else {
        cursor = compared.cursor;
        common = point;
      }
    },
  });
  // What this directory goes on from was deleted since: nothing can be compared.
  if (gap !== undefined && chain.lastGroup.number === local.number) return undefined;
  const left = new GroupCollector({ cursor, blocksMax: Infinity });
  await left.collect(source, local.durableLsn);
  return { common, end: chain.lastGroup, localLsn: left.empty ? undefined : left.lastLsn };
}

/** The refusal of a take-over, with what would be lost. */
export function divergenceError(
  refusal: GatewayError,
  { common, end, localLsn }: Divergence,
  name: string,
): GatewayError {
  const remote = `the bucket has ${end.lsn - common.lsn} LSNs until ${new Date(end.wallMs).toISOString()} that this directory lacks`;
  const restore = `move the directory away, then keepgate restore ${name} --from URL --full --take-over`;
  const text =
    localLsn === undefined
      ? `${remote}, and lacks none of its own: nothing is lost by taking the bucket’s side: ${restore}`
      : `both went on from LSN ${common.lsn}: ${remote}, this directory has ${localLsn - common.lsn} LSNs that the bucket lacks. Nothing was overwritten. Copy out what is needed here (it goes on being served), then ${restore}`;
  return new GatewayError(refusal.code, `not taken over: ${text}`, { cause: refusal });
}
