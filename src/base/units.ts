/**
 * Units and sizes that every layer shares.
 *
 * The types are flavoured numbers: a plain number fits where one is asked for, but one unit does not fit where
 * another is asked for. 64-bit wire fields are narrowed once, by `narrow`, with a range check.
 */
declare const unit: unique symbol;
type Flavoured<Name extends string> = number & { readonly [unit]?: Name };

/** Position in the acknowledged order of writes; 64 bits on disk, never reused. */
export type Lsn = Flavoured<'Lsn'>;
/** Index of a 4096-byte block. */
export type BlockNumber = Flavoured<'BlockNumber'>;
/** Index of a 512-byte logical block, as SCSI counts. */
export type Lba = Flavoured<'Lba'>;
export type ByteOffset = Flavoured<'ByteOffset'>;
export type ByteLength = Flavoured<'ByteLength'>;

/** The unit of every map, in bytes. */
export const BLOCK_BYTES = 4096;
/** The sector that clients address, in bytes. */
export const LOGICAL_BLOCK_BYTES = 512;
/** The unit that a disk writes atomically, in bytes: old or new after a power loss, or unreadable. */
export const SECTOR_BYTES = 512;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** Narrows a 64-bit wire value to a safe integer, or undefined where it does not fit. */
export function narrow(value: bigint): number | undefined {
  return value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined;
}

/** Rounds up to a multiple of `step` (both non-negative safe integers). */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}
