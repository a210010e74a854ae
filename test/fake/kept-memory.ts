/** Checksums that know of all buffers that they gave out, and so how much of their memory a process would keep. */
import type { Checksums } from '../../src/ports/checksum.js';
import { plainChecksums } from './checksums.js';

const PAGE = 4096;

export class KeptMemory {
  readonly #buffers: Uint8Array[] = [];
  readonly checksums: Checksums = {
    ...plainChecksums,
    alignedBuffer: (lengthBytes) => {
      const buffer = plainChecksums.alignedBuffer(lengthBytes);
      this.#buffers.push(buffer);
      return buffer;
    },
    // What the system does.
    discard: (bytes) => void bytes.fill(0),
  };

  /** Pages that hold anything but zeros. */
  get bytes(): number {
    let pages = 0;
    for (const buffer of this.#buffers) {
      for (let at = 0; at < buffer.length; at += PAGE) {
        if (!plainChecksums.isZero(buffer, at, Math.min(at + PAGE, buffer.length))) pages++;
      }
    }
    return pages * PAGE;
  }
}
