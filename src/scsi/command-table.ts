/**
 * Every command that a unit knows, one row each, in groups of their own files; what has no row is INVALID COMMAND
 * OPERATION CODE.
 *
 * FORMAT UNIT (SBC-3 5.3) has none, on purpose: there is one block length, no protection information and no defect list,
 * so all that it could do is to lose everything at once. UNMAP frees blocks, and SANITIZE makes them unreadable.
 */
import type { Command } from './command.js';
import { checking } from './command-group/checking.js';
import { control } from './command-group/control.js';
import { copying } from './command-group/copying.js';
import { information } from './command-group/information.js';
import { provisioning } from './command-group/provisioning.js';
import { reading } from './command-group/reading.js';
import { report } from './command-group/report.js';
import { reservation } from './command-group/reservation.js';
import { sanitize } from './command-group/sanitize.js';
import { writing } from './command-group/writing.js';

export const commands: readonly Command[] = [
  ...information,
  ...report,
  ...control,
  ...reading,
  ...writing,
  ...checking,
  ...provisioning,
  ...copying,
  ...sanitize,
  ...reservation,
];

/** By opcode; an opcode with service actions has several. */
const byOpcode: readonly (readonly Command[])[] = Array.from({ length: 256 }, (_, opcode) =>
  commands.filter(({ usage }) => usage[0] === opcode),
);
/** The usual case: an opcode that is one command. */
const soleCommand: readonly (Command | undefined)[] = byOpcode.map((rows) =>
  rows[0]?.serviceAction === undefined ? rows[0] : undefined,
);
const SERVICE_ACTION = 0x1f;

/** Whether an opcode is known, though not its service action. */
export function isKnownOpcode(opcode: number): boolean {
  return (byOpcode[opcode]?.length ?? 0) > 0;
}

export function findCommand(cdb: Uint8Array, at: number): Command | undefined {
  const opcode = cdb[at] ?? 0;
  const sole = soleCommand[opcode];
  if (sole !== undefined) return sole;
  const action = (cdb[at + 1] ?? 0) & SERVICE_ACTION;
  return byOpcode[opcode]?.find((each) => each.serviceAction === action);
}
