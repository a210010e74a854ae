/**
 * Whether a group in the bucket is what the local log holds for the same LSNs: this directory sent it in an earlier
 * life. Compared by content (every block's sum, every zero, every size, every snapshot), so that a directory that was rolled back,
 * cloned or forked is found out even where LSNs happen to fit.
 */
import { BLOCK_BYTES } from '../base/units.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import { GroupCollector } from './group-collector.js';
import type { GroupContent, LogSource } from './group-collector.js';
import type { LogCursor } from '../ports/replication.js';
import { sameEvent } from './segment-event.js';
import { isWithoutEffect } from './segment-index.js';
import type { StoredSegment } from './upload-pipeline.js';

export interface ComparedGroup {
  readonly same: boolean;
  /** Behind the group in the log. */
  readonly cursor: LogCursor;
}

/** `segments` are one complete group; its local counterpart begins at `cursor`. */
export async function compareGroup(options: {
  readonly source: LogSource;
  readonly checksums: Checksums;
  readonly cursor: LogCursor;
  readonly segments: readonly Pick<StoredSegment, 'index'>[];
}): Promise<ComparedGroup> {
  const { source, checksums, cursor, segments } = options;
  // It changes nothing, so any directory whose history it continues is right to go on from it.
  const role = segments[0]?.index.role;
  if (role === undefined || isWithoutEffect(role)) return { same: true, cursor };
  // Whoever goes by its log has sent none that it does not know of.
  if (role === 'apply') return { same: false, cursor };
  const lastLsn = segments[0]?.index.lastLsn ?? 0;
  const collector = new GroupCollector({ cursor, blocksMax: Infinity });
  if (lastLsn >= cursor.lsn) await collector.collect(source, lastLsn);
  // The end of a group is the end of a batch; and what a group says is said in full.
  const same = collector.lastLsn === lastLsn && sameContent(collector.content(), segments, checksums);
  return { same, cursor: collector.cursor };
}

export function sameContent(
  local: GroupContent,
  segments: readonly Pick<StoredSegment, 'index'>[],
  checksums: Checksums,
): boolean {
  const remote = remoteSums(segments);
  const sums = Uint32Array.from(local.logSums);
  const zeroSum = new ZeroSum(checksums);
  let localZeros = local.zeros.reduce((blocks, { count }) => blocks + count, 0);
  let matched = 0;
  for (let at = 0; at < local.count; at++) {
    const block = local.blocks[at] ?? 0;
    checksums.logToBlockSums(sums, at, 1, block, local.lsns[at] ?? 0);
    const sent = remote.sums.get(block);
    if (sent === undefined) {
      // Not sent as payload: it must have been a block of zeros.
      if (sums[at] !== zeroSum.of(block) || !covered(remote.zeros, block)) return false;
      localZeros++;
    } else if (sent === sums[at] || sent === SUM_REMOTE) {
      // What had rotted before it was sent is said to be lost, whatever it was.
      matched++;
    } else {
      return false;
    }
  }
  const remoteZeros = remote.zeros.reduce((blocks, { count }) => blocks + count, 0);
  return (
    matched === remote.sums.size &&
    localZeros === remoteZeros &&
    local.zeros.every(({ first, count }) => coveredWhole(remote.zeros, first, count)) &&
    sameEvents(local, segments)
  );
}

interface Range {
  readonly first: number;
  readonly count: number;
}

function remoteSums(segments: readonly Pick<StoredSegment, 'index'>[]): { sums: Map<number, number>; zeros: Range[] } {
  const sums = new Map<number, number>();
  const zeros: Range[] = [];
  for (const { index } of segments) {
    const { extents } = index;
    for (let at = 0; at < extents.count; at++) {
      const payload = extents.payload[at] ?? 0;
      for (let block = 0; block < (extents.blockCount[at] ?? 0); block++) {
        sums.set((extents.firstBlock[at] ?? 0) + block, index.sums[payload + block] ?? 0);
      }
    }
    for (let at = 0; at < index.zeros.count; at++) {
      zeros.push({ first: index.zeros.firstBlock[at] ?? 0, count: index.zeros.blockCount[at] ?? 0 });
    }
  }
  return { sums, zeros: joined(zeros) };
}

/** Sorted, with touching ranges joined. */
function joined(ranges: Range[]): Range[] {
  const list: Range[] = [];
  for (const range of ranges.sort((left, right) => left.first - right.first)) {
    const last = list.at(-1);
    if (last !== undefined && last.first + last.count === range.first) {
      list[list.length - 1] = { first: last.first, count: last.count + range.count };
    } else {
      list.push(range);
    }
  }
  return list;
}

function covered(ranges: readonly Range[], block: number): boolean {
  return coveredWhole(ranges, block, 1);
}

function coveredWhole(ranges: readonly Range[], first: number, count: number): boolean {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range !== undefined && range.first + range.count <= first) low = middle + 1;
    else high = middle;
  }
  const range = ranges[low];
  return range !== undefined && range.first <= first && first + count <= range.first + range.count;
}

function sameEvents(local: GroupContent, segments: readonly Pick<StoredSegment, 'index'>[]): boolean {
  const remote = segments.flatMap(({ index }) => index.events);
  return (
    remote.length === local.events.length &&
    remote.every((event, at) => {
      const own = local.events[at];
      return own !== undefined && sameEvent(own, event);
    })
  );
}

/** The block sum of a block of zeros. */
class ZeroSum {
  readonly #checksums: Checksums;
  readonly #plain: number;
  readonly #sum = new Uint32Array(1);

  constructor(checksums: Checksums) {
    this.#checksums = checksums;
    checksums.sumBlocks(new Uint8Array(BLOCK_BYTES), 0, 1, this.#sum, 0);
    this.#plain = this.#sum[0] ?? 0;
  }

  of(block: number): number {
    this.#sum[0] = this.#plain;
    this.#checksums.toBlockSums(this.#sum, 0, 1, block);
    return this.#sum[0];
  }
}
