/**
 * VERIFY and WRITE AND VERIFY (SBC-3 5.29 to 5.31, 5.36 to 5.38).
 *
 *   BYTCHK 00b   the medium must be readable: every block is read, and its checksum decides
 *          01b   and equal to the Data-Out buffer, byte for byte
 *          11b   VERIFY only: each of its blocks equal to the one block of the Data-Out buffer
 */
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { GatewayError } from '../base/errors.js';
import type { UnitContext } from './command.js';
import { MediumComparison } from './medium-comparison.js';
import { beginWrite, takesRange } from './medium-command.js';
import { invalidFieldInCdb, sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';
import { whenWritable } from './task-turn.js';

const bytchk = { none: 0, whole: 1, reserved: 2, oneBlock: 3 } as const;

function byteCheck(flags: number): number {
  return (flags >>> 1) & 3;
}

/** `flags` is byte 1 of the CDB; `lengthAt` is where its number of blocks stands. */
export function verify(
  unit: UnitContext,
  task: ScsiTask,
  lba: number,
  blocks: number,
  lengthAt: number,
  flags: number,
): Step {
  const check = byteCheck(flags);
  if (check === bytchk.reserved) return task.fail(invalidFieldInCdb(1, 2));
  if (!takesRange(unit, task, lba, blocks, lengthAt) || blocks === 0) return step.finished;
  if (check === bytchk.none) return compare(unit, task, undefined, task.lengthBytes);
  task.parameterBytes = check === bytchk.whole ? task.lengthBytes : LOGICAL_BLOCK_BYTES;
  return step.collect;
}

export function acceptVerify(unit: UnitContext, task: ScsiTask, data: Uint8Array): Step {
  if (byteCheck(task.cdb[1] ?? 0) === bytchk.whole) return compare(unit, task, data, data.length);
  if (data.length !== LOGICAL_BLOCK_BYTES) return task.fail(sense.parameterListLengthError);
  return compare(unit, task, data, task.lengthBytes);
}

export function writeAndVerify(
  unit: UnitContext,
  task: ScsiTask,
  lba: number,
  blocks: number,
  lengthAt: number,
  flags: number,
): Step {
  const next = beginWrite(unit, task, lba, blocks, lengthAt, flags & ~WRITE_AND_VERIFY_CHECKS);
  if (next !== step.writeMedium) return next;
  task.parameterBytes = task.lengthBytes;
  return step.collect;
}

/** BYTCHK is where WRITE has FUA_NV. */
const WRITE_AND_VERIFY_CHECKS = 0x06;

/** The data are written, made durable, and read again: a verification of what only memory holds would be none. */
export function acceptWriteAndVerify(unit: UnitContext, task: ScsiTask, offered: Uint8Array): Step {
  const data = offered.subarray(0, offered.length - (offered.length % LOGICAL_BLOCK_BYTES));
  if (data.length === 0) return step.finished;
  const expected = byteCheck(task.cdb[1] ?? 0) === bytchk.none ? undefined : data;
  const { device } = unit;
  const done = (error: GatewayError | undefined): void => {
    if (error === undefined) new MediumComparison(device, task, expected, data.length).start();
    else task.done(error);
  };
  whenWritable(device, task, () => device.write(task.offset, data.length, data, 0, true, { done }));
  return step.waiting;
}

function compare(unit: UnitContext, task: ScsiTask, expected: Uint8Array | undefined, lengthBytes: number): Step {
  if (lengthBytes === 0) return step.finished;
  new MediumComparison(unit.device, task, expected, lengthBytes).start();
  return step.waiting;
}
