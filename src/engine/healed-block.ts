/**
 * The rules by which a block from the bucket may take the place of one of the image that cannot be trusted (P3). The
 * destager calls `write` between its steps, so that the image has one writer.
 *
 * A block is watched from the moment it was found bad. Where its sum is known the bytes must have it. Where the sum is
 * lost, the bytes must be of a recovery point that includes everything the image did when the watch began: no step has
 * touched the block since, and no newer version is in the overlay, so nothing newer exists.
 *
 * Several may watch one block, a scrub and a read that heals: each watch is its own, so that one which is out of date stays
 * so when another begins.
 */
import { BLOCK_BYTES, type BlockNumber, type Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Image } from './image.js';
import type { Overlay } from './overlay.js';
import { SUM_REMOTE, SUM_ZERO, SUMS_PER_PAGE } from './sums.js';

/** superseded: the block is sound by now, or was written again; different: the bytes are not proved to be it. */
export type HealOutcome = 'healed' | 'superseded' | 'different';

export interface Watch {
  readonly block: BlockNumber;
  /** Everything up to here was in the image when it began. */
  readonly lsn: Lsn;
  readonly sumLost: boolean;
  /** No step has moved the block into the image since. */
  readonly current: boolean;
}

export class HealedBlocks {
  /** Something was written that no sync covers yet. */
  unsynced = false;
  private readonly image: Image;
  private readonly overlay: Overlay;
  private readonly checksums: Checksums;
  private readonly watches = new Set<{ -readonly [Field in keyof Watch]: Watch[Field] }>();
  private readonly sum = new Uint32Array(1);

  constructor(options: { readonly image: Image; readonly overlay: Overlay; readonly checksums: Checksums }) {
    this.image = options.image;
    this.overlay = options.overlay;
    this.checksums = options.checksums;
  }

  /** `destagedLsn` is asked when the watch begins. */
  async watch(block: BlockNumber, destagedLsn: () => Lsn): Promise<Watch> {
    const sums = await this.image.sums.page(block);
    const sumLost = sums[block % SUMS_PER_PAGE] === SUM_REMOTE;
    const watch = { block, lsn: destagedLsn(), sumLost, current: true };
    this.watches.add(watch);
    return watch;
  }

  unwatch(watch: Watch): void {
    this.watches.delete(watch);
  }

  /** A step moved these blocks into the image: whatever of them was on its way is out of date. */
  moved(newest: Overlay): void {
    for (const watch of this.watches) if (newest.lookup(watch.block) !== -1) watch.current = false;
  }

  /**
   * Whether a watched block of the image, sum and all, is not what the bucket has at a recovery point of at least what
   * the image included when the watch began: a write of it, or of its sum, was lost. `put` puts it right then.
   */
  async contradicted(watch: Watch, bytes: Uint8Array, put: boolean): Promise<boolean> {
    const { image, overlay, checksums } = this;
    const { block } = watch;
    const at = block % SUMS_PER_PAGE;
    const sums = await image.sums.page(block);
    if (!watch.current || overlay.lookup(block) !== -1 || sums[at] === SUM_REMOTE) return false;
    const zero = checksums.isZero(bytes, 0, BLOCK_BYTES);
    if (sums[at] === SUM_ZERO ? zero : checksums.verifyBlocks(bytes, 0, 1, block, sums, at) < 0) return false;
    if (put) await this.put(block, bytes, zero);
    return true;
  }

  /** Writes a watched block as the bucket has it at a recovery point of at least `throughLsn`. */
  async write(watch: Watch, bytes: Uint8Array, throughLsn: Lsn): Promise<HealOutcome> {
    const { image, overlay, checksums } = this;
    const { block, lsn } = watch;
    const at = block % SUMS_PER_PAGE;
    const sums = await image.sums.page(block);
    if (!watch.current || overlay.lookup(block) !== -1 || sums[at] === SUM_ZERO) return 'superseded';
    const lost = sums[at] === SUM_REMOTE;
    if (lost ? throughLsn < lsn : checksums.verifyBlocks(bytes, 0, 1, block, sums, at) >= 0) return 'different';
    await this.put(block, bytes, lost && checksums.isZero(bytes, 0, BLOCK_BYTES));
    return 'healed';
  }

  private async put(block: BlockNumber, bytes: Uint8Array, zero: boolean): Promise<void> {
    const { image, checksums } = this;
    let healedSum = SUM_ZERO;
    if (!zero) {
      checksums.sumBlocks(bytes, 0, 1, this.sum, 0);
      checksums.toBlockSums(this.sum, 0, 1, block);
      healedSum = this.sum[0] ?? 0;
      await image.file.allocate(block * BLOCK_BYTES, BLOCK_BYTES);
      await image.file.write([bytes], block * BLOCK_BYTES);
    }
    // The page may have left memory meanwhile; nobody else changes its sums.
    await image.sums.page(block);
    image.sums.set(block, healedSum);
    this.unsynced = true;
  }
}
