/**
 * Looks into a volume's image from beside the engine, where a second copy of a record is wanted: what is read may be older
 * or newer than what the caller is after, or torn, and counts only if it has the sum that it must have.
 */
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Disk, DiskFile } from '../ports/disk.js';

export class ImageCopy {
  private readonly disk: Disk;
  private file: DiskFile | undefined;

  /** `disk` is rooted at the volume's directory. */
  constructor(disk: Disk) {
    this.disk = disk;
  }

  /** Reads a block into target; false: there is nothing to read. */
  async read(block: BlockNumber, target: Uint8Array, targetStart: number): Promise<boolean> {
    try {
      this.file ??= await this.disk.open('image', { mode: 'read' });
      if (this.file.readNow(target, targetStart, BLOCK_BYTES, block * BLOCK_BYTES)) return true;
      return (await this.file.read(target, targetStart, BLOCK_BYTES, block * BLOCK_BYTES)) === BLOCK_BYTES;
    } catch (error) {
      if (error instanceof GatewayError && (error.code === 'not-found' || error.code === 'disk-failed')) return false;
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.file?.close();
    this.file = undefined;
  }
}
