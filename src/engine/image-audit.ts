/**
 * The image as a scrub holds it against the bucket: a block counts only where nothing newer of it is on its way, and one
 * that the two have different versions of is proved to be the older one before it is put right (healed-block.ts).
 */
import type { BlockNumber } from '../base/units.js';
import type { RemoteCopy } from '../ports/remote-copy.js';
import { SUM_REMOTE, SUMS_PER_PAGE } from './sums.js';
import type { VolumeParts } from './volume-open.js';

export class ImageAudit {
  private readonly parts: Pick<VolumeParts, 'overlay' | 'image' | 'destager'>;
  private readonly remoteCopy: RemoteCopy | undefined;

  /** `remoteCopy`: undefined where there is no bucket, which then contradicts nothing. */
  constructor(parts: Pick<VolumeParts, 'overlay' | 'image' | 'destager'>, remoteCopy: RemoteCopy | undefined) {
    this.parts = parts;
    this.remoteCopy = remoteCopy;
  }

  /** The sum of the image's block; undefined: its newest version is in the log, or the sum is lost. */
  async settledSum(block: BlockNumber): Promise<number | undefined> {
    const { overlay, image } = this.parts;
    if (overlay.lookup(block) !== -1) return undefined;
    const sum = (await image.sums.page(block))[block % SUMS_PER_PAGE];
    return sum === SUM_REMOTE ? undefined : sum;
  }

  /**
   * Whether the image's block is older than the bucket's although nothing of it is pending: what the disk said to have
   * written was lost, sum and all. `put` puts it right. Rejects where the bucket does not give its copy.
   */
  async contradicted(block: BlockNumber, put: boolean): Promise<boolean> {
    const { destager } = this.parts;
    const { remoteCopy } = this;
    if (remoteCopy === undefined) return false;
    const watch = await destager.watch(block);
    try {
      return await destager.contradicted(watch, await remoteCopy.fetch(block, watch.lsn), put);
    } finally {
      destager.unwatch(watch);
    }
  }
}
