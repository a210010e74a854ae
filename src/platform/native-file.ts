/**
 * DiskFile over the native addon.
 *
 * Writes run in order on the thread of the file's lane, reads on the disk's, syncs on another of their own, so that
 * nothing queues behind a disk that is slow to sync. Hence `sync` covers the writes that were over before it was called (writeNow returned, the
 * promise of write resolved), not those still under way.
 *
 * readNow and writeNow are the hot path: one call into the addon, nothing allocated. All else costs two changes of
 * thread, against which promises do not count.
 */
import { constants } from 'node:os';
import type { DiskFile } from '../ports/disk.js';
import type { Addon, FileHandle } from './addon.js';
import { diskError } from './disk-error.js';

export class NativeFile implements DiskFile {
  readonly path: string;
  readonly #addon: Addon;
  readonly #handle: FileHandle;
  readonly #keepsSpace: boolean;
  #closed: Promise<void> | undefined;

  constructor(addon: Addon, handle: FileHandle, path: string, keepsSpace = false) {
    this.#addon = addon;
    this.#handle = handle;
    this.path = path;
    this.#keepsSpace = keepsSpace;
  }

  async sizeBytes(): Promise<number> {
    return this.#checked('fstat', undefined, await this.#addon.fileSize(this.#handle));
  }

  readNow(target: Uint8Array, targetStart: number, lengthBytes: number, position: number): boolean {
    return this.#addon.readNow(this.#handle, target, targetStart, lengthBytes, position);
  }

  async read(target: Uint8Array, targetStart: number, lengthBytes: number, position: number): Promise<number> {
    const result = await this.#addon.read(this.#handle, target, targetStart, lengthBytes, position);
    return this.#checked('pread', position, result);
  }

  async readScattered(target: Uint8Array, runs: Float64Array, runCount: number): Promise<number> {
    return this.#checked('preadv', runs[2], await this.#addon.readScattered(this.#handle, target, runs, runCount));
  }

  writeNow(parts: readonly Uint8Array[], position: number): void {
    this.#checked('pwritev', position, this.#addon.writeNow(this.#handle, parts, position));
  }

  async write(parts: readonly Uint8Array[], position: number): Promise<void> {
    this.#checked('pwritev', position, await this.#addon.write(this.#handle, parts, position));
  }

  async writeScattered(source: Uint8Array, runs: Float64Array, runCount: number): Promise<void> {
    const result = await this.#addon.writeScattered(this.#handle, source, runs, runCount);
    this.#checked('pwritev', runs[2], result);
  }

  async sync(): Promise<void> {
    this.#checked('fdatasync', undefined, await this.#addon.sync(this.#handle));
  }

  startWriteOut(position: number, lengthBytes: number): void {
    this.#addon.startWriteOut(this.#handle, position, lengthBytes);
  }

  async allocate(position: number, lengthBytes: number): Promise<void> {
    this.#checked('fallocate', position, await this.#addon.allocate(this.#handle, position, lengthBytes));
  }

  async reserve(position: number, lengthBytes: number): Promise<boolean> {
    const result = await this.#addon.reserve(this.#handle, position, lengthBytes);
    if (result === -constants.errno.EOPNOTSUPP) return false;
    this.#checked('fallocate', position, result);
    return true;
  }

  async punch(position: number, lengthBytes: number): Promise<void> {
    const handle = this.#handle;
    const result = this.#keepsSpace
      ? await this.#addon.zeroRange(handle, position, lengthBytes)
      : await this.#addon.punch(handle, position, lengthBytes);
    this.#checked('fallocate', position, result);
  }

  async truncate(lengthBytes: number): Promise<void> {
    this.#checked('ftruncate', lengthBytes, await this.#addon.truncate(this.#handle, lengthBytes));
  }

  async nextData(position: number): Promise<{ start: number; end: number } | undefined> {
    const result = await this.#addon.nextData(this.#handle, position);
    if (typeof result !== 'number') return { start: result[0], end: result[1] };
    this.#checked('lseek', position, result);
    return undefined;
  }

  /** Once every operation under way is over; calling it again waits for the same. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#checked('close', undefined, await this.#addon.closeFile(this.#handle));
  }

  #checked(call: string, position: number | undefined, result: number): number {
    if (result >= 0) return result;
    throw diskError({ call, path: this.path, result, ...(position === undefined ? {} : { position }) });
  }
}
