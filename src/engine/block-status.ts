/**
 * Describes ranges for NBD block status and SCSI GET LBA STATUS: data, zero or hole, from overlay and sums, and of what only
 * the bucket has from its map (owed-zeros.ts).
 */
import type { BlockNumber, ByteLength, ByteOffset } from '../base/units.js';
import type { BlockStatusExtent } from '../ports/block-device.js';
import { ZERO_LOCATION } from './block-table.js';
import { ExtentRuns } from './extent-run.js';
import type { Hydration } from './hydration.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import type { ReservedSpace } from './reserved-space.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** Blocks looked at for one answer; what lies behind is left to the next question. Fewer where each is to be looked up. */
const BLOCKS_MAX = 1024 * 1024;
const LOOKED_UP_BLOCKS_MAX = 64 * 1024;
/** Blocks that the bucket's map is asked about for each extent of an answer, and at least: extents tend to be long. */
const MAPPED_BLOCKS_PER_EXTENT = 256;
const MAPPED_BLOCKS_MIN = 512;

export interface DescribedParts {
  readonly overlay: Overlay;
  readonly image: Image;
  /** Of a volume whose content still comes from the bucket; undefined: the bucket is not asked, and what it owes is data. */
  readonly hydration: Hydration | undefined;
  /** Of a volume whose space is reserved, whatever is in it. */
  readonly space: ReservedSpace | undefined;
}

/**
 * Where space is reserved there are no holes: what would be one is zero. Else zero: a client wrote zeros that were to keep their space, and they are not in the image yet. What reads as zero in the
 * image counts as a hole: its space may have been kept, but nothing promises it.
 */
export async function describeBlocks(
  { overlay, image, hydration, space }: DescribedParts,
  offset: ByteOffset,
  lengthBytes: ByteLength,
  extentsMax: number,
): Promise<BlockStatusExtent[]> {
  const extents = new ExtentRuns<BlockStatusExtent['state']>(offset, lengthBytes, extentsMax);
  const first = extents.firstBlock;
  let end = extents.endBlock(overlay.isEmpty ? BLOCKS_MAX : LOOKED_UP_BLOCKS_MAX);
  const hole = space !== undefined && space.problem === undefined ? 'zero' : 'hole';
  let zeros: Uint8Array | undefined;
  if (hydration?.active === true) {
    const askedMax = Math.max(MAPPED_BLOCKS_MIN, MAPPED_BLOCKS_PER_EXTENT * extentsMax);
    const found = await hydration.owedZeros(first, Math.min(end - first, LOOKED_UP_BLOCKS_MAX, askedMax));
    zeros = found.zeros;
    end = first + found.blockCount;
  }
  for (let block = first; block < end;) {
    const sums = image.sums.pageNow(block) ?? (await image.sums.page(block));
    const pageEnd = Math.min(end, block - (block % SUMS_PER_PAGE) + SUMS_PER_PAGE);
    for (; block < pageEnd; block++) {
      const sum = sums[block % SUMS_PER_PAGE];
      const isZero = sum === SUM_ZERO || (sum === SUM_REMOTE && zeros?.[block - first] === 1);
      if (!extents.add(block, pendingState(overlay, block, hole) ?? (isZero ? hole : 'data'))) return extents.found;
    }
  }
  return extents.found;
}

/** What the block's newest record makes of it; undefined: it is as the image has it. */
function pendingState(
  overlay: Overlay,
  block: BlockNumber,
  hole: 'zero' | 'hole',
): BlockStatusExtent['state'] | undefined {
  if (overlay.isEmpty) return undefined;
  const slot = overlay.lookup(block);
  if (slot === -1) return undefined;
  if (slot === -2) return overlay.extents.at(block)?.keepAllocated === true ? 'zero' : hole;
  return overlay.table.locationAt(slot) === ZERO_LOCATION ? hole : 'data';
}
