/** WRITE in every length, SYNCHRONIZE CACHE (SBC-3 5.22, 5.32 to 5.35). */
import { readU16, readU24, readU32, readU64 } from '../big-endian.js';
import type { Command } from '../command.js';
import { beginWrite, beginWriteAtomic, BLOCKS_OF_ZERO_6, synchronizeCache } from '../medium-command.js';
import { row } from './row.js';

export const writing: readonly Command[] = [
  row({
    name: 'WRITE(6)',
    usage: '0a 1f ff ff ff 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU24(cdb, at + 1) & 0x1f_ffff, (cdb[at + 4] ?? 0) || BLOCKS_OF_ZERO_6, 4, 0),
  }),
  row({
    name: 'WRITE(10)',
    usage: '2a 1a ff ff ff ff 1f ff ff 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'WRITE(12)',
    usage: 'aa 1a ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'WRITE(16)',
    usage: '8a 1a ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: (unit, task, cdb, at) =>
      beginWrite(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10, cdb[at + 1] ?? 0),
  }),
  row({
    name: 'WRITE ATOMIC(16)',
    usage: '9c 18 ff ff ff ff ff ff ff ff 00 00 ff ff 1f 00',
    needs: 'write',
    op: 'write',
    changesMedium: true,
    begin: beginWriteAtomic,
  }),
  row({
    name: 'SYNCHRONIZE CACHE(10)',
    usage: '35 06 ff ff ff ff 1f ff ff 00',
    needs: 'write',
    op: 'flush',
    begin: (unit, task, cdb, at) => synchronizeCache(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7)),
  }),
  row({
    name: 'SYNCHRONIZE CACHE(16)',
    usage: '91 06 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'write',
    op: 'flush',
    begin: (unit, task, cdb, at) => synchronizeCache(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10)),
  }),
];
