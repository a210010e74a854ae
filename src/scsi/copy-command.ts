/**
 * EXTENDED COPY(LID1) and RECEIVE COPY RESULTS (SPC-4 6.3, 6.18).
 *
 * The unit copies within itself, from blocks to blocks. Nothing is answered before it is copied.
 */
import { readU32, writeU16, writeU32 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { copyLimits, HEADER_BYTES, parseCopyOrder } from './copy-descriptor.js';
import { CopyOperation } from './copy-operation.js';
import type { CopyRecord } from './copy-results.js';
import { invalidFieldInCdb, sense, SENSE_BYTES_MAX } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const LIST_BYTES_MAX = HEADER_BYTES + copyLimits.descriptorBytesMax;

export function extendedCopy(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const lengthBytes = readU32(cdb, at + 10);
  if (lengthBytes === 0) return step.finished;
  if (lengthBytes < HEADER_BYTES) return task.fail(sense.parameterListLengthError);
  // What is longer is refused by what its header says of it.
  task.parameterBytes = Math.min(lengthBytes, LIST_BYTES_MAX);
  return step.collect;
}

export function acceptExtendedCopy(unit: UnitContext, task: ScsiTask, list: Uint8Array): Step {
  const order = parseCopyOrder(list, unit.device.uuid);
  if ('refused' in order) return task.fail(order.refused);
  const { nexus } = task;
  const { copies } = unit;
  if (nexus === undefined) return task.fail(sense.internalTargetFailure);
  if (order.listId !== undefined && copies.find(nexus, order.listId)?.isRunning === true) {
    return task.fail(sense.operationInProgress);
  }
  if (copies.running >= copyLimits.concurrentMax) return task.fail(sense.busy);
  const operation = new CopyOperation(unit, task, order.segments, (failure) => copies.ended(record, failure));
  const record = copies.begun(nexus, order.listId, operation);
  operation.start();
  return step.waiting;
}

/** `at + 2`: LIST IDENTIFIER, of this initiator's copies. */
export function receiveCopyStatus(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const record = findRecord(unit, task, cdb, at);
  if (record === undefined) return task.fail(invalidFieldInCdb(2, 7));
  const { operation, isRunning, failure } = record;
  // 4 HDD (bit 7), status   5-6 segments   7 units of 8-11: the transfer count in KiB
  const bytes = new Uint8Array(12);
  writeU32(bytes, 0, bytes.length - 4);
  bytes[4] = isRunning ? 0x00 : failure === undefined ? 0x01 : 0x02;
  writeU16(bytes, 5, operation.segmentsDone);
  bytes[7] = 0x01;
  writeU32(bytes, 8, Math.floor(operation.copiedBytes / 1024));
  return task.answer(bytes, readU32(cdb, at + 10));
}

const FAILED_DETAILS_BYTES = 60;

/** Why a copy failed; told once (SPC-4 6.18.5). Of one that did not fail there is nothing to tell. */
export function receiveFailedSegment(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const record = findRecord(unit, task, cdb, at);
  if (record === undefined) return task.fail(invalidFieldInCdb(2, 7));
  const { failure } = record;
  if (failure === undefined) return task.answer(new Uint8Array(4), readU32(cdb, at + 10));
  // 56 the command's status   58-59 length of the sense data   60.. sense data
  const bytes = new Uint8Array(FAILED_DETAILS_BYTES + SENSE_BYTES_MAX);
  const senseBytes = unit.writeSense(bytes, FAILED_DETAILS_BYTES, failure);
  const lengthBytes = FAILED_DETAILS_BYTES + senseBytes;
  writeU32(bytes, 0, lengthBytes - 4);
  bytes[56] = failure.status;
  writeU16(bytes, 58, senseBytes);
  if (task.nexus !== undefined) unit.copies.forget(task.nexus, cdb[at + 2] ?? 0);
  return task.answer(bytes.subarray(0, lengthBytes), readU32(cdb, at + 10));
}

function findRecord(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): CopyRecord | undefined {
  return task.nexus === undefined ? undefined : unit.copies.find(task.nexus, cdb[at + 2] ?? 0);
}

/** SPC-4 6.18.4. Nothing is held for RECEIVE COPY RESULTS, and no data come with the list. */
export function receiveOperatingParameters(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const bytes = new Uint8Array(44 + copyLimits.descriptorTypes.length);
  writeU32(bytes, 0, bytes.length - 4);
  bytes[4] = 0x01; // SNLID: LIST ID USAGE 11b
  writeU16(bytes, 8, copyLimits.cscdMax);
  writeU16(bytes, 10, copyLimits.segmentsMax);
  writeU32(bytes, 12, copyLimits.descriptorBytesMax);
  writeU32(bytes, 16, copyLimits.segmentBytesMax);
  writeU16(bytes, 34, copyLimits.concurrentMax);
  bytes[36] = copyLimits.concurrentMax;
  bytes[37] = copyLimits.granularity;
  bytes[43] = copyLimits.descriptorTypes.length;
  bytes.set(copyLimits.descriptorTypes, 44);
  return task.answer(bytes, readU32(cdb, at + 10));
}
