/**
 * The space of a volume with `provision: full`: all that its clients' writes need is taken when the volume is made, and is
 * not given back by trims, so that no write ever waits for disk space. That is the image, its checksums with what makes
 * them safe, and the whole ring of the log; what replication keeps beside them is not in it (docs/operations.md).
 *
 * A volume that exists is served whether or not the rest of its space can be had; `problem` says that it cannot.
 */
import { GatewayError } from '../base/errors.js';
import { MIB, type ByteLength } from '../base/units.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { isDiskFull } from './disk-outcome.js';
import { LogFiles, logRingBytes } from './log-files.js';
import { REDO_FILE, REDO_FILE_BYTES } from './sums-redo.js';
import { sumsFileBytes } from './sums.js';

export class ReservedSpace {
  /** Why not all of it is reserved, as one line. */
  problem: string | undefined;
  private readonly disk: Disk;
  private readonly image: DiskFile;
  private readonly sums: DiskFile;

  constructor(options: { readonly disk: Disk; readonly image: DiskFile; readonly sums: DiskFile }) {
    this.disk = options.disk;
    this.image = options.image;
    this.sums = options.sums;
  }

  /** Takes what is still missing for a volume of that size, as far as it can be had; what is there already costs nothing. */
  async complete(volumeBytes: ByteLength, files: LogFiles): Promise<void> {
    try {
      await reserve(this.image, 0, volumeBytes);
      await reserve(this.sums, 0, sumsFileBytes(volumeBytes));
      await reserveRedo(this.disk);
      await files.fillRing();
      this.problem = undefined;
    } catch (error) {
      if (!(error instanceof GatewayError) || !['disk-full', 'not-supported'].includes(error.code)) throw error;
      this.problem =
        error.code === 'disk-full'
          ? 'not all of its space could be reserved, since the disk is full: free space and start the gateway again, or set provision: thin'
          : error.message;
    }
  }

  /** Takes what a volume needs to grow, or nothing at all. disk-full: it keeps its size. */
  async grow(fromBytes: ByteLength, toBytes: ByteLength): Promise<void> {
    if (this.problem !== undefined) return;
    try {
      await reserve(this.image, fromBytes, toBytes - fromBytes);
      await reserve(this.sums, 0, sumsFileBytes(toBytes));
    } catch (error) {
      // What lies behind the end of the file is given back by that.
      await this.image.truncate(fromBytes);
      if (!isDiskFull(error)) throw error;
      throw await tooLarge(this.disk, toBytes - fromBytes, error);
    }
  }
}

/** Takes the space of a volume that is being made, in its directory, where `image` and `sums` are there already. */
export async function reserveDraft(
  disk: Disk,
  { volumeBytes, bufferBytes }: { readonly volumeBytes: ByteLength; readonly bufferBytes: ByteLength },
): Promise<void> {
  const neededBytes = volumeBytes + sumsFileBytes(volumeBytes) + REDO_FILE_BYTES + logRingBytes(bufferBytes);
  // Before others have to do without what would be given back at once.
  if (neededBytes > (await disk.freeBytes())) throw await tooLarge(disk, neededBytes, undefined);
  try {
    for (const [path, lengthBytes] of [
      ['image', volumeBytes],
      ['sums', sumsFileBytes(volumeBytes)],
    ] as const) {
      const file = await disk.open(path, { mode: 'write' });
      try {
        await reserve(file, 0, lengthBytes);
      } finally {
        await file.close();
      }
    }
    await reserveRedo(disk);
    const files = await LogFiles.open(disk, bufferBytes, FIRST_LOG_FILE);
    try {
      await files.fillRing();
    } finally {
      await files.closeAll();
    }
  } catch (error) {
    throw isDiskFull(error) ? await tooLarge(disk, neededBytes, error) : error;
  }
}

const FIRST_LOG_FILE = 1;

async function reserveRedo(disk: Disk): Promise<void> {
  const file = await disk.open(REDO_FILE, { mode: 'write', create: !(await disk.exists(REDO_FILE)), lane: 'sums' });
  try {
    await reserve(file, 0, REDO_FILE_BYTES);
  } finally {
    await file.close();
  }
}

async function reserve(file: DiskFile, position: number, lengthBytes: ByteLength): Promise<void> {
  if (await file.reserve(position, lengthBytes)) return;
  throw new GatewayError(
    'not-supported',
    'its file system cannot reserve space for it: set provision: thin, or put dataDir on ext4 or XFS',
  );
}

async function tooLarge(disk: Disk, neededBytes: ByteLength, cause: unknown): Promise<GatewayError> {
  const freeBytes = await disk.freeBytes();
  return new GatewayError(
    'disk-full',
    `provision: full takes ${Math.ceil(neededBytes / MIB)} MiB now, and the disk has ${Math.floor(freeBytes / MIB)} MiB left: free space, take a smaller size, or set provision: thin`,
    { cause },
  );
}
