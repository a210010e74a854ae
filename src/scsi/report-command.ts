/**
 * What the unit can do and how it is reached: REPORT SUPPORTED OPERATION CODES (SPC-4 6.35), REPORT SUPPORTED TASK
 * MANAGEMENT FUNCTIONS (6.36), REPORT TARGET PORT GROUPS (6.37).
 */
import { readU16, readU32, writeU16, writeU32 } from './big-endian.js';
import type { Command, UnitContext } from './command.js';
import { invalidFieldInCdb } from './sense.js';
import type { ScsiTask, Step } from './task.js';
import { RELATIVE_PORT, TARGET_PORT_GROUP } from './unit-identity.js';

const RCTD = 0x80;
const SERVICE_ACTION = 0x1f;

/** SPC-4 table 267. */
const reporting = { all: 0, opcode: 1, opcodeWithAction: 2, opcodeOrAction: 3 } as const;

export function reportSupportedOpcodes(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const flags = cdb[at + 2] ?? 0;
  const withTimeouts = (flags & RCTD) !== 0;
  const wanted = cdb[at + 3] ?? 0;
  const action = readU16(cdb, at + 4);
  const allocationLength = readU32(cdb, at + 6);
  const supported = unit.commands.filter((each) => each.isSupported(unit));
  const rows = supported.filter(({ usage }) => usage[0] === wanted);
  const hasActions = rows.some(({ serviceAction }) => serviceAction !== undefined);
  switch (flags & ~RCTD) {
    case reporting.all:
      return task.answer(allCommands(supported, withTimeouts), allocationLength);
    case reporting.opcode:
      if (hasActions) return task.fail(invalidFieldInCdb(2, 2));
      return task.answer(oneCommand(rows[0], withTimeouts), allocationLength);
    case reporting.opcodeWithAction:
      if (rows.length > 0 && !hasActions) return task.fail(invalidFieldInCdb(2, 2));
      break;
    case reporting.opcodeOrAction:
      break;
    default:
      return task.fail(invalidFieldInCdb(2, 2));
  }
  const found = rows.find(({ serviceAction = 0 }) => serviceAction === action);
  return task.answer(oneCommand(found, withTimeouts), allocationLength);
}

const DESCRIPTOR_BYTES = 8;
const TIMEOUTS_BYTES = 12;

/**
 *   0-3 length of what follows   then per command, 8 or 20 bytes:
 *     0 opcode   2-3 service action   5 CTDP (bit 1), SERVACTV (bit 0)   6-7 length of the CDB   8.. time-outs
 */
function allCommands(commands: readonly Command[], withTimeouts: boolean): Uint8Array {
  const each = DESCRIPTOR_BYTES + (withTimeouts ? TIMEOUTS_BYTES : 0);
  const bytes = new Uint8Array(4 + commands.length * each);
  writeU32(bytes, 0, bytes.length - 4);
  commands.forEach((command, index) => {
    const at = 4 + index * each;
    bytes[at] = command.usage[0] ?? 0;
    writeU16(bytes, at + 2, command.serviceAction ?? 0);
    bytes[at + 5] = (withTimeouts ? 0x02 : 0) | (command.serviceAction === undefined ? 0 : 0x01);
    writeU16(bytes, at + 6, command.usage.length);
    if (withTimeouts) writeTimeouts(bytes, at + DESCRIPTOR_BYTES, command);
  });
  return bytes;
}

const NOT_SUPPORTED = 0x01;
const SUPPORTED = 0x03;

/** 1 CTDP (bit 7), SUPPORT   2-3 length of the CDB   4.. usage data   .. time-outs */
function oneCommand(command: Command | undefined, withTimeouts: boolean): Uint8Array {
  if (command === undefined) return Uint8Array.of(0, NOT_SUPPORTED, 0, 0);
  const { usage, serviceAction } = command;
  const bytes = new Uint8Array(4 + usage.length + (withTimeouts ? TIMEOUTS_BYTES : 0));
  bytes[1] = SUPPORTED | (withTimeouts ? 0x80 : 0);
  writeU16(bytes, 2, usage.length);
  bytes.set(usage, 4);
  // What the field must be, where it says which command this is.
  if (serviceAction !== undefined) bytes[5] = ((usage[1] ?? 0) & ~SERVICE_ACTION) | serviceAction;
  if (withTimeouts) writeTimeouts(bytes, 4 + usage.length, command);
  return bytes;
}

/** 0-1 length of what follows   4-7 nominal processing time   8-11 recommended time-out; in seconds, 0: none is named. */
function writeTimeouts(bytes: Uint8Array, at: number, { timeouts }: Command): void {
  writeU16(bytes, at, TIMEOUTS_BYTES - 2);
  writeU32(bytes, at + 4, timeouts.nominalSeconds);
  writeU32(bytes, at + 8, timeouts.recommendedSeconds);
}

const REPD = 0x80;
const SHORT_FUNCTIONS_BYTES = 4;
const LONG_FUNCTIONS_BYTES = 16;

/**
 *   0 ATS (bit 7), ATSS (6), CACAS (5), CTSS (4), LURS (3), QTS (2), TRS (1)   1 QAES (2), QTSS (1), ITNRS (0)
 *   3 length of what follows, with REPD: 4.. time-outs, of which none is named: no function waits for anything
 */
export function reportTaskFunctions(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const extended = ((cdb[at + 2] ?? 0) & REPD) !== 0;
  const bytes = new Uint8Array(extended ? LONG_FUNCTIONS_BYTES : SHORT_FUNCTIONS_BYTES);
  writeU16(bytes, 0, unit.port?.taskFunctions ?? 0);
  if (extended) bytes[3] = LONG_FUNCTIONS_BYTES - 4;
  return task.answer(bytes, readU32(cdb, at + 6));
}

const EXTENDED_HEADER = 0x20;
const ACTIVE_OPTIMIZED = 0x0;
const AO_SUP = 0x01;

/**
 * There is one group with one port, always active and optimized:
 *
 *   0-3 length of what follows   with PARAMETER DATA FORMAT 001b: 4 the format, 5 implicit transition time (none)
 *   then the group: 0 state   1 states that there are   2-3 group   7 ports   8.. each: 2-3 relative port
 */
export function reportTargetPortGroups(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const format = (cdb[at + 1] ?? 0) & ~SERVICE_ACTION;
  if (format !== 0 && format !== EXTENDED_HEADER) return task.fail(invalidFieldInCdb(1, 7));
  const start = format === 0 ? 4 : 8;
  const bytes = new Uint8Array(start + 12);
  writeU32(bytes, 0, bytes.length - 4);
  if (format !== 0) bytes[4] = 0x10;
  bytes[start] = ACTIVE_OPTIMIZED;
  bytes[start + 1] = AO_SUP;
  writeU16(bytes, start + 2, TARGET_PORT_GROUP);
  bytes[start + 7] = 1;
  writeU16(bytes, start + 10, RELATIVE_PORT);
  return task.answer(bytes, readU32(cdb, at + 6));
}
