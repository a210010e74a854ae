/**
 * READ and WRITE of 6, 10, 12 and 16 bytes, SYNCHRONIZE CACHE, READ CAPACITY (SBC-3 5.8 to 5.18, 5.22, 5.32).
 *
 * Hot path: beginRead and beginWrite allocate nothing. DPO is accepted and ignored, as a hint may be. FUA_NV, obsolete,
 * asks for less than FUA and gets as much.
 */
import type { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import { readU16, readU32, readU64, writeU32, writeU64 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { transferLimits } from './inquiry.js';
import { invalidFieldInCdb, scsiStatus, sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const FUA = 0x08;
const FUA_NV = 0x02;
const U32_MAX = 0xffff_ffff;
/** READ(6) and WRITE(6) say 256 blocks with a length of 0 (SBC-3 5.7). */
export const BLOCKS_OF_ZERO_6 = 256;

/** Whether [lba, lba + blocks) lies on the medium; `lba` may be inexact above 2^53, where it does not. */
export function isInRange(unit: UnitContext, lba: number, blocks: number): boolean {
  return lba + blocks <= unit.device.sizeBytes / LOGICAL_BLOCK_BYTES;
}

/**
 * Makes [lba, lba + blocks) the task's range; false: it is none, or longer than `blocksMax`, and the task has failed.
 * `lengthAt` is where the CDB has its number of blocks, for the sense data.
 */
export function takesRange(
  unit: UnitContext,
  task: ScsiTask,
  lba: number,
  blocks: number,
  lengthAt: number,
  blocksMax: number = transferLimits.transferMax,
): boolean {
  if (!isInRange(unit, lba, blocks)) {
    task.fail(sense.lbaOutOfRange);
    return false;
  }
  if (blocks > blocksMax) {
    task.fail(invalidFieldInCdb(lengthAt, 7));
    return false;
  }
  task.offset = lba * LOGICAL_BLOCK_BYTES;
  task.lengthBytes = blocks * LOGICAL_BLOCK_BYTES;
  return true;
}

export function beginRead(unit: UnitContext, task: ScsiTask, lba: number, blocks: number, lengthAt: number): Step {
  if (!takesRange(unit, task, lba, blocks, lengthAt)) return step.finished;
  return blocks === 0 ? step.finished : step.readMedium;
}

export function beginWrite(
  unit: UnitContext,
  task: ScsiTask,
  lba: number,
  blocks: number,
  lengthAt: number,
  flags: number,
): Step {
  if (!takesRange(unit, task, lba, blocks, lengthAt)) return step.finished;
  task.forceUnitAccess = (flags & (FUA | FUA_NV)) !== 0 || !unit.modes.writeCacheEnabled;
  return blocks === 0 ? step.finished : step.writeMedium;
}

const IMMED = 0x02;

/**
 * PRE-FETCH (SBC-3 5.11, 5.12). CONDITION MET: all of it is in the cache, or soon will be; GOOD: more was asked for than
 * is fetched ahead, or than is fetched at a time. A length of 0 goes to the end of the medium.
 */
export function prefetch(unit: UnitContext, task: ScsiTask, lba: number, blocks: number, flags: number): Step {
  if (!isInRange(unit, lba, Math.max(1, blocks))) return task.fail(sense.lbaOutOfRange);
  if (unit.prefetches >= limits.scsiPrefetchesMax) return step.finished;
  const wanted = blocks === 0 ? unit.device.sizeBytes / LOGICAL_BLOCK_BYTES - lba : blocks;
  const fetched = Math.min(wanted, transferLimits.prefetchMax);
  const isImmediate = (flags & IMMED) !== 0;
  const done = (error: GatewayError | undefined): void => {
    unit.prefetches--;
    // Of what was only a hint nobody hears.
    if (!isImmediate) task.done(error);
  };
  unit.device.cache(lba * LOGICAL_BLOCK_BYTES, fetched * LOGICAL_BLOCK_BYTES, { done });
  unit.prefetches++;
  if (fetched === wanted) task.status = scsiStatus.conditionMet;
  return isImmediate ? step.finished : step.waiting;
}

/**
 * WRITE ATOMIC(16) (SBC-4 5.48): all or nothing, whatever happens. Whole blocks of the volume, few enough to be one record
 * of its log.
 */
export function beginWriteAtomic(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const lba = readU64(cdb, at + 2);
  const blocks = readU16(cdb, at + 12);
  const { atomicMax, granularity } = transferLimits;
  if (!isInRange(unit, lba, blocks)) return task.fail(sense.lbaOutOfRange);
  if (blocks > atomicMax || blocks % granularity !== 0) return task.fail(invalidFieldInCdb(12, 7));
  if (lba % granularity !== 0) return task.fail(invalidFieldInCdb(2, 7));
  return beginWrite(unit, task, lba, blocks, 12, cdb[at + 1] ?? 0);
}

/**
 * Everything becomes durable, whatever range was asked for. IMMED is taken as permission only: an answer that comes
 * before the data are durable would promise what a crash could break (P1).
 */
export function synchronizeCache(unit: UnitContext, task: ScsiTask, lba: number, blocks: number): Step {
  if (!isInRange(unit, lba, blocks)) return task.fail(sense.lbaOutOfRange);
  unit.device.flush(task);
  return step.waiting;
}

/** SBC-3 5.15.2: the last LBA (FFFFFFFFh: ask READ CAPACITY(16)) and the block length. */
export function readCapacity10(unit: UnitContext, task: ScsiTask): Step {
  const bytes = new Uint8Array(8);
  writeU32(bytes, 0, Math.min(unit.device.sizeBytes / LOGICAL_BLOCK_BYTES - 1, U32_MAX));
  writeU32(bytes, 4, LOGICAL_BLOCK_BYTES);
  return task.answer(bytes, bytes.length);
}

const LBPME = 0x80;
const LBPRZ = 0x40;

/**
 * SBC-3 5.16.2:
 *
 *   0..7   last LBA                  13   logical blocks per physical block, as an exponent of 2
 *   8..11  block length              14   LBPME (bit 7), LBPRZ (bit 6), lowest aligned LBA
 */
export function readCapacity16(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const bytes = new Uint8Array(32);
  writeU64(bytes, 0, unit.device.sizeBytes / LOGICAL_BLOCK_BYTES - 1);
  writeU32(bytes, 8, LOGICAL_BLOCK_BYTES);
  bytes[13] = Math.log2(unit.physicalBlockBytes / LOGICAL_BLOCK_BYTES);
  bytes[14] = LBPME | LBPRZ;
  return task.answer(bytes, readU32(cdb, at + 10));
}
