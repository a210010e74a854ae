/**
 * Every command that a unit knows, one row each; what has no row is INVALID COMMAND OPERATION CODE.
 *
 * `usage` is the CDB usage data of SPC-4 6.35.3 in hexadecimal: the opcode, then the bits of each byte that the unit
 * evaluates. A CDB with any other bit set is refused, so a row is also its command's check of reserved fields. GROUP
 * NUMBER (1Fh) is accepted and has no meaning here; NACA and protection information are not supported.
 */
import { ioOps } from '../base/io-stats.js';
import type { IoOp } from '../base/io-stats.js';
import { readU16, readU24, readU32, readU64 } from './big-endian.js';
import type { Command } from './command.js';
import { inquiry, reportLuns } from './inquiry.js';
import { getLbaStatus } from './lba-status-command.js';
import { beginRead, beginWrite, readCapacity10, readCapacity16, synchronizeCache } from './medium-command.js';
import { acceptModeSelect, modeSelect, modeSense } from './mode-command.js';
import { acceptUnmap, acceptWriteSame, unmap, writeSame } from './provisioning-command.js';
import { step } from './task.js';
import { requestSense, startStopUnit } from './unit-command.js';

type Row = Omit<Command, 'usage' | 'inquiry' | 'passesAttention' | 'changesMedium' | 'op'> & {
  readonly usage: string;
  readonly op?: IoOp;
} & Partial<Pick<Command, 'inquiry' | 'passesAttention' | 'changesMedium'>>;

function row(given: Row): Command {
  return {
    inquiry: false,
    passesAttention: false,
    changesMedium: false,
    ...given,
    op: ioOps.indexOf(given.op ?? 'other'),
    usage: Uint8Array.from(given.usage.split(' '), (digits) => parseInt(digits, 16)),
  };
}

const information: readonly Command[] = [
  row({
    name: 'TEST UNIT READY',
    usage: '00 00 00 00 00 00',
    inquiry: true,
    begin: () => step.finished,
  }),
  row({
    name: 'REQUEST SENSE',
    usage: '03 01 00 00 ff 00',
    inquiry: true,
    passesAttention: true,
    begin: (_unit, task, cdb, at) => requestSense(task, cdb, at),
  }),
  row({
    name: 'INQUIRY',
    usage: '12 01 ff ff ff 00',
    inquiry: true,
    passesAttention: true,
    begin: inquiry,
  }),
  row({
    name: 'REPORT LUNS',
    usage: 'a0 00 ff 00 00 00 ff ff ff ff 00 00',
    inquiry: true,
    passesAttention: true,
    begin: (_unit, task, cdb, at) => reportLuns(task, cdb, at),
  }),
  row({
    name: 'READ CAPACITY(10)',
    usage: '25 00 00 00 00 00 00 00 00 00',
    inquiry: true,
    begin: readCapacity10,
  }),
  row({
    name: 'READ CAPACITY(16)',
    usage: '9e 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00',
    serviceAction: 0x10,
    inquiry: true,
    begin: readCapacity16,
  }),
  row({
    name: 'MODE SENSE(6)',
    usage: '1a 08 ff ff ff 00',
    inquiry: true,
    begin: (unit, task, cdb, at) => modeSense(unit, task, cdb, at, false),
  }),
  row({
    name: 'MODE SENSE(10)',
    usage: '5a 18 ff ff 00 00 00 ff ff 00',
    inquiry: true,
    begin: (unit, task, cdb, at) => modeSense(unit, task, cdb, at, true),
  }),
];

const control: readonly Command[] = [
  row({
    name: 'MODE SELECT(6)',
    usage: '15 11 00 00 ff 00',
    begin: (unit, task, cdb, at) => modeSelect(unit, task, cdb, at, false),
    accept: (unit, task, bytes, start, end) => acceptModeSelect(unit, task, bytes.subarray(start, end), false),
  }),
  row({
    name: 'MODE SELECT(10)',
    usage: '55 11 00 00 00 00 00 ff ff 00',
    begin: (unit, task, cdb, at) => modeSelect(unit, task, cdb, at, true),
    accept: (unit, task, bytes, start, end) => acceptModeSelect(unit, task, bytes.subarray(start, end), true),
  }),
  row({
    name: 'START STOP UNIT',
    usage: '1b 01 00 0f f7 00',
    begin: startStopUnit,
  }),
  row({
    // There is nothing to remove, so preventing it always succeeds.
    name: 'PREVENT ALLOW MEDIUM REMOVAL',
    usage: '1e 00 00 00 03 00',
    begin: () => step.finished,
  }),
];

/** READ(6) and WRITE(6) say 256 blocks with a length of 0 (SBC-3 5.7). */
const BLOCKS_OF_ZERO_6 = 256;

const reading: readonly Command[] = [
  row({
    name: 'READ(6)',
    usage: '08 1f ff ff ff 00',
    op: 'read',
    begin: (unit, task, cdb, at) =>
      beginRead(unit, task, readU24(cdb, at + 1) & 0x1f_ffff, (cdb[at + 4] ?? 0) || BLOCKS_OF_ZERO_6, 4),
  }),
  row({
    name: 'READ(10)',
    usage: '28 1a ff ff ff ff 1f ff ff 00',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7),
  }),
  row({
    name: 'READ(12)',
    usage: 'a8 1a ff ff ff ff ff ff ff ff 1f 00',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6),
  }),
  row({
    name: 'READ(16)',
    usage: '88 1a ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10),
  }),
];

const writing: readonly Command[] = [
  row({
    name: 'WRITE(6)',
    usage: '0a 1f ff ff ff 00',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU24(cdb, at + 1) & 0x1f_ffff, (cdb[at + 4] ?? 0) || BLOCKS_OF_ZERO_6, 4, 0),
  }),
  row({
    name: 'WRITE(10)',
    usage: '2a 1a ff ff ff ff 1f ff ff 00',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'WRITE(12)',
    usage: 'aa 1a ff ff ff ff ff ff ff ff 1f 00',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'WRITE(16)',
    usage: '8a 1a ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'SYNCHRONIZE CACHE(10)',
    usage: '35 06 ff ff ff ff 1f ff ff 00',
    op: 'flush',
    begin: (unit, task, cdb, at) => synchronizeCache(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7)),
  }),
  row({
    name: 'SYNCHRONIZE CACHE(16)',
    usage: '91 06 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    op: 'flush',
    begin: (unit, task, cdb, at) => synchronizeCache(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10)),
  }),
];

const provisioning: readonly Command[] = [
  row({
    name: 'GET LBA STATUS',
    usage: '9e 1f ff ff ff ff ff ff ff ff ff ff ff ff 00 00',
    serviceAction: 0x12,
    begin: getLbaStatus,
  }),
  row({
    name: 'UNMAP',
    usage: '42 00 00 00 00 00 1f ff ff 00',
    op: 'trim',
    changesMedium: true,
    begin: (_unit, task, cdb, at) => unmap(task, cdb, at),
    accept: (unit, task, bytes, start, end) => acceptUnmap(unit, task, bytes.subarray(start, end)),
  }),
  row({
    name: 'WRITE SAME(10)',
    usage: '41 08 ff ff ff ff 1f ff ff 00',
    op: 'zero',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeSame(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
    accept: (unit, task, bytes, start, end) => acceptWriteSame(unit, task, bytes.subarray(start, end)),
  }),
  row({
    name: 'WRITE SAME(16)',
    usage: '93 09 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    op: 'zero',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeSame(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
    accept: (unit, task, bytes, start, end) => acceptWriteSame(unit, task, bytes.subarray(start, end)),
  }),
];

export const commands: readonly Command[] = [...information, ...control, ...reading, ...writing, ...provisioning];

/** By opcode; an opcode with service actions has several. */
const byOpcode: readonly (readonly Command[])[] = Array.from({ length: 256 }, (_, opcode) =>
  commands.filter(({ usage }) => usage[0] === opcode),
);
/** The usual case: an opcode that is one command. */
const soleCommand: readonly (Command | undefined)[] = byOpcode.map((rows) =>
  rows[0]?.serviceAction === undefined ? rows[0] : undefined,
);
const SERVICE_ACTION = 0x1f;

export function findCommand(cdb: Uint8Array, at: number): Command | undefined {
  const opcode = cdb[at] ?? 0;
  const sole = soleCommand[opcode];
  if (sole !== undefined) return sole;
  const action = (cdb[at + 1] ?? 0) & SERVICE_ACTION;
  return byOpcode[opcode]?.find((each) => each.serviceAction === action);
}
