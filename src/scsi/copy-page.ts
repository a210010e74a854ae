/** The third-party copy page 8Fh (SPC-4 7.8.17): what EXTENDED COPY can do here. */
import { writeU16, writeU32 } from './big-endian.js';
import { copyLimits, receiveCopyAction } from './copy-descriptor.js';

/** What follows the page's header: descriptors of a type, a length and data, in multiples of 4 bytes. */
export function thirdPartyCopy(): Uint8Array {
  const commands = [0x83, 1, 0x00, 0x84, 3, ...Object.values(receiveCopyAction)];
  const parameters = new Uint8Array(0x1c);
  writeU16(parameters, 4, copyLimits.cscdMax);
  writeU16(parameters, 6, copyLimits.segmentsMax);
  writeU32(parameters, 8, copyLimits.descriptorBytesMax);
  const general = new Uint8Array(0x20);
  writeU32(general, 0, copyLimits.concurrentMax);
  writeU32(general, 4, copyLimits.concurrentMax);
  writeU32(general, 8, copyLimits.segmentBytesMax);
  general[12] = copyLimits.granularity;
  return Uint8Array.from([
    ...copyDescriptor(0x0001, [commands.length, ...commands]),
    ...copyDescriptor(0x0004, parameters),
    ...copyDescriptor(0x0008, [copyLimits.descriptorTypes.length, ...copyLimits.descriptorTypes]),
    ...copyDescriptor(0x8001, general),
  ]);
}

function copyDescriptor(type: number, data: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(4 + Math.ceil(data.length / 4) * 4);
  writeU16(bytes, 0, type);
  writeU16(bytes, 2, bytes.length - 4);
  bytes.set(data, 4);
  return bytes;
}
