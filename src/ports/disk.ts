/**
 * The file system as the engine needs it, rooted at one directory; paths are relative to it. The real one is
 * platform/native-disk.ts, the other one is a simulation. Every failure is a GatewayError (disk-full, disk-failed,
 * directory-unwritable, not-found). A failed `sync` is never retried by a caller: see DurabilityLostError.
 */
import type { ByteLength, ByteOffset } from '../base/units.js';

export interface DiskFile {
  readonly path: string;
  sizeBytes(): Promise<ByteLength>;
  /** Reads all of it now if the page cache has it (preadv2 RWF_NOWAIT); false means that it would block, or is past the end: use `read`. */
  readNow(target: Uint8Array, targetStart: number, lengthBytes: ByteLength, position: ByteOffset): boolean;
  /** Reads on a thread, until lengthBytes or the end of the file; resolves to the number of bytes read. */
  read(target: Uint8Array, targetStart: number, lengthBytes: ByteLength, position: ByteOffset): Promise<number>;
  /**
   * Many separate reads on a thread in one go: run k fills target[runs[3k], runs[3k] + runs[3k + 1]) from position
   * runs[3k + 2]. Ends at a run that the file does not hold whole; resolves to the number of bytes of the runs before it.
   * Fails also where only bytes between two runs cannot be read: then read them one by one.
   */
  readScattered(target: Uint8Array, runs: Float64Array, runCount: number): Promise<number>;
  /** Writes all parts one after another, inline (into the page cache); throws on a short or failed write. */
  writeNow(parts: readonly Uint8Array[], position: ByteOffset): void;
  /** As writeNow, on a thread. The parts must stay untouched until it resolves. */
  write(parts: readonly Uint8Array[], position: ByteOffset): Promise<void>;
  /**
   * Many separate writes on a thread in one go: run k copies source[runs[3k], runs[3k] + runs[3k + 1]) to position
   * runs[3k + 2]. `source` and `runs` must stay untouched until it resolves.
   */
  writeScattered(source: Uint8Array, runs: Float64Array, runCount: number): Promise<void>;
  /** fdatasync on the file's own queue: covers what was written before the call. */
  sync(): Promise<void>;
  /** Begins write-out of a range without waiting, so that a later sync is short (sync_file_range); never fails. */
  startWriteOut(position: ByteOffset, lengthBytes: ByteLength): void;
  /** Reserves space without changing what is read; disk-full when there is none. */
  allocate(position: ByteOffset, lengthBytes: ByteLength): Promise<void>;
  /** As allocate; false where the file system cannot reserve. Reserved space is given back by `punch` and `truncate` only. */
  reserve(position: ByteOffset, lengthBytes: ByteLength): Promise<boolean>;
  /** Frees a range, which then reads as zero (fallocate PUNCH_HOLE | KEEP_SIZE). See OpenOptions.keepsSpace. */
  punch(position: ByteOffset, lengthBytes: ByteLength): Promise<void>;
  truncate(lengthBytes: ByteLength): Promise<void>;
  /** The next range that is not a hole, at or after position (SEEK_DATA, SEEK_HOLE); undefined: only holes follow. */
  nextData(position: ByteOffset): Promise<{ start: ByteOffset; end: ByteOffset } | undefined>;
  close(): Promise<void>;
}

export interface DiskLock {
  release(): Promise<void>;
}

export interface OpenOptions {
  readonly mode: 'read' | 'write';
  /** create: must not exist yet. Default: must exist. */
  readonly create?: boolean;
  /**
   * What changes files with the same lane runs in order on one thread of that lane, their syncs on another; reads run
   * beside both. Default 'io'.
   */
  readonly lane?: string;
  /** What is punched out reads as zero, and its space stays reserved. */
  readonly keepsSpace?: boolean;
}

export interface Disk {
  open(path: string, options: OpenOptions): Promise<DiskFile>;
  exists(path: string): Promise<boolean>;
  /** Names in a directory, sorted; empty when it does not exist. */
  list(path: string): Promise<string[]>;
  /** Creates a directory and its parents, durably; fine when it exists. */
  makeDirectory(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in a directory durable. */
  syncDirectory(path: string): Promise<void>;
  /** The whole of a small file (1 MiB at most). */
  readSmall(path: string): Promise<Uint8Array>;
  /** Replaces a small file atomically and durably: temporary file, fsync, rename, fsync directory. */
  writeSmall(path: string, bytes: Uint8Array): Promise<void>;
  /** Exclusive for the process's life; volume-locked when another process has it. */
  lock(path: string): Promise<DiskLock>;
  freeBytes(): Promise<ByteLength>;
  /** Whether it turns, as far as the system knows; undefined: nobody knows. */
  isRotational?(): Promise<boolean>;
}
