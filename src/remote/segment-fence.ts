/**
 * A fence ends an epoch: it takes the place of the epoch's next segment, so that its owner's PUT there is refused. Its
 * index (kind `fence`, epoch and number of the segment name that it occupies):
 *
 *      0   8  successor: the epoch that put it and continues
 *      8   8  wall time in milliseconds
 *     16  64  the last complete group's end, from which the successor continues (segment-point.ts)
 *
 * With `fencing: none` the same 80 bytes stand in the index of the successor's first segment.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import type { SegmentKey } from './name.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';
import { readPoint, writePoint } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';

export interface Fence {
  readonly successorEpoch: number;
  readonly wallMs: number;
  readonly lastGroup: ChainPoint;
}

export const FENCE_BYTES = 80;

export function sealFence(sealer: ObjectSealer, key: SegmentKey, fence: Fence): SealedObject {
  const writer = new ByteWriter(FENCE_BYTES);
  writeFence(writer, fence);
  return sealer.seal(fenceIdentity(sealer, key), writer.finish());
}

export function openFence(sealer: ObjectSealer, key: SegmentKey, bytes: Uint8Array): Fence {
  const identity = fenceIdentity(sealer, key);
  const reader = new ByteReader(sealer.openWhole(identity, bytes).index, identity.name);
  const fence = readFence(reader);
  reader.endOfZeros();
  return fence;
}

export function writeFence(writer: ByteWriter, fence: Fence): void {
  writer.u64(fence.successorEpoch);
  writer.u64(fence.wallMs);
  writePoint(writer, fence.lastGroup);
}

export function readFence(reader: ByteReader): Fence {
  const successorEpoch = reader.u64();
  const wallMs = reader.u64();
  return { successorEpoch, wallMs, lastGroup: readPoint(reader) };
}

function fenceIdentity(sealer: ObjectSealer, key: SegmentKey): ObjectIdentity {
  return { kind: 'fence', name: sealer.names.segment(key), epoch: key.epoch, number: key.number, part: 0 };
}
