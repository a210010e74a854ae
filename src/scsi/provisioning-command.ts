/** UNMAP and WRITE SAME (SBC-3 5.28, 5.44, 5.45). */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { KIB, LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { BlockDevice, Completion } from '../ports/block-device.js';
import { readU16, readU32, readU64 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { errorSense } from './error-sense.js';
import { transferLimits } from './inquiry.js';
import { isInRange, takesRange } from './medium-command.js';
import { invalidFieldInCdb, invalidFieldInParameterList, sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';
import { goOn, whenWritable } from './task-turn.js';

const UNMAP_HEADER_BYTES = 8;
const UNMAP_DESCRIPTOR_BYTES = 16;

export function unmap(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  task.parameterBytes = readU16(cdb, at + 7);
  return task.parameterBytes === 0 ? step.finished : step.collect;
}

/**
 * The parameter list (SBC-3 5.28.2):
 *
 *   0-1 data length   2-3 block descriptor data length   8.. descriptors: 0-7 LBA, 8-11 blocks, 12-15 reserved
 *
 * All descriptors are checked before the first takes effect.
 */
export function acceptUnmap(unit: UnitContext, task: ScsiTask, list: Uint8Array): Step {
  if (list.length < UNMAP_HEADER_BYTES) return task.fail(sense.parameterListLengthError);
  const announced = readU16(list, 2);
  const descriptorBytes = announced - (announced % UNMAP_DESCRIPTOR_BYTES);
  if (UNMAP_HEADER_BYTES + descriptorBytes > list.length) return task.fail(sense.parameterListLengthError);
  const count = descriptorBytes / UNMAP_DESCRIPTOR_BYTES;
  if (count > transferLimits.unmapDescriptorsMax) return task.fail(invalidFieldInParameterList(2, 7));
  const group = new CompletionGroup(task);
  for (let index = 0; index < count; index++) {
    const at = UNMAP_HEADER_BYTES + index * UNMAP_DESCRIPTOR_BYTES;
    if (!isInRange(unit, readU64(list, at), readU32(list, at + 8))) return task.fail(sense.lbaOutOfRange);
  }
  for (let index = 0; index < count; index++) {
    const at = UNMAP_HEADER_BYTES + index * UNMAP_DESCRIPTOR_BYTES;
    const offset = readU64(list, at) * LOGICAL_BLOCK_BYTES;
    const lengthBytes = readU32(list, at + 8) * LOGICAL_BLOCK_BYTES;
    if (lengthBytes === 0) continue;
    const refused = group.run(() => unit.device.trim(offset, lengthBytes, !unit.modes.writeCacheEnabled, group));
    if (refused !== undefined && group.isEmpty) return task.fail(errorSense[refused.code]);
    if (refused !== undefined) break;
  }
  return group.isEmpty ? step.finished : step.waiting;
}

/** Several device requests that are one command: it ends when all have, with the first error. */
class CompletionGroup implements Completion {
  #pending = 0;
  #error: GatewayError | undefined;
  readonly #task: ScsiTask;

  constructor(task: ScsiTask) {
    this.#task = task;
  }

  get isEmpty(): boolean {
    return this.#pending === 0;
  }

  /** Adds a request; one that is refused at once is not pending, and its error is returned and kept. */
  run(request: () => void): GatewayError | undefined {
    try {
      request();
      this.#pending++;
      return undefined;
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this.#error ??= error;
      return this.#error;
    }
  }

  done(error: GatewayError | undefined): void {
    this.#error ??= error;
    this.#pending--;
    if (this.#pending === 0) this.#task.done(this.#error);
  }
}

const UNMAP_BIT = 0x08;
const NDOB = 0x01;

/** `flags` is byte 1 of the CDB; `lengthAt` is where its number of blocks stands. */
export function writeSame(
  unit: UnitContext,
  task: ScsiTask,
  lba: number,
  blocks: number,
  lengthAt: number,
  flags: number,
): Step {
  if (!takesRange(unit, task, lba, blocks, lengthAt, transferLimits.writeSameMax)) return step.finished;
  if (blocks === 0) return task.fail(invalidFieldInCdb(lengthAt, 7));
  task.forceUnitAccess = !unit.modes.writeCacheEnabled;
  if ((flags & NDOB) !== 0) return writeZeros(unit, task, (flags & UNMAP_BIT) !== 0);
  task.parameterBytes = LOGICAL_BLOCK_BYTES;
  return step.collect;
}

export function acceptWriteSame(unit: UnitContext, task: ScsiTask, block: Uint8Array): Step {
  if (block.length !== LOGICAL_BLOCK_BYTES || task.offeredBytes !== LOGICAL_BLOCK_BYTES) {
    return task.fail(sense.parameterListLengthError);
  }
  const isZero = block.every((byte) => byte === 0);
  if (isZero) return writeZeros(unit, task, ((task.cdb[1] ?? 0) & UNMAP_BIT) !== 0);
  // With LBPRZ=1 only zeros may be unmapped: anything else is written (SBC-3 5.44, table 136).
  new PatternWrite(unit.device, task, block).start();
  return step.waiting;
}

function writeZeros(unit: UnitContext, task: ScsiTask, mayPunch: boolean): Step {
  if (mayPunch) unit.device.trim(task.offset, task.lengthBytes, task.forceUnitAccess, task);
  else unit.device.zero(task.offset, task.lengthBytes, false, task.forceUnitAccess, task);
  return step.waiting;
}

/** Of what is written over and over: small, as a command window of such commands holds as many of them. */
const PATTERN_BYTES_MAX = 64 * KIB;

/** Writes one block over and over, in records of a bounded size, one after the other: an abort ends it soon. */
class PatternWrite implements Completion {
  readonly #device: BlockDevice;
  readonly #task: ScsiTask;
  readonly #pattern: Uint8Array;
  #position: number;
  readonly #end: number;
  #started = false;

  constructor(device: BlockDevice, task: ScsiTask, block: Uint8Array) {
    this.#device = device;
    this.#task = task;
    this.#position = task.offset;
    this.#end = task.offset + task.lengthBytes;
    this.#pattern = new Uint8Array(Math.min(task.lengthBytes, PATTERN_BYTES_MAX));
    for (let at = 0; at < this.#pattern.length; at += block.length) this.#pattern.set(block, at);
  }

  start(): void {
    assert(!this.#started, 'a pattern is written once');
    this.#started = true;
    this.#next();
  }

  done(error: GatewayError | undefined): void {
    if (error !== undefined || this.#position === this.#end) this.#task.done(error);
    else goOn(this.#task, () => this.#next());
  }

  #next(): void {
    whenWritable(this.#device, this.#task, () => this.#writeNext());
  }

  #writeNext(): void {
    const lengthBytes = Math.min(this.#pattern.length, this.#end - this.#position);
    const offset = this.#position;
    this.#position += lengthBytes;
    this.#device.write(offset, lengthBytes, this.#pattern, 0, this.#task.forceUnitAccess, this);
  }
}
