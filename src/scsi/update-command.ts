/**
 * Commands that change what is there into something else, as one step in the order of writes: COMPARE AND WRITE and
 * ORWRITE (SBC-3 5.2, 5.6). No command of another initiator, and no request of another protocol, comes in between.
 */
import type { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Completion } from '../ports/block-device.js';
import { readU32, readU64 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { transferLimits } from './inquiry.js';
import { beginWrite, takesRange } from './medium-command.js';
import { equalBytesBefore } from './medium-comparison.js';
import { invalidFieldInCdb, miscompareAt } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';
import { goOn, whenWritable } from './task-turn.js';

const FUA = 0x08;

/** The Data-Out buffer holds what is to be there, and then what is to replace it. */
export function compareAndWrite(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const lba = readU64(cdb, at + 2);
  const blocks = cdb[at + 13] ?? 0;
  if (!takesRange(unit, task, lba, blocks, 13, transferLimits.compareAndWriteMax)) return step.finished;
  // No blocks are no error, but data for none are (a number above 255 would look like this).
  if (blocks === 0) return task.offeredBytes === 0 ? step.finished : task.fail(invalidFieldInCdb(13, 7));
  task.forceUnitAccess = ((cdb[at + 1] ?? 0) & FUA) !== 0 || !unit.modes.writeCacheEnabled;
  task.parameterBytes = 2 * task.lengthBytes;
  return step.collect;
}

export function acceptCompareAndWrite(unit: UnitContext, task: ScsiTask, data: Uint8Array): Step {
  // Half of what was announced could be compared with the wrong half.
  if (task.offeredBytes !== task.parameterBytes) return task.fail(invalidFieldInCdb(13, 7));
  const wanted = data.subarray(0, task.lengthBytes);
  const change = (bytes: Uint8Array): boolean => {
    if (task.aborted) return false;
    const equal = equalBytesBefore(bytes, wanted);
    if (equal < wanted.length) task.fail(miscompareAt(equal));
    else bytes.set(data.subarray(task.lengthBytes));
    return equal === wanted.length;
  };
  const { device } = unit;
  whenWritable(device, task, () => device.update(task.offset, task.lengthBytes, change, task.forceUnitAccess, task));
  return step.waiting;
}

export function orWrite(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const next = beginWrite(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0);
  if (next !== step.writeMedium) return next;
  task.parameterBytes = task.lengthBytes;
  return step.collect;
}

export function acceptOrWrite(unit: UnitContext, task: ScsiTask, data: Uint8Array): Step {
  if (data.length === 0) return step.finished;
  new OrWrite(unit, task, data).next();
  return step.waiting;
}

/** Updates one after another: no bit that any initiator sets is lost, and an abort ends it soon. */
class OrWrite implements Completion {
  readonly #unit: UnitContext;
  readonly #task: ScsiTask;
  readonly #data: Uint8Array;
  #done = 0;

  constructor(unit: UnitContext, task: ScsiTask, data: Uint8Array) {
    this.#unit = unit;
    this.#task = task;
    this.#data = data;
  }

  next(): void {
    const lengthBytes = Math.min(limits.updateBytesMax, this.#data.length - this.#done);
    const piece = this.#data.subarray(this.#done, this.#done + lengthBytes);
    const or = (bytes: Uint8Array): boolean => {
      for (let at = 0; at < piece.length; at++) bytes[at] = (bytes[at] ?? 0) | (piece[at] ?? 0);
      return !this.#task.aborted;
    };
    const offset = this.#task.offset + this.#done;
    this.#done += lengthBytes;
    const { device } = this.#unit;
    whenWritable(device, this.#task, () => device.update(offset, lengthBytes, or, this.#task.forceUnitAccess, this));
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined || this.#done === this.#data.length) this.#task.done(error);
    else goOn(this.#task, () => this.next());
  }
}
