/** MODE SENSE and MODE SELECT, 6 and 10 bytes (SPC-4 6.9 to 6.12, 7.5). */
import { LOGICAL_BLOCK_BYTES } from '../base/units.js';
import { readU16, readU24, writeU16, writeU24, writeU32, writeU64 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { allPages, allSubpages, pageControl, pageHeaderBytes } from './mode-page.js';
import { invalidFieldInCdb, invalidFieldInParameterList, sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const SHORT_DESCRIPTOR_BYTES = 8;
const LONG_DESCRIPTOR_BYTES = 16;
const U32_MAX = 0xffff_ffff;

/** Device-specific parameter (SBC-3 6.5.1). */
const WP = 0x80;
const DPOFUA = 0x10;

/**
 *   header of 6:  0 length - 1, 1 medium type, 2 device-specific, 3 block descriptor length
 *   header of 10: 0-1 length - 2, 2 medium type, 3 device-specific, 4 LONGLBA (bit 0), 6-7 block descriptor length
 */
export function modeSense(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number, long: boolean): Step {
  const control = (cdb[at + 2] ?? 0) >>> 6;
  if (control === pageControl.saved) return task.fail(sense.savingParametersNotSupported);
  const code = (cdb[at + 2] ?? 0) & 0x3f;
  const subpage = cdb[at + 3] ?? 0;
  if (code === allPages && subpage !== 0 && subpage !== allSubpages) return task.fail(invalidFieldInCdb(3, 7));
  const pages = unit.modes.select(code, subpage, control);
  if (pages.length === 0) {
    const isKnown = unit.modes.select(code, allSubpages, control).length > 0;
    return task.fail(isKnown ? invalidFieldInCdb(3, 7) : invalidFieldInCdb(2, 5));
  }
  const noDescriptor = ((cdb[at + 1] ?? 0) & 0x08) !== 0;
  const longLba = long && ((cdb[at + 1] ?? 0) & 0x10) !== 0;
  const descriptor = noDescriptor ? new Uint8Array(0) : blockDescriptor(unit, longLba);
  const headerBytes = long ? 8 : 4;
  const bytes = new Uint8Array(headerBytes + descriptor.length + pages.reduce((sum, page) => sum + page.length, 0));
  const specific = DPOFUA | (unit.device.readOnly || unit.modes.softwareWriteProtect ? WP : 0);
  if (long) {
    writeU16(bytes, 0, bytes.length - 2);
    bytes[3] = specific;
    bytes[4] = longLba ? 1 : 0;
    writeU16(bytes, 6, descriptor.length);
  } else {
    bytes[0] = bytes.length - 1;
    bytes[2] = specific;
    bytes[3] = descriptor.length;
  }
  bytes.set(descriptor, headerBytes);
  let position = headerBytes + descriptor.length;
  for (const page of pages) {
    bytes.set(page, position);
    position += page.length;
  }
  return task.answer(bytes, long ? readU16(cdb, at + 7) : (cdb[at + 4] ?? 0));
}

/** SBC-3 6.5.2. */
function blockDescriptor(unit: UnitContext, longLba: boolean): Uint8Array {
  const blocks = unit.device.sizeBytes / LOGICAL_BLOCK_BYTES;
  const bytes = new Uint8Array(longLba ? LONG_DESCRIPTOR_BYTES : SHORT_DESCRIPTOR_BYTES);
  if (longLba) {
    writeU64(bytes, 0, blocks);
    writeU32(bytes, 12, LOGICAL_BLOCK_BYTES);
  } else {
    writeU32(bytes, 0, Math.min(blocks, U32_MAX));
    writeU24(bytes, 5, LOGICAL_BLOCK_BYTES);
  }
  return bytes;
}

const PF = 0x10;
const SP = 0x01;

export function modeSelect(_unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number, long: boolean): Step {
  const flags = cdb[at + 1] ?? 0;
  if ((flags & PF) === 0) return task.fail(invalidFieldInCdb(1, 4));
  if ((flags & SP) !== 0) return task.fail(invalidFieldInCdb(1, 0));
  task.parameterBytes = long ? readU16(cdb, at + 7) : (cdb[at + 4] ?? 0);
  return task.parameterBytes === 0 ? step.finished : step.collect;
}

/** Checks the whole list before anything of it takes effect. */
export function acceptModeSelect(unit: UnitContext, task: ScsiTask, list: Uint8Array, long: boolean): Step {
  const headerBytes = long ? 8 : 4;
  if (list.length < headerBytes) return task.fail(sense.parameterListLengthError);
  const descriptorBytes = long ? readU16(list, 6) : (list[3] ?? 0);
  const longLba = long && ((list[4] ?? 0) & 1) !== 0;
  const expected = longLba ? LONG_DESCRIPTOR_BYTES : SHORT_DESCRIPTOR_BYTES;
  if (descriptorBytes !== 0 && descriptorBytes !== expected)
    return task.fail(invalidFieldInParameterList(long ? 6 : 3, 7));
  if (list.length < headerBytes + descriptorBytes) return task.fail(sense.parameterListLengthError);
  if (descriptorBytes !== 0) {
    const blockBytes = longLba ? readU24(list, headerBytes + 13) : readU24(list, headerBytes + 5);
    if (blockBytes !== LOGICAL_BLOCK_BYTES) return task.fail(invalidFieldInParameterList(headerBytes + 5, 7));
  }
  const pages: Uint8Array[] = [];
  for (let at = headerBytes + descriptorBytes; at < list.length;) {
    const lengthBytes = pageBytes(list, at);
    if (lengthBytes > list.length - at) return task.fail(sense.parameterListLengthError);
    const page = list.subarray(at, at + lengthBytes);
    const refused = unit.modes.refusedBit(page);
    if (refused !== undefined) return task.fail(invalidFieldInParameterList(at + refused.byte, refused.bit));
    pages.push(page);
    at += lengthBytes;
  }
  let changed = false;
  for (const page of pages) changed = unit.modes.change(page) || changed;
  if (changed) unit.establishForOthers(task.nexus, sense.modeParametersChanged);
  // Writes that were acknowledged from the cache before WCE=0 must be durable when the initiator relies on it.
  if (!changed || unit.modes.writeCacheEnabled) return step.finished;
  unit.device.flush(task);
  return step.waiting;
}

/** What a page of a parameter list says of its own length; more than there is, where its header is cut. */
function pageBytes(list: Uint8Array, at: number): number {
  const headerBytes = pageHeaderBytes(list[at] ?? 0);
  if (at + headerBytes > list.length) return Infinity;
  return headerBytes + (headerBytes === 2 ? (list[at + 1] ?? 0) : readU16(list, at + 2));
}
