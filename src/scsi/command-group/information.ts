/** Commands that learn about the unit. */
import type { Command } from '../command.js';
import { readDefectData } from '../defect-command.js';
import { inquiry, reportLuns } from '../inquiry.js';
import { logSense } from '../log-command.js';
import { readCapacity10, readCapacity16 } from '../medium-command.js';
import { modeSense } from '../mode-command.js';
import { step } from '../task.js';
import { requestSense } from '../unit-command.js';
import { row } from './row.js';

export const information: readonly Command[] = [
  row({
    name: 'TEST UNIT READY',
    usage: '00 00 00 00 00 00',
    needs: 'unit',
    inquiry: true,
    begin: () => step.finished,
  }),
  row({
    name: 'REQUEST SENSE',
    usage: '03 01 00 00 ff 00',
    needs: 'nothing',
    inquiry: true,
    passesAttention: true,
    begin: requestSense,
  }),
  row({
    name: 'INQUIRY',
    usage: '12 01 ff ff ff 00',
    needs: 'nothing',
    inquiry: true,
    passesAttention: true,
    begin: inquiry,
  }),
  row({
    name: 'REPORT LUNS',
    usage: 'a0 00 ff 00 00 00 ff ff ff ff 00 00',
    needs: 'nothing',
    inquiry: true,
    passesAttention: true,
    begin: (_unit, task, cdb, at) => reportLuns(task, cdb, at),
  }),
  row({
    name: 'READ CAPACITY(10)',
    usage: '25 00 00 00 00 00 00 00 00 00',
    needs: 'nothing',
    inquiry: true,
    begin: readCapacity10,
  }),
  row({
    name: 'READ CAPACITY(16)',
    usage: '9e 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00',
    needs: 'nothing',
    serviceAction: 0x10,
    inquiry: true,
    begin: readCapacity16,
  }),
  row({
    name: 'MODE SENSE(6)',
    usage: '1a 08 ff ff ff 00',
    needs: 'read',
    inquiry: true,
    begin: (unit, task, cdb, at) => modeSense(unit, task, cdb, at, false),
  }),
  row({
    name: 'MODE SENSE(10)',
    usage: '5a 18 ff ff 00 00 00 ff ff 00',
    needs: 'read',
    inquiry: true,
    begin: (unit, task, cdb, at) => modeSense(unit, task, cdb, at, true),
  }),
  row({
    name: 'LOG SENSE',
    usage: '4d 00 ff ff 00 ff ff ff ff 00',
    needs: 'nothing',
    inquiry: true,
    begin: (_unit, task, cdb, at) => logSense(task, cdb, at),
  }),
  row({
    name: 'READ DEFECT DATA(10)',
    usage: '37 00 1f 00 00 00 00 ff ff 00',
    needs: 'read',
    inquiry: true,
    begin: (_unit, task, cdb, at) => readDefectData(task, cdb, at, false),
  }),
  row({
    name: 'READ DEFECT DATA(12)',
    usage: 'b7 1f ff ff ff ff ff ff ff ff 00 00',
    needs: 'read',
    inquiry: true,
    begin: (_unit, task, cdb, at) => readDefectData(task, cdb, at, true),
  }),
];
