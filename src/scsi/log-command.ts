/**
 * LOG SENSE (SPC-4 6.8, 7.3). The unit counts nothing that a log page is made for (`/metrics` has that); the pages say so
 * in the form that initiators look for. Nothing is saved, and nothing can be set.
 */
import { readU16, writeU16 } from './big-endian.js';
import { invalidFieldInCdb } from './sense.js';
import type { ScsiTask, Step } from './task.js';

const ALL_SUBPAGES = 0xff;
const SUBPAGE_FORMAT = 0x40;
const INFORMATIONAL_EXCEPTIONS = 0x2f;
const TEMPERATURE_UNKNOWN = 0xff;

interface LogPage {
  readonly code: number;
  readonly subpage: number;
  /** What follows the page's four-byte header. */
  body(): Uint8Array;
}

const pages: readonly LogPage[] = [
  { code: 0x00, subpage: 0x00, body: () => Uint8Array.from(mainPages(), ({ code }) => code) },
  {
    code: 0x00,
    subpage: ALL_SUBPAGES,
    body: () => Uint8Array.from(pages.flatMap(({ code, subpage }) => [code, subpage])),
  },
  // Parameter 0000h, a binary list: ASC, ASCQ (no exception is pending), temperature.
  {
    code: INFORMATIONAL_EXCEPTIONS,
    subpage: 0x00,
    body: () => Uint8Array.of(0, 0, 0x03, 4, 0, 0, TEMPERATURE_UNKNOWN, 0),
  },
];

function mainPages(): readonly LogPage[] {
  return pages.filter(({ subpage }) => subpage === 0);
}

/** 0 SPF (bit 6) and page code   1 subpage   2-3 length of what follows */
export function logSense(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const code = (cdb[at + 2] ?? 0) & 0x3f;
  const subpage = cdb[at + 3] ?? 0;
  const withCode = pages.filter((each) => each.code === code);
  if (withCode.length === 0) return task.fail(invalidFieldInCdb(2, 5));
  const page = withCode.find((each) => each.subpage === subpage);
  if (page === undefined) return task.fail(invalidFieldInCdb(3, 7));
  // The largest parameter code that there is: 0000h.
  if (readU16(cdb, at + 5) > 0) return task.fail(invalidFieldInCdb(5, 7));
  const body = page.body();
  const bytes = new Uint8Array(4 + body.length);
  bytes[0] = code | (subpage === 0 ? 0 : SUBPAGE_FORMAT);
  bytes[1] = subpage;
  writeU16(bytes, 2, body.length);
  bytes.set(body, 4);
  return task.answer(bytes, readU16(cdb, at + 7));
}
