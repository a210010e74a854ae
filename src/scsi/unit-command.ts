/**
 * TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, SEND DIAGNOSTIC (SPC-4 6.39, 6.42, 6.47;
 * SBC-3 5.12, 5.26).
 */
import { readU16 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { sanitizeSense } from './sanitize-command.js';
import { invalidFieldInCdb, sense, SENSE_BYTES_MAX, writeSense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const DESC = 0x01;

/**
 * Gives out, and thereby clears, a pending unit attention; else how far a sanitize is. There is nothing more to report,
 * since sense data come with the status.
 */
export function requestSense(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const sanitizing = unit.sanitizer && sanitizeSense(unit.sanitizer);
  const what = task.nexus?.takeAttention() ?? sanitizing ?? sense.none;
  return senseAsData(task, what, cdb, at);
}

export function senseAsData(task: ScsiTask, what: Parameters<typeof writeSense>[2], cdb: Uint8Array, at: number): Step {
  const bytes = new Uint8Array(SENSE_BYTES_MAX);
  const lengthBytes = writeSense(bytes, 0, what, ((cdb[at + 1] ?? 0) & DESC) !== 0);
  return task.answer(bytes.subarray(0, lengthBytes), cdb[at + 4] ?? 0);
}

const START = 0x01;
const LOEJ = 0x02;
const NO_FLUSH = 0x04;
/** SBC-3 table 99: what a POWER CONDITION field may ask for. The unit has one condition, so nothing but START matters. */
const POWER_CONDITIONS: readonly number[] = [0x0, 0x1, 0x2, 0x3, 0x7, 0xa, 0xb];

/** The unit cannot stop, and has no medium to eject; an initiator that stops it gets its cache flushed. */
export function startStopUnit(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const flags = cdb[at + 4] ?? 0;
  const condition = flags >>> 4;
  if (!POWER_CONDITIONS.includes(condition)) return task.fail(invalidFieldInCdb(4, 7));
  if (condition === 0 && (flags & LOEJ) !== 0) return task.fail(invalidFieldInCdb(4, 1));
  if ((flags & START) !== 0 || (flags & NO_FLUSH) !== 0) return step.finished;
  unit.device.flush(task);
  return step.waiting;
}

const SELF_TEST_CODE = 0xe0;
const SELF_TEST = 0x04;

/**
 * The default self-test (SPC-4 6.42): what the unit acknowledged can be made durable. There are no other self-tests, since
 * there is no log page for their results, and no diagnostic pages. DEVOFFL and UNITOFFL are permissions that the test does
 * not need; without SELFTEST and without pages nothing is asked for, which is no error.
 */
export function sendDiagnostic(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const flags = cdb[at + 1] ?? 0;
  if ((flags & SELF_TEST_CODE) !== 0) return task.fail(invalidFieldInCdb(1, 7));
  if (readU16(cdb, at + 3) !== 0) return task.fail(invalidFieldInCdb(3, 7));
  if ((flags & SELF_TEST) === 0) return step.finished;
  unit.device.flush(task);
  return step.waiting;
}
