/** Commands about what is allocated (SBC-3 5.4, 5.28, 5.44, 5.45). */
import { readU16, readU32, readU64 } from '../big-endian.js';
import type { Command } from '../command.js';
import { getLbaStatus } from '../lba-status-command.js';
import { acceptUnmap, acceptWriteSame, unmap, writeSame } from '../provisioning-command.js';
import { row } from './row.js';

export const provisioning: readonly Command[] = [
  row({
    name: 'GET LBA STATUS',
    usage: '9e 1f ff ff ff ff ff ff ff ff ff ff ff ff 00 00',
    needs: 'read',
    serviceAction: 0x12,
    begin: getLbaStatus,
  }),
  row({
    name: 'UNMAP',
    usage: '42 00 00 00 00 00 1f ff ff 00',
    needs: 'write',
    op: 'trim',
    changesMedium: true,
    begin: (_unit, task, cdb, at) => unmap(task, cdb, at),
    accept: acceptUnmap,
  }),
  row({
    name: 'WRITE SAME(10)',
    usage: '41 08 ff ff ff ff 1f ff ff 00',
    needs: 'write',
    op: 'zero',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeSame(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
    accept: acceptWriteSame,
  }),
  row({
    name: 'WRITE SAME(16)',
    usage: '93 09 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'zero',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeSame(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
    accept: acceptWriteSame,
  }),
];
