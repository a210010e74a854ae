/** MAINTENANCE IN: what the unit can do, and how it is reached (SPC-4 6.35 to 6.37). */
import type { Command } from '../command.js';
import { reportSupportedOpcodes, reportTargetPortGroups, reportTaskFunctions } from '../report-command.js';
import { row } from './row.js';

export const report: readonly Command[] = [
  row({
    name: 'REPORT TARGET PORT GROUPS',
    usage: 'a3 ff 00 00 00 00 ff ff ff ff 00 00',
    needs: 'nothing',
    serviceAction: 0x0a,
    inquiry: true,
    begin: (_unit, task, cdb, at) => reportTargetPortGroups(task, cdb, at),
  }),
  row({
    name: 'REPORT SUPPORTED OPERATION CODES',
    usage: 'a3 1f 87 ff ff ff ff ff ff ff 00 00',
    needs: 'read',
    serviceAction: 0x0c,
    inquiry: true,
    begin: reportSupportedOpcodes,
  }),
  row({
    name: 'REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS',
    usage: 'a3 1f 80 00 00 00 ff ff ff ff 00 00',
    needs: 'read',
    serviceAction: 0x0d,
    inquiry: true,
    begin: reportTaskFunctions,
  }),
];
