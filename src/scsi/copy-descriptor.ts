/**
 * The parameter list of EXTENDED COPY(LID1) (SPC-4 6.3, 6.4.5, 6.4.6):
 *
 *   0 list identifier   1 STR (bit 5), LIST ID USAGE (4..3), priority   2-3 length of the CSCD descriptors
 *   8-11 length of the segment descriptors   12-15 length of the inline data   16.. CSCD descriptors, then segments
 *
 *   CSCD descriptor E4h, 32 bytes: 1 device type (4..0)   4 code set   5 association (5..4), designator type (3..0)
 *     7 designator length   8-27 designator   29-31 block length
 *   segment descriptor 02h, 28 bytes: 2-3 length (18h)   4-5, 6-7 CSCD indexes of source and destination
 *     10-11 blocks   12-19, 20-27 LBA of source and destination
 *
 * Copies go from the unit to itself: a CSCD descriptor either names this unit or something that cannot be reached.
 */
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import { readU16, readU24, readU32, readU64 } from './big-endian.js';
import { invalidFieldInParameterList, sense } from './sense.js';
import type { Sense } from './sense.js';
import { unitDesignators } from './unit-designator.js';

export const HEADER_BYTES = 16;
const CSCD_BYTES = 32;
const SEGMENT_BYTES = 28;
const IDENTIFICATION = 0xe4;
const BLOCK_TO_BLOCK = 0x02;

/** What RECEIVE COPY RESULTS and VPD page 8Fh say. */
export const copyLimits = {
  cscdMax: 16,
  segmentsMax: 64,
  descriptorBytesMax: 16 * CSCD_BYTES + 64 * SEGMENT_BYTES,
  /** The field for blocks has 16 bits. */
  segmentBytesMax: 0xffff * LOGICAL_BLOCK_BYTES,
  /** As an exponent of 2. */
  granularity: Math.log2(LOGICAL_BLOCK_BYTES),
  concurrentMax: 8,
  descriptorTypes: [BLOCK_TO_BLOCK, IDENTIFICATION],
} as const;

/** Service actions of RECEIVE COPY RESULTS that there are. */
export const receiveCopyAction = { copyStatus: 0x00, operatingParameters: 0x03, failedSegmentDetails: 0x04 } as const;

/** LIST ID USAGE. */
const usage = { held: 0, reserved: 1, discarded: 2, none: 3 } as const;

export interface Segment {
  /** Both ends are this unit; otherwise the copy ends here, with what is wrong. */
  readonly problem: Sense | undefined;
  readonly blocks: number;
  readonly fromLba: number;
  readonly toLba: number;
}

export interface CopyOrder {
  /** undefined: nobody will ask how it went. */
  readonly listId: number | undefined;
  readonly segments: readonly Segment[];
}

/** Checks the list as far as SPC-4 wants it checked before anything is copied. */
export function parseCopyOrder(list: Uint8Array, unitUuid: string): CopyOrder | { readonly refused: Sense } {
  if (list.length < HEADER_BYTES) return { refused: sense.parameterListLengthError };
  const idUsage = ((list[1] ?? 0) >>> 3) & 0x03;
  const cscdBytes = readU16(list, 2);
  const segmentBytes = readU32(list, 8);
  const inlineBytes = readU32(list, 12);
  if (cscdBytes + segmentBytes > copyLimits.descriptorBytesMax || inlineBytes > 0) {
    return { refused: sense.parameterListLengthError };
  }
  if (cscdBytes % CSCD_BYTES !== 0) return { refused: invalidFieldInParameterList(2, 7) };
  if (cscdBytes / CSCD_BYTES > copyLimits.cscdMax) return { refused: sense.tooManyTargetDescriptors };
  const end = HEADER_BYTES + cscdBytes + segmentBytes;
  if (end > list.length) return { refused: sense.parameterListLengthError };
  if (idUsage === usage.reserved) return { refused: invalidFieldInParameterList(1, 4) };
  if (idUsage === usage.none && list[0] !== 0) return { refused: invalidFieldInParameterList(0, 7) };
  const cscds = parseCscds(list, HEADER_BYTES + cscdBytes, unitUuid);
  if ('refused' in cscds) return cscds;
  const segments = parseSegments(list, HEADER_BYTES + cscdBytes, end, cscds.reachable);
  if ('refused' in segments) return segments;
  return { listId: idUsage === usage.held ? list[0] : undefined, segments: segments.all };
}

function parseCscds(
  list: Uint8Array,
  end: number,
  unitUuid: string,
): { readonly reachable: readonly boolean[] } | { readonly refused: Sense } {
  const reachable: boolean[] = [];
  for (let at = HEADER_BYTES; at < end; at += CSCD_BYTES) {
    if (list[at] !== IDENTIFICATION) return { refused: sense.unsupportedTargetDescriptor };
    const blockBytes = readU24(list, at + 29);
    if (blockBytes !== 0 && blockBytes !== LOGICAL_BLOCK_BYTES) {
      return { refused: invalidFieldInParameterList(at + 29, 7) };
    }
    const isDisk = ((list[at + 1] ?? 0) & 0x1f) === 0;
    reachable.push(isDisk && namesUnit(list.subarray(at + 4, at + 28), unitUuid));
  }
  return { reachable };
}

/** Whether a designation descriptor, padded with anything, is one of the unit's own. */
function namesUnit(descriptor: Uint8Array, unitUuid: string): boolean {
  return unitDesignators(unitUuid).some(
    (own) =>
      (((own[0] ?? 0) ^ (descriptor[0] ?? 0)) & 0x0f) === 0 &&
      (((own[1] ?? 0) ^ (descriptor[1] ?? 0)) & 0x3f) === 0 &&
      own.length <= descriptor.length &&
      own.subarray(3).every((byte, index) => descriptor[3 + index] === byte),
  );
}

function parseSegments(
  list: Uint8Array,
  start: number,
  end: number,
  reachable: readonly boolean[],
): { readonly all: readonly Segment[] } | { readonly refused: Sense } {
  const all: Segment[] = [];
  for (let at = start; at < end; at += SEGMENT_BYTES) {
    if (all.length === copyLimits.segmentsMax) return { refused: sense.tooManySegmentDescriptors };
    if (list[at] !== BLOCK_TO_BLOCK) return { refused: sense.unsupportedSegmentDescriptor };
    if (at + SEGMENT_BYTES > end) return { refused: sense.parameterListLengthError };
    if (readU16(list, at + 2) !== SEGMENT_BYTES - 4) return { refused: invalidFieldInParameterList(at + 2, 7) };
    const isReached = (indexAt: number): boolean => reachable[readU16(list, indexAt)] === true;
    all.push({
      problem: isReached(at + 4) && isReached(at + 6) ? undefined : sense.unreachableCopyTarget,
      blocks: readU16(list, at + 10),
      fromLba: readU64(list, at + 12),
      toLba: readU64(list, at + 20),
    });
  }
  return { all };
}
