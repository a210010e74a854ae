/**
 * A place in the chain of segments, with what is needed to prove that a history contains it:
 *
 *      0   8  epoch (0: before the first segment; then all else is 0 too)
 *      8   8  segment number
 *     16  32  link of that segment
 *     48   8  LSN: everything up to it is in the segments up to this one
 *     56   8  wall time in milliseconds
 */
import type { ByteReader, ByteWriter } from '../base/bytes.js';
import type { Lsn } from '../base/units.js';
import type { SegmentKey } from './name.js';
import { LINK_BYTES } from './seal.js';

export interface ChainPoint extends SegmentKey {
  readonly link: Uint8Array;
  readonly lsn: Lsn;
  readonly wallMs: number;
}

export const CHAIN_POINT_BYTES = 64;

/** Where the first segment of a volume's first epoch continues. */
export const chainOrigin: ChainPoint = { epoch: 0, number: 0, link: new Uint8Array(LINK_BYTES), lsn: 0, wallMs: 0 };

/** For people; a volume that was never written has none. */
export function describePoint(point: Pick<ChainPoint, 'epoch' | 'number' | 'wallMs'> | undefined): string {
  if (point === undefined || point.number === 0) return 'no recovery point';
  return `recovery point ${point.epoch}-${point.number} of ${new Date(point.wallMs).toISOString()}`;
}

/** For programs; null as above. */
export function pointAsJson(point: ChainPoint | undefined): object | null {
  if (point === undefined || point.number === 0) return null;
  const { lsn, epoch, number, wallMs } = point;
  return { lsn, epoch, segment: number, time: new Date(wallMs).toISOString() };
}

export function writePoint(writer: ByteWriter, point: ChainPoint): void {
  writer.u64(point.epoch);
  writer.u64(point.number);
  writer.bytes(point.link);
  writer.u64(point.lsn);
  writer.u64(point.wallMs);
}

export function readPoint(reader: ByteReader): ChainPoint {
  const epoch = reader.u64();
  const number = reader.u64();
  const link = reader.bytes(LINK_BYTES).slice();
  const lsn = reader.u64();
  const wallMs = reader.u64();
  return { epoch, number, link, lsn, wallMs };
}
