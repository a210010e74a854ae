/** READ DEFECT DATA of 10 and 12 bytes (SBC-3 5.19, 5.20): there are no defects that an initiator could be told of. */
import { readU16, readU32 } from './big-endian.js';
import { invalidFieldInCdb } from './sense.js';
import type { ScsiTask, Step } from './task.js';

const FORMAT = 0x07;
const RESERVED_FORMAT = 0x07;

/** 1 PLISTV (bit 4), GLISTV (bit 3), format   2-3 list length; of 12 bytes: 2-3 generation, 4-7 list length */
export function readDefectData(task: ScsiTask, cdb: Uint8Array, at: number, long: boolean): Step {
  const flagsAt = long ? 1 : 2;
  const flags = cdb[at + flagsAt] ?? 0;
  if ((flags & FORMAT) === RESERVED_FORMAT) return task.fail(invalidFieldInCdb(flagsAt, 2));
  const bytes = new Uint8Array(long ? 8 : 4);
  // Whichever list was asked for is there, and empty.
  bytes[1] = flags;
  return task.answer(bytes, long ? readU32(cdb, at + 6) : readU16(cdb, at + 7));
}
