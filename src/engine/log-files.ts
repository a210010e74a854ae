/**
 * The ring of log files: which there are, which are ready to be appended to, and how old ones become new ones.
 *
 * A file's name is its place in the order of the log, and it is renamed when it is used again. Files are made as they
 * are first needed, written with zeros once, so that appending never allocates. Invariant (P4): a file is renamed only
 * when both superblocks' tails lie behind it and nothing reads it. A renamed or new file counts as ready only after
 * its directory entry is durable, since a flushed batch in it must be found again.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, MIB } from '../base/units.js';
import type { Disk, DiskFile } from '../ports/disk.js';
import { synced, written } from './disk-outcome.js';
import { logFileName } from './log-reader.js';
import { LOG_DIRECTORY } from './volume-directory-format.js';

/** Files kept ready ahead of the one being written. */
const READY_AHEAD = 2;
const zeros = new Uint8Array(MIB);

export function logFileBytes(bufferBytes: number): number {
  const even = Math.floor(bufferBytes / 8 / 4096) * 4096;
  return Math.min(limits.logFileBytesMax, Math.max(limits.logFileBytesMin, even));
}

/** Of all the files that a ring may have. */
export function logRingBytes(bufferBytes: number): number {
  return ringFiles(bufferBytes) * logFileBytes(bufferBytes);
}

function ringFiles(bufferBytes: number): number {
  return Math.max(limits.logFilesMin, Math.floor(bufferBytes / logFileBytes(bufferBytes)));
}

/** Payload blocks of the longest batch, and so of the longest record: a file holds several batches, however small it is. */
function batchBlocks(fileBytes: number): number {
  return Math.min(limits.batchPayloadBytesMax, fileBytes / 4) / BLOCK_BYTES;
}

interface LogFile {
  readonly handle: DiskFile;
  readonly sizeBytes: number;
  pins: number;
}

export class LogFiles {
  readonly fileBytes: number;
  readonly batchBlocksMax: number;
  private readonly disk: Disk;
  private readonly countMax: number;
  private readonly files = new Map<number, LogFile>();
  private oldest: number;
  private newest: number;
  private preparing: Promise<void> | undefined;

  /** Files that do not join up with the tail's: left by a crash among renames. Recovery looks for claims in them, then removes them. */
  readonly strays: readonly number[];

  private constructor(disk: Disk, bufferBytes: number, oldest: number, newest: number, strays: readonly number[]) {
    this.disk = disk;
    this.fileBytes = logFileBytes(bufferBytes);
    this.batchBlocksMax = Math.floor(batchBlocks(this.fileBytes));
    this.countMax = ringFiles(bufferBytes);
    this.oldest = oldest;
    this.newest = newest;
    this.strays = strays;
  }

  /** Opens what is there around the tail. Files of another buffer size serve until they are recycled. */
  static async open(disk: Disk, bufferBytes: number, tailFile: number): Promise<LogFiles> {
    const names = (await disk.list(LOG_DIRECTORY)).filter((name) => /^\d{8,}$/.test(name));
    const numbers = new Set(names.map(Number));
    if (numbers.size > 0 && !numbers.has(tailFile)) {
      throw new GatewayError('log-damaged', `log file ${logFileName(tailFile)}, where recovery begins, is missing`);
    }
    let oldest = tailFile;
    while (numbers.has(oldest - 1)) oldest--;
    let newest = tailFile - 1;
    while (numbers.has(newest + 1)) newest++;
    const strays = [...numbers].filter((number) => number < oldest || number > newest).sort((a, b) => a - b);
    const files = new LogFiles(disk, bufferBytes, oldest, newest, strays);
    for (let number = oldest; number <= newest; number++) await files.openFile(number);
    // What a killed process renamed is here, and may not be durable: a flushed batch in it would not be found again.
    await synced('fsync of the log directory', disk.syncDirectory(LOG_DIRECTORY));
    return files;
  }

  /** Removes the strays, once recovery has decided that they hold nothing that was promised. */
  async removeStrays(): Promise<void> {
    for (const number of this.strays) await this.disk.remove(this.path(number));
    if (this.strays.length > 0) await this.disk.syncDirectory(LOG_DIRECTORY);
  }

  get capacityBytes(): number {
    return this.countMax * this.fileBytes;
  }

  get newestFile(): number {
    return this.newest;
  }

  get oldestFile(): number {
    return this.oldest;
  }

  get count(): number {
    return this.files.size;
  }

  get countLimit(): number {
    return this.countMax;
  }

  has(file: number): boolean {
    return this.files.has(file);
  }

  handle(file: number): DiskFile {
    return this.entry(file).handle;
  }

  sizeBytes(file: number): number {
    return this.entry(file).sizeBytes;
  }

  /** Keeps a file from being recycled while it is read. */
  pin(file: number): void {
    this.entry(file).pins++;
  }

  unpin(file: number): void {
    this.entry(file).pins--;
  }

  /**
   * Brings the number of files ready behind `head` to READY_AHEAD: recycles files below `oldestNeeded`, or makes new
   * ones up to the ring's limit. Resolves when nothing more can be done; disk-full when a new file finds no space.
   */
  prepare(head: number, oldestNeeded: number): Promise<void> {
    this.preparing ??= this.prepareAll(head, oldestNeeded).finally(() => {
      this.preparing = undefined;
    });
    return this.preparing;
  }

  /** Makes all files that the ring may ever have, so that none is missing later for want of space. */
  async fillRing(): Promise<void> {
    await this.preparing;
    while (this.files.size < this.countMax) await this.make();
  }

  async closeAll(): Promise<void> {
    await this.preparing?.catch(() => undefined);
    await Promise.all([...this.files.values()].map((file) => file.handle.close()));
    this.files.clear();
  }

  private async prepareAll(head: number, oldestNeeded: number): Promise<void> {
    const failure = await this.recycle(head, oldestNeeded);
    if (failure !== undefined) throw failure.error;
    while (this.newest - head < READY_AHEAD && this.files.size < this.countMax) await this.make();
  }

  /** What stopped it half-way is returned, so that the files that were renamed before count in any case. */
  private async recycle(head: number, oldestNeeded: number): Promise<{ readonly error: unknown } | undefined> {
    let changed = false;
    let failure: { readonly error: unknown } | undefined;
    const ready: number[] = [];
    while (this.oldest < oldestNeeded && this.oldest < head && this.entry(this.oldest).pins === 0) {
      const file = this.entry(this.oldest);
      const fits = file.sizeBytes === this.fileBytes && this.files.size <= this.countMax;
      const next = this.newest + 1 + ready.length;
      try {
        const path = this.path(this.oldest);
        const change = fits ? this.disk.rename(path, this.path(next)) : this.disk.remove(path);
        await written('recycling a log file', change);
      } catch (error) {
        failure = { error };
        break;
      }
      if (fits) {
        ready.push(next);
        this.files.set(next, file);
      } else {
        await file.handle.close();
      }
      this.files.delete(this.oldest);
      this.oldest++;
      changed = true;
    }
    if (changed) await synced('fsync of the log directory', this.disk.syncDirectory(LOG_DIRECTORY));
    this.newest += ready.length;
    return failure;
  }

  private async make(): Promise<void> {
    const number = this.newest + 1;
    const temporary = `${LOG_DIRECTORY}/new`;
    try {
      await written('preparing a log file', this.fillNew(temporary));
    } catch (error) {
      // What it got must not be missing elsewhere; the next attempt begins with another file.
      await this.disk.remove(temporary).catch(() => undefined);
      throw error;
    }
    await written('naming a log file', this.disk.rename(temporary, this.path(number)));
    await synced('fsync of the log directory', this.disk.syncDirectory(LOG_DIRECTORY));
    await this.openFile(number);
    this.newest = number;
  }

  private async fillNew(path: string): Promise<void> {
    if (await this.disk.exists(path)) await this.disk.remove(path);
    // A lane of its own: a flush must not wait for the zeros of a file that is not in use yet.
    const file = await this.disk.open(path, { mode: 'write', create: true, lane: 'prepare' });
    try {
      await file.allocate(0, this.fileBytes);
      for (let at = 0; at < this.fileBytes; at += MIB) {
        await file.write([zeros.subarray(0, Math.min(MIB, this.fileBytes - at))], at);
      }
      await file.sync();
    } finally {
      await file.close();
    }
  }

  private async openFile(number: number): Promise<void> {
    const handle = await this.disk.open(this.path(number), { mode: 'write', lane: 'log' });
    this.files.set(number, { handle, sizeBytes: await handle.sizeBytes(), pins: 0 });
  }

  private entry(file: number): LogFile {
    const entry = this.files.get(file);
    if (entry === undefined) throw new GatewayError('log-damaged', `log file ${logFileName(file)} is not there`);
    return entry;
  }

  private path(file: number): string {
    return `${LOG_DIRECTORY}/${logFileName(file)}`;
  }
}
