/** Commands that change the unit's state, not its medium. */
import type { Command } from '../command.js';
import { acceptModeSelect, modeSelect } from '../mode-command.js';
import { step } from '../task.js';
import { sendDiagnostic, startStopUnit } from '../unit-command.js';
import { row } from './row.js';

export const control: readonly Command[] = [
  row({
    name: 'MODE SELECT(6)',
    usage: '15 11 00 00 ff 00',
    needs: 'write',
    begin: (unit, task, cdb, at) => modeSelect(unit, task, cdb, at, false),
    accept: (unit, task, list) => acceptModeSelect(unit, task, list, false),
  }),
  row({
    name: 'MODE SELECT(10)',
    usage: '55 11 00 00 00 00 00 ff ff 00',
    needs: 'write',
    begin: (unit, task, cdb, at) => modeSelect(unit, task, cdb, at, true),
    accept: (unit, task, list) => acceptModeSelect(unit, task, list, true),
  }),
  row({
    name: 'START STOP UNIT',
    usage: '1b 01 00 0f f7 00',
    needs: 'write',
    // Starting it is for everybody (SBC-3 table 13).
    needsOf: (cdb, at) => (((cdb[at + 4] ?? 0) & 0xf1) === 0x01 ? 'nothing' : 'write'),
    begin: startStopUnit,
  }),
  row({
    // There is nothing to remove, so preventing it always succeeds.
    name: 'PREVENT ALLOW MEDIUM REMOVAL',
    usage: '1e 00 00 00 03 00',
    needs: 'write',
    needsOf: (cdb, at) => (((cdb[at + 4] ?? 0) & 0x03) === 0 ? 'nothing' : 'write'),
    begin: () => step.finished,
  }),
  row({
    name: 'SEND DIAGNOSTIC',
    usage: '1d f7 00 ff ff 00',
    needs: 'write',
    begin: sendDiagnostic,
  }),
];
