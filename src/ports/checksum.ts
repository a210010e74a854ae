/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4) in the shapes that the data path needs; the addon implements it.
 *
 * plain sum of a block:  CRC32C(data)
 * block sum:             CRC32C(le64(block number) || data); values 0 and 1 are reserved (zero block, remote only) and
 *                        a computed 0 or 1 becomes 2 or 3
 * log sum:               CRC32C(le64(LSN) || le64(block number) || data)
 * Block and log sums are derived from the plain one without touching the data again, since CRC is linear.
 */
export interface Checksums {
  /** Continues `seed` (0 to begin) over bytes[start, end): crc32c(crc32c(0, a), b) = crc32c(0, a || b). */
  crc32c(seed: number, bytes: Uint8Array, start: number, end: number): number;
  /**
   * Copies source[sourceStart, sourceEnd) to target at targetStart and keeps the plain sums of the blocks that target
   * is made of: target's block k is target[4096 k, 4096 k + 4096) and its sum is sums[k], begun anew where a copy begins
   * at a block's start and continued elsewhere (pieces must come in order, without gaps).
   */
  copyAndSum(
    source: Uint8Array,
    sourceStart: number,
    sourceEnd: number,
    target: Uint8Array,
    targetStart: number,
    sums: Uint32Array,
  ): void;
  /** Plain sums of `count` whole blocks at bytes[start…] into sums[sumsStart…]. */
  sumBlocks(bytes: Uint8Array, start: number, count: number, sums: Uint32Array, sumsStart: number): void;
  /** Plain sums to log sums, in place, for consecutive blocks of one record. */
  toLogSums(sums: Uint32Array, sumsStart: number, count: number, firstBlock: number, lsn: number): void;
  /** Log sums to block sums, in place. */
  logToBlockSums(sums: Uint32Array, sumsStart: number, count: number, firstBlock: number, lsn: number): void;
  /** Plain sums to block sums, in place. */
  toBlockSums(sums: Uint32Array, sumsStart: number, count: number, firstBlock: number): void;
  /**
   * Checks `count` blocks at bytes[start…], numbered from firstBlock, against block sums. A sum of 0 stands for a block of zeros (the bytes
   * are set to zero rather than checked). Returns the index of the first that differs or is 1 (remote only), or -1.
   */
  verifyBlocks(
    bytes: Uint8Array,
    start: number,
    count: number,
    firstBlock: number,
    sums: Uint32Array,
    sumsStart: number,
  ): number;
  /** As verifyBlocks against log sums (no value is reserved). */
  verifyLogBlocks(
    bytes: Uint8Array,
    start: number,
    count: number,
    firstBlock: number,
    lsn: number,
    sums: Uint32Array,
    sumsStart: number,
  ): number;
  /**
   * Blocks of many records at once: block k at bytes[4096 k…] is blocks[k], written at lsns[k], and has the log sum sums[k].
   * A sound one gets its block sum there instead, and states[k] says whether it is all zeros (1) or not (0); one that
   * does not have its sum keeps it, and states[k] is 2. Returns how many those are. All columns have the same length.
   */
  checkLogBlocks(
    bytes: Uint8Array,
    blocks: Float64Array,
    lsns: Float64Array,
    sums: Uint32Array,
    states: Uint8Array,
  ): number;
  isZero(bytes: Uint8Array, start: number, end: number): boolean;
  /** A page-aligned buffer (its memory is not zeroed). */
  alignedBuffer(lengthBytes: number): Uint8Array<ArrayBuffer>;
  /**
   * Gives the memory of such a buffer back to the system until it is written again; its content is arbitrary from now on.
   * Nothing may be reading into it.
   */
  discard(bytes: Uint8Array): void;
}
