/**
 * Writes a large file durably without the page cache (O_DIRECT): it is synced at once anyway, and copying 8 MiB into pages
 * that have to be found, filled and written out costs twenty times the processor time of handing the disk the bytes, and
 * pushes out pages that clients read. Where the file system knows no direct I/O the caller writes as usual.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { loadAddon } from './addon.js';

/** From this length on it pays. */
export const DIRECT_BYTES_MIN = 1024 * 1024;
const STEP_BYTES = 1024 * 1024;
/** What every disk takes for offset, length and memory. */
const ALIGNMENT_BYTES = 4096;
const stagesFreeMax = 4;

/** Memory that is aligned; of this thread. */
const stagesFree: Uint8Array[] = [];

/** Creates the file; false, with nothing left behind to keep, where this cannot be done directly. Errors otherwise. */
export async function writeDirectly(path: string, body: Uint8Array): Promise<boolean> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_DIRECT;
  const file = await open(path, flags, 0o600).catch(refused);
  if (file === undefined) return false;
  const stage = stagesFree.pop() ?? loadAddon().alignedBuffer(STEP_BYTES);
  try {
    for (let at = 0; at < body.length; at += STEP_BYTES) {
      const piece = body.subarray(at, at + STEP_BYTES);
      const paddedBytes = Math.ceil(piece.length / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
      stage.set(piece);
      stage.fill(0, piece.length, paddedBytes);
      for (let written = 0; written < paddedBytes;) {
        const answer = await file.write(stage, written, paddedBytes - written, at + written).catch(refused);
        if (answer === undefined) return false;
        written += answer.bytesWritten;
      }
    }
    await file.truncate(body.length);
    await file.sync();
    return true;
  } finally {
    if (stagesFree.length < stagesFreeMax) stagesFree.push(stage);
    await file.close();
  }
}

/** EINVAL: no direct I/O here. A short write that ends unaligned is answered so too, at its continuation. */
function refused(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'EINVAL' || error.code === 'EOPNOTSUPP') return undefined;
  throw error;
}
