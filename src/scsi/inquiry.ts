/**
 * INQUIRY and REPORT LUNS (SPC-4 6.6, 6.33), and the vital product data pages (SPC-4 7.8, SBC-3 6.6).
 */
import { limits } from '../base/limits.js';
import { BLOCK_BYTES, LOGICAL_BLOCK_BYTES, MIB } from '../base/units.js';
import { readU16, readU32, writeText, writeU16, writeU32 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { thirdPartyCopy } from './copy-page.js';
import { invalidFieldInCdb, SENSE_BYTES_MAX } from './sense.js';
import type { ScsiTask, Step } from './task.js';
import { portDesignators, unitDesignators } from './unit-designator.js';
import { serialNumber, VENDOR } from './unit-identity.js';

const PRODUCT = 'VOLUME';
const REVISION = '0001';
const EVPD = 0x01;

/** Peripheral qualifier 011b, type 1Fh: the target has no such unit (SPC-4 6.6.2). */
export const NO_SUCH_UNIT = 0x7f;

/**
 * Standard INQUIRY data:
 *
 *   0      qualifier and device type: 00h, a direct access block device     16..31 product
 *   2      version: 06h, SPC-4                                              32..35 revision
 *   3      HISUP (bit 4), response data format 2                            58..   version descriptors
 *   4      additional length                                                  SAM-5, SPC-4, SBC-3, the transport's
 *   5      TPGS (bits 5..4) 01b: REPORT TARGET PORT GROUPS, states change by themselves; 3PC (bit 3)
 *   7      CMDQUE (bit 1)
 *   8..15  vendor
 */
const STANDARD_BYTES = 96;
const TPGS_IMPLICIT = 0x10;
const THIRD_PARTY_COPY = 0x08;
const SAM_5 = 0x00a0;
const SPC_4 = 0x0460;
const SBC_3 = 0x04c0;

export function standardInquiry(transportVersion: number, peripheral: number): Uint8Array {
  const bytes = new Uint8Array(STANDARD_BYTES);
  bytes[0] = peripheral;
  bytes[2] = 0x06;
  bytes[3] = 0x12;
  bytes[4] = STANDARD_BYTES - 5;
  if (peripheral !== NO_SUCH_UNIT) bytes[5] = TPGS_IMPLICIT | THIRD_PARTY_COPY;
  bytes[7] = 0x02;
  writeText(bytes, 8, VENDOR, 8);
  writeText(bytes, 16, PRODUCT, 16);
  writeText(bytes, 32, REVISION, 4);
  [SAM_5, SPC_4, SBC_3, transportVersion].forEach((version, index) => writeU16(bytes, 58 + 2 * index, version));
  return bytes;
}

export function inquiry(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const code = cdb[at + 2] ?? 0;
  const allocationLength = readU16(cdb, at + 3);
  if (((cdb[at + 1] ?? 0) & EVPD) === 0) {
    if (code !== 0) return task.fail(invalidFieldInCdb(2, 7));
    return task.answer(standardInquiry(unit.transportVersion, 0), allocationLength);
  }
  const body = vitalProductData.find((page) => page.code === code)?.body(unit);
  if (body === undefined) return task.fail(invalidFieldInCdb(2, 7));
  const bytes = new Uint8Array(4 + body.length);
  bytes[1] = code;
  writeU16(bytes, 2, body.length);
  bytes.set(body, 4);
  return task.answer(bytes, allocationLength);
}

interface VitalProductDataPage {
  readonly code: number;
  /** What follows the page's four-byte header. */
  body(unit: UnitContext): Uint8Array;
}

const vitalProductData: readonly VitalProductDataPage[] = [
  { code: 0x00, body: () => Uint8Array.from(vitalProductData, ({ code }) => code) },
  { code: 0x80, body: ({ device }) => text(serialNumber(device.uuid)) },
  { code: 0x83, body: ({ device, port }) => concatenate([...unitDesignators(device.uuid), ...portDesignators(port)]) },
  { code: 0x86, body: extendedInquiry },
  { code: 0x8f, body: thirdPartyCopy },
  { code: 0xb0, body: blockLimits },
  { code: 0xb1, body: blockCharacteristics },
  { code: 0xb2, body: logicalBlockProvisioning },
];

function text(value: string): Uint8Array {
  const bytes = new Uint8Array(value.length);
  writeText(bytes, 0, value, value.length);
  return bytes;
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** In logical blocks. */
export const transferLimits = {
  transferMax: limits.scsiTransferBytesMax / LOGICAL_BLOCK_BYTES,
  transferOptimal: limits.recordBytesMax / LOGICAL_BLOCK_BYTES,
  granularity: BLOCK_BYTES / LOGICAL_BLOCK_BYTES,
  /** No limit: a trim of any length is one record. */
  unmapMax: 0xffff_ffff,
  unmapDescriptorsMax: 256,
  /** The field has one byte; it is within limits.updateBytesMax. */
  compareAndWriteMax: 255,
  prefetchMax: (64 * MIB) / LOGICAL_BLOCK_BYTES,
  /** One record of the log, which a crash leaves whole or not at all; in whole blocks of the volume. */
  atomicMax: limits.updateBytesMax / LOGICAL_BLOCK_BYTES,
  /** Just below 4 GiB, in whole blocks of the volume. */
  writeSameMax: 0x7f_fff8,
} as const;

/** SBC-3 6.6.3; offsets are those of the page less its header of 4. */
function blockLimits(): Uint8Array {
  const body = new Uint8Array(0x3c);
  body[0] = 0x01; // WSNZ: WRITE SAME of zero blocks is refused
  body[1] = transferLimits.compareAndWriteMax;
  writeU16(body, 2, transferLimits.granularity);
  writeU32(body, 4, transferLimits.transferMax);
  writeU32(body, 8, transferLimits.transferOptimal);
  writeU32(body, 12, transferLimits.prefetchMax);
  writeU32(body, 16, transferLimits.unmapMax);
  writeU32(body, 20, transferLimits.unmapDescriptorsMax);
  writeU32(body, 24, transferLimits.granularity);
  body[28] = 0x80; // UGAVALID, alignment 0
  writeU32(body, 36, transferLimits.writeSameMax); // the upper half of the field stays zero
  writeU32(body, 40, transferLimits.atomicMax);
  writeU32(body, 44, transferLimits.granularity); // atomic alignment
  writeU32(body, 48, transferLimits.granularity); // atomic transfer length granularity; no atomic boundaries
  return body;
}

/**
 * Extended INQUIRY data (SPC-4 7.8.7), of what follows the header of 4: SIMPSUP (a task has no other attribute that
 * would mean anything), V_SUP (there is a volatile cache), the most sense data that there are.
 */
function extendedInquiry(): Uint8Array {
  const body = new Uint8Array(0x3c);
  body[1] = 0x01;
  body[2] = 0x01;
  body[9] = SENSE_BYTES_MAX;
  return body;
}

/** After a BLOCK ERASE every block may be read. WACEREQ is 00b: there is no cryptographic erase. */
const WABEREQ_READABLE = 0x40;

/** SBC-3 6.6.2. */
function blockCharacteristics({ sanitizer }: UnitContext): Uint8Array {
  const body = new Uint8Array(0x3c);
  writeU16(body, 0, 1); // does not rotate
  if (sanitizer !== undefined) body[3] = WABEREQ_READABLE;
  return body;
}

/** SBC-3 6.6.4: LBPU, LBPWS, LBPWS10, LBPRZ=1 (unmapped blocks read as zero); thin provisioned. */
function logicalBlockProvisioning(): Uint8Array {
  return Uint8Array.of(0, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0);
}

const LUN_LIST_ALLOCATION_MIN = 16;
const SELECT_WELL_KNOWN = 1;
const SELECT_MAX = 2;

/** One unit, LUN 0, and no well-known ones. */
export function reportLuns(task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const select = cdb[at + 2] ?? 0;
  if (select > SELECT_MAX) return task.fail(invalidFieldInCdb(2, 7));
  const allocationLength = readU32(cdb, at + 6);
  if (allocationLength < LUN_LIST_ALLOCATION_MIN) return task.fail(invalidFieldInCdb(6, 7));
  const listBytes = select === SELECT_WELL_KNOWN ? 0 : 8;
  const bytes = new Uint8Array(8 + listBytes);
  writeU32(bytes, 0, listBytes);
  return task.answer(bytes, allocationLength);
}
