/**
 * Which blocks are not replicated yet, and which are in the bucket only, for NBD's metadata contexts `keepgate:dirty` and
 * `keepgate:remote` (docs/operations.md says what a client may conclude).
 *
 * dirty: the newest acknowledged record of the block is in no recovery point that this volume has heard of. It is in the
 * overlay (not in the image yet), among the unreplicated blocks (in the image, and in the log), or in the dirty map (the
 * log let go of it). A block changes from one to the next without being in none in between.
 *
 * remote: a read of the block would have to fetch it (filled-block.ts, "owed", and no record is on its way to it).
 */
import type { BlockNumber, ByteLength, ByteOffset, Lsn } from '../base/units.js';
import type { BlockMarkExtent } from '../ports/block-device.js';
import { ExtentRuns } from './extent-run.js';
import type { FilledBlocks } from './filled-block.js';
import type { Overlay } from './overlay.js';
import type { UnreplicatedBlocks } from './unreplicated-blocks.js';

/** Blocks looked at for one answer; what lies behind is left to the next question. */
const BLOCKS_MAX = 64 * 1024;
const WINDOW_BLOCKS = 8192;

export interface DirtyBlocks {
  readonly overlay: Overlay;
  readonly unreplicated: UnreplicatedBlocks;
  /** The recovery point has every record up to here. */
  readonly replicatedLsn: Lsn;
  /** Of a volume that is tracked: whether the block may differ from the recovery point. */
  readonly tracked: ((block: BlockNumber) => boolean) | undefined;
}

/** A moment's truth: it is made for one answer, and given within one turn. */
export function describeDirty(
  { overlay, unreplicated, replicatedLsn, tracked }: DirtyBlocks,
  offset: ByteOffset,
  lengthBytes: ByteLength,
  extentsMax: number,
): BlockMarkExtent[] {
  const settled = tracked === undefined && unreplicated.isEmpty(replicatedLsn);
  if (settled && overlay.isEmpty) return [{ lengthBytes, marked: false }];
  const isDirty = (block: BlockNumber): boolean => {
    const slot = overlay.lookup(block);
    const lsn = slot === -1 ? 0 : slot === -2 ? overlay.extents.lsnAt(block) : overlay.table.lsnAt(slot);
    return lsn > replicatedLsn || unreplicated.has(block, replicatedLsn) || tracked?.(block) === true;
  };
  const extents = new ExtentRuns<boolean>(offset, lengthBytes, extentsMax);
  const end = extents.endBlock(BLOCKS_MAX);
  for (let block = extents.firstBlock; block < end; block++) if (!extents.add(block, isDirty(block))) break;
  return marksOf(extents);
}

/** `filled`: undefined where everything is here. */
export async function describeRemote(
  filled: FilledBlocks | undefined,
  offset: ByteOffset,
  lengthBytes: ByteLength,
  extentsMax: number,
): Promise<BlockMarkExtent[]> {
  if (filled === undefined || filled.done) return [{ lengthBytes, marked: false }];
  const extents = new ExtentRuns<boolean>(offset, lengthBytes, extentsMax);
  const end = extents.endBlock(BLOCKS_MAX);
  for (let block = extents.firstBlock; block < end;) {
    const count = Math.min(end - block, WINDOW_BLOCKS);
    const wanted = await filled.wanted(block, count);
    for (let i = 0; i < count; i++) if (!extents.add(block + i, wanted[i] === 1)) return marksOf(extents);
    block += count;
  }
  return marksOf(extents);
}

function marksOf({ found }: ExtentRuns<boolean>): BlockMarkExtent[] {
  return found.map(({ lengthBytes, state }) => ({ lengthBytes, marked: state }));
}
