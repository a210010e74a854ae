/**
 * Page-aligned buffers for payloads that arrive in pieces, by size class, so that a busy gateway does not allocate: memory
 * outside of the JavaScript heap counts for it all the same, and brings about one collection of all garbage after another.
 */
import { KIB, MIB } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';

const CLASSES_BYTES = [16 * KIB, 64 * KIB, 256 * KIB, MIB] as const;
/** Of all classes together; small buffers take the place of large ones. */
const KEPT_BYTES_MAX = 16 * MIB;

export class BufferPool {
  /** By class, ascending. */
  private readonly free = CLASSES_BYTES.map((): Uint8Array[] => []);
  private readonly checksums: Checksums;
  private keptBytes = 0;

  constructor(checksums: Checksums) {
    this.checksums = checksums;
  }

  /** A buffer of at least lengthBytes (1 MiB at most); its content is arbitrary. */
  take(lengthBytes: number): Uint8Array {
    const index = CLASSES_BYTES.findIndex((size) => size >= lengthBytes);
    const buffer = this.free[index]?.pop();
    if (buffer === undefined) return this.checksums.alignedBuffer(CLASSES_BYTES[index] ?? lengthBytes);
    this.keptBytes -= buffer.length;
    return buffer;
  }

  /** Those that are free give their memory back to the system, and stay for the next. */
  releaseMemory(): void {
    for (const buffer of this.free.flat()) this.checksums.discard(buffer);
  }

  give(buffer: Uint8Array): void {
    const index = CLASSES_BYTES.findIndex((size) => size === buffer.length);
    const list = this.free[index];
    if (list === undefined) return;
    list.push(buffer);
    this.keptBytes += buffer.length;
    while (this.keptBytes > KEPT_BYTES_MAX) {
      this.keptBytes -= this.free.findLast((kept) => kept.length > 0)?.pop()?.length ?? this.keptBytes;
    }
  }
}
