/** The Checksums port in plain JavaScript, slow and obvious: a reference for the addon, and for tests that need none. */
import type { Checksums } from '../../src/ports/checksum.js';

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

function crc32c(seed: number, bytes: Uint8Array, start: number, end: number): number {
  let crc = ~seed >>> 0;
  for (let i = start; i < end; i++) crc = (crc >>> 8) ^ table[(crc ^ bytes[i]!) & 0xff]!;
  return ~crc >>> 0;
}

function le64(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(8 * values.length);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setBigUint64(8 * i, BigInt(value), true));
  return bytes;
}

/** shift[i] is the CRC register 1 << i after 4096 zero bytes: CRC is linear, so the rest follows by XOR. */
const shift = Uint32Array.from({ length: 32 }, (_, bit) => {
  let crc = (1 << bit) >>> 0;
  for (let i = 0; i < 4096; i++) crc = (crc >>> 8) ^ table[crc & 0xff]!;
  return crc >>> 0;
});

/** CRC of (prefix || block) from the CRCs of both. */
function join(prefixCrc: number, blockCrc: number): number {
  let shifted = 0;
  for (let bit = 0; bit < 32; bit++) if ((prefixCrc >>> bit) & 1) shifted ^= shift[bit]!;
  return (shifted ^ blockCrc) >>> 0;
}

const crcOf = (bytes: Uint8Array): number => crc32c(0, bytes, 0, bytes.length);
const blockPrefix = (block: number): number => crcOf(le64(block));
const logPrefix = (block: number, lsn: number): number => crcOf(le64(lsn, block));
const unreserved = (sum: number): number => (sum < 2 ? sum + 2 : sum);
const eachSum = (sums: Uint32Array, start: number, count: number, change: (sum: number, i: number) => number): void => {
  for (let i = 0; i < count; i++) sums[start + i] = change(sums[start + i]!, i);
};

export const plainChecksums: Checksums = {
  crc32c,
  copyAndSum(source, sourceStart, sourceEnd, target, targetStart, sums) {
    for (let at = sourceStart, to = targetStart; at < sourceEnd;) {
      const length = Math.min(sourceEnd - at, 4096 - (to % 4096));
      const block = Math.floor(to / 4096);
      sums[block] = crc32c(to % 4096 === 0 ? 0 : sums[block]!, source, at, at + length);
      target.set(source.subarray(at, at + length), to);
      at += length;
      to += length;
    }
  },
  sumBlocks(bytes, start, count, sums, sumsStart) {
    eachSum(sums, sumsStart, count, (_, i) => crc32c(0, bytes, start + 4096 * i, start + 4096 * (i + 1)));
  },
  toLogSums(sums, start, count, first, lsn) {
    eachSum(sums, start, count, (sum, i) => join(logPrefix(first + i, lsn), sum));
  },
  logToBlockSums(sums, start, count, first, lsn) {
    eachSum(sums, start, count, (sum, i) =>
      unreserved(join(blockPrefix(first + i), join(logPrefix(first + i, lsn), sum))),
    );
  },
  toBlockSums(sums, start, count, first) {
    eachSum(sums, start, count, (sum, i) => unreserved(join(blockPrefix(first + i), sum)));
  },
  verifyBlocks(bytes, start, count, first, sums, sumsStart) {
    for (let i = 0; i < count; i++) {
      const at = start + 4096 * i;
      const expected = sums[sumsStart + i]!;
      if (expected === 0) bytes.fill(0, at, at + 4096);
      else if (unreserved(join(blockPrefix(first + i), crc32c(0, bytes, at, at + 4096))) !== expected) return i;
    }
    return -1;
  },
  verifyLogBlocks(bytes, start, count, first, lsn, sums, sumsStart) {
    for (let i = 0; i < count; i++) {
      const at = start + 4096 * i;
      if (join(logPrefix(first + i, lsn), crc32c(0, bytes, at, at + 4096)) !== sums[sumsStart + i]!) return i;
    }
    return -1;
  },
  checkLogBlocks(bytes, blocks, lsns, sums, states) {
    let unsound = 0;
    for (let i = 0; i < blocks.length; i++) {
      const sound = this.verifyLogBlocks(bytes, 4096 * i, 1, blocks[i]!, lsns[i]!, sums, i) < 0;
      if (sound) this.logToBlockSums(sums, i, 1, blocks[i]!, lsns[i]!);
      else unsound++;
      states[i] = sound ? Number(this.isZero(bytes, 4096 * i, 4096 * (i + 1))) : 2;
    }
    return unsound;
  },
  isZero: (bytes, start, end) => bytes.subarray(start, end).every((byte) => byte === 0),
  alignedBuffer: (lengthBytes) => new Uint8Array(lengthBytes),
  discard: (bytes) => void bytes.fill(0xdd),
};
