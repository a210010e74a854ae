/**
 * GET LBA STATUS (SBC-3 5.4): which blocks are mapped. The answer describes a bounded range, so that it takes a bounded
 * time on any volume; whoever wants more asks again from where it ends.
 */
import { GatewayError } from '../base/errors.js';
import { GIB, LOGICAL_BLOCK_BYTES } from '../base/units.js';
import type { BlockStatusExtent } from '../ports/block-device.js';
import { readU32, readU64, writeU32, writeU64 } from './big-endian.js';
import type { UnitContext } from './command.js';
import { isInRange } from './medium-command.js';
import { sense } from './sense.js';
import { step } from './task.js';
import type { ScsiTask, Step } from './task.js';

const RANGE_BYTES_MAX = GIB;
const EXTENTS_MAX = 256;
const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 16;
const MAPPED = 0;
const DEALLOCATED = 1;

export function getLbaStatus(unit: UnitContext, task: ScsiTask, cdb: Uint8Array, at: number): Step {
  const lba = readU64(cdb, at + 2);
  if (!isInRange(unit, lba, 1)) return task.fail(sense.lbaOutOfRange);
  const allocationLength = readU32(cdb, at + 10);
  const room = Math.floor((allocationLength - HEADER_BYTES) / DESCRIPTOR_BYTES);
  const extentsMax = Math.min(EXTENTS_MAX, Math.max(1, room));
  const offset = lba * LOGICAL_BLOCK_BYTES;
  const lengthBytes = Math.min(RANGE_BYTES_MAX, unit.device.sizeBytes - offset);
  void unit.device.blockStatus(offset, lengthBytes, extentsMax).then(
    (extents) => {
      task.answer(describe(lba, extents), allocationLength);
      task.done(undefined);
    },
    (error: unknown) => {
      if (!(error instanceof GatewayError)) throw error;
      task.done(error);
    },
  );
  return step.waiting;
}

/**
 *   0-3 length of what follows   8.. descriptors: 0-7 LBA, 8-11 blocks, 12 provisioning status (bits 3..0)
 */
function describe(lba: number, extents: readonly BlockStatusExtent[]): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + extents.length * DESCRIPTOR_BYTES);
  writeU32(bytes, 0, bytes.length - 4);
  let first = lba;
  extents.forEach(({ lengthBytes, state }, index) => {
    const at = HEADER_BYTES + index * DESCRIPTOR_BYTES;
    const blocks = lengthBytes / LOGICAL_BLOCK_BYTES;
    writeU64(bytes, at, first);
    writeU32(bytes, at + 8, blocks);
    bytes[at + 12] = state === 'hole' ? DEALLOCATED : MAPPED;
    first += blocks;
  });
  return bytes;
}
