/** Third-party copy, within the unit (SPC-4 6.3, 6.18). */
import type { Command } from '../command.js';
import {
  acceptExtendedCopy,
  extendedCopy,
  receiveCopyStatus,
  receiveFailedSegment,
  receiveOperatingParameters,
} from '../copy-command.js';
import { receiveCopyAction } from '../copy-descriptor.js';
import { row } from './row.js';

function receiveRow(name: string, serviceAction: number, begin: Command['begin']): Command {
  const usage = '84 1f ff 00 00 00 00 00 00 00 ff ff ff ff 00 00';
  return row({ name: `RECEIVE COPY RESULTS, ${name}`, usage, serviceAction, needs: 'write', begin });
}

export const copying: readonly Command[] = [
  row({
    name: 'EXTENDED COPY(LID1)',
    usage: '83 1f 00 00 00 00 00 00 00 00 ff ff ff ff 00 00',
    serviceAction: 0x00,
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (_unit, task, cdb, at) => extendedCopy(task, cdb, at),
    accept: acceptExtendedCopy,
  }),
  receiveRow('COPY STATUS', receiveCopyAction.copyStatus, receiveCopyStatus),
  receiveRow('OPERATING PARAMETERS', receiveCopyAction.operatingParameters, (_unit, task, cdb, at) =>
    receiveOperatingParameters(task, cdb, at),
  ),
  receiveRow('FAILED SEGMENT DETAILS', receiveCopyAction.failedSegmentDetails, receiveFailedSegment),
];
