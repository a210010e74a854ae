/** READ in every length (SBC-3 5.8 to 5.11). */
import { readU16, readU24, readU32, readU64 } from '../big-endian.js';
import type { Command } from '../command.js';
import { beginRead, prefetch, BLOCKS_OF_ZERO_6 } from '../medium-command.js';
import { row } from './row.js';

export const reading: readonly Command[] = [
  row({
    name: 'READ(6)',
    usage: '08 1f ff ff ff 00',
    needs: 'read',
    op: 'read',
    begin: (unit, task, cdb, at) =>
      beginRead(unit, task, readU24(cdb, at + 1) & 0x1f_ffff, (cdb[at + 4] ?? 0) || BLOCKS_OF_ZERO_6, 4),
  }),
  row({
    name: 'READ(10)',
    usage: '28 1a ff ff ff ff 1f ff ff 00',
    needs: 'read',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), 7),
  }),
  row({
    name: 'READ(12)',
    usage: 'a8 1a ff ff ff ff ff ff ff ff 1f 00',
    needs: 'read',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU32(cdb, at + 2), readU32(cdb, at + 6), 6),
  }),
  row({
    name: 'READ(16)',
    usage: '88 1a ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'read',
    op: 'read',
    begin: (unit, task, cdb, at) => beginRead(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), 10),
  }),
  row({
    name: 'PRE-FETCH(10)',
    usage: '34 02 ff ff ff ff 1f ff ff 00',
    needs: 'read',
    op: 'cache',
    begin: (unit, task, cdb, at) => prefetch(unit, task, readU32(cdb, at + 2), readU16(cdb, at + 7), cdb[at + 1] ?? 0),
  }),
  row({
    name: 'PRE-FETCH(16)',
    usage: '90 02 ff ff ff ff ff ff ff ff ff ff ff ff 1f 00',
    needs: 'read',
    op: 'cache',
    begin: (unit, task, cdb, at) => prefetch(unit, task, readU64(cdb, at + 2), readU32(cdb, at + 10), cdb[at + 1] ?? 0),
  }),
];
