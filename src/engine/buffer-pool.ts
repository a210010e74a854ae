/**
 * Page-aligned buffers for payloads that arrive in pieces, by size class, so that a busy gateway does not allocate.
 */
import { KIB, MIB } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';

const CLASSES_BYTES = [16 * KIB, 64 * KIB, 256 * KIB, MIB] as const;
const KEPT_BYTES_PER_CLASS = 4 * MIB;

export class BufferPool {
  private readonly free = CLASSES_BYTES.map((): Uint8Array[] => []);
  private readonly checksums: Checksums;

  constructor(checksums: Checksums) {
    this.checksums = checksums;
  }

  /** A buffer of at least lengthBytes (1 MiB at most); its content is arbitrary. */
  take(lengthBytes: number): Uint8Array {
    const index = CLASSES_BYTES.findIndex((size) => size >= lengthBytes);
    return this.free[index]?.pop() ?? this.checksums.alignedBuffer(CLASSES_BYTES[index] ?? lengthBytes);
  }

  give(buffer: Uint8Array): void {
    const index = CLASSES_BYTES.findIndex((size) => size === buffer.length);
    const list = this.free[index];
    if (list !== undefined && list.length * buffer.length < KEPT_BYTES_PER_CLASS) list.push(buffer);
  }
}
