/** VERIFY and WRITE AND VERIFY in every length, COMPARE AND WRITE, ORWRITE (SBC-3 5.2, 5.6, 5.29 to 5.31, 5.36 to 5.38). */
import { readU16, readU32, readU64 } from '../big-endian.js';
import type { Command } from '../command.js';
import { acceptCompareAndWrite, acceptOrWrite, compareAndWrite, orWrite } from '../update-command.js';
import { acceptVerify, acceptWriteAndVerify, verify, writeAndVerify } from '../verify-command.js';
import { row } from './row.js';

export const checking: readonly Command[] = [
  row({
    name: 'VERIFY(10)',
    usage: '2f 16 ff ff ff ff 1f ff ff 00',
    needs: 'read',
    begin: (unit, task, cdb, at) => verify(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
    accept: acceptVerify,
  }),
  row({
    name: 'VERIFY(12)',
    usage: 'af 16 ff ff ff ff ff ff ff ff 1f 00',
    needs: 'read',
    begin: (unit, task, cdb, at) => verify(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6, cdb[at + 1] ?? 0),
    accept: acceptVerify,
  }),
  row({
    name: 'VERIFY(16)',
    usage: '8f 16 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'read',
    begin: (unit, task, cdb, at) =>
      verify(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
    accept: acceptVerify,
  }),
  row({
    name: 'WRITE AND VERIFY(10)',
    usage: '2e 12 ff ff ff ff 1f ff ff 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeAndVerify(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
    accept: acceptWriteAndVerify,
  }),
  row({
    name: 'WRITE AND VERIFY(12)',
    usage: 'ae 12 ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeAndVerify(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6, cdb[at + 1] ?? 0),
    accept: acceptWriteAndVerify,
  }),
  row({
    name: 'WRITE AND VERIFY(16)',
    usage: '8e 12 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      writeAndVerify(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
    accept: acceptWriteAndVerify,
  }),
  row({
    name: 'COMPARE AND WRITE',
    usage: '89 18 ff ff ff ff ff ff ff ff 00 00 00 ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: compareAndWrite,
    accept: acceptCompareAndWrite,
  }),
  row({
    name: 'ORWRITE(16)',
    usage: '8b 1a ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: orWrite,
    accept: acceptOrWrite,
  }),
];
