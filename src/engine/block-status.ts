/** Describes ranges for NBD block status and SCSI GET LBA STATUS: data or hole, from overlay and sums. */
import { BLOCK_BYTES, roundUp, type ByteLength, type ByteOffset } from '../base/units.js';
import type { BlockStatusExtent } from '../ports/block-device.js';
import { ZERO_LOCATION } from './block-table.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** Blocks looked at for one answer; what lies behind is left to the next question. */
const BLOCKS_MAX = 256 * 1024;

export async function describeBlocks(
  overlay: Overlay,
  image: Image,
  offset: ByteOffset,
  lengthBytes: ByteLength,
  extentsMax: number,
): Promise<BlockStatusExtent[]> {
  const first = Math.floor(offset / BLOCK_BYTES);
  const end = Math.min(roundUp(offset + lengthBytes, BLOCK_BYTES) / BLOCK_BYTES, first + BLOCKS_MAX);
  const extents: { lengthBytes: number; state: 'data' | 'hole' }[] = [];
  for (let block = first; block < end; block++) {
    const slot = overlay.lookup(block);
    let state: 'data' | 'hole';
    if (slot === -1) {
      const sums = image.sums.pageNow(block) ?? (await image.sums.page(block));
      state = sums[block % SUMS_PER_PAGE] === SUM_ZERO ? 'hole' : 'data';
    } else {
      state = slot === -2 || overlay.table.locationAt(slot) === ZERO_LOCATION ? 'hole' : 'data';
    }
    const from = Math.max(offset, block * BLOCK_BYTES);
    const length = Math.min(offset + lengthBytes, (block + 1) * BLOCK_BYTES) - from;
    const last = extents.at(-1);
    if (last?.state === state) last.lengthBytes += length;
    else if (extents.length === extentsMax) break;
    else extents.push({ lengthBytes: length, state });
  }
  return extents;
}
