/**
 * Events in a segment's index (docs/formats.md, "Segment"): what happened to the volume beside its content.
 *
 *   kind 1  resize: size in bytes 8
 *   kind 2  snapshot: its name, UTF-8
 *   kind 3  snapshot deleted: LSN of the snapshot 8, its name
 *   kind 4  late snapshot: its name
 *
 * Each begins with kind 1, LSN 8, length of the content 4.
 *
 * Invariant: a snapshot ends its group: its LSN is the group's last one, so that the recovery point of that group is the
 * snapshot, exactly. A late one was asked for at its LSN, when no group could end there (engine/rounds.ts): it is the
 * recovery point of its group too, which is the first one behind that LSN.
 */
import { ByteReader } from '../base/bytes.js';
import type { ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';

export interface ResizeEvent {
  readonly kind: 'resize';
  readonly lsn: Lsn;
  readonly sizeBytes: number;
}

export interface SnapshotEvent {
  readonly kind: 'snapshot' | 'lateSnapshot';
  readonly lsn: Lsn;
  readonly name: string;
}

export interface SnapshotDeletedEvent {
  readonly kind: 'snapshotDeleted';
  readonly lsn: Lsn;
  readonly name: string;
  /** Of the snapshot that is deleted. */
  readonly snapshotLsn: Lsn;
}

export type SegmentEvent = ResizeEvent | SnapshotEvent | SnapshotDeletedEvent;

export const EVENT_BYTES_MIN = 13;
const kinds = { resize: 1, snapshot: 2, snapshotDeleted: 3, lateSnapshot: 4 } as const;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

export function writeEvent(writer: ByteWriter, event: SegmentEvent): void {
  writer.u8(kinds[event.kind]);
  writer.u64(event.lsn);
  if (event.kind === 'resize') {
    writer.u32(8);
    writer.u64(event.sizeBytes);
    return;
  }
  const name = encoder.encode(event.name);
  writer.u32(name.length + (event.kind === 'snapshotDeleted' ? 8 : 0));
  if (event.kind === 'snapshotDeleted') writer.u64(event.snapshotLsn);
  writer.bytes(name);
}

/** `groupLastLsn`: the last LSN of the group whose segment is read; `name` is the segment's, for messages. */
export function readEvent(reader: ByteReader, groupLastLsn: Lsn, name: string): SegmentEvent {
  const kind = reader.u8();
  const lsn = reader.u64();
  const body = new ByteReader(reader.bytes(reader.u32()), name);
  switch (kind) {
    case kinds.resize: {
      const sizeBytes = body.u64();
      body.endOfZeros();
      return { kind: 'resize', lsn, sizeBytes };
    }
    case kinds.snapshot:
      if (lsn !== groupLastLsn) reader.fail('a snapshot lies within its group');
      return { kind: 'snapshot', lsn, name: readName(body) };
    case kinds.lateSnapshot:
      if (lsn > groupLastLsn) reader.fail('a snapshot lies behind its group');
      return { kind: 'lateSnapshot', lsn, name: readName(body) };
    case kinds.snapshotDeleted: {
      const snapshotLsn = body.u64();
      return { kind: 'snapshotDeleted', lsn, snapshotLsn, name: readName(body) };
    }
    default:
      throw new GatewayError('format-newer', `${name}: an event of kind ${kind}, which this version does not know`, {
        context: { object: name },
      });
  }
}

function readName(body: ByteReader): string {
  try {
    return decoder.decode(body.bytes(body.remainingBytes));
  } catch {
    return body.fail('the name of a snapshot is no UTF-8');
  }
}

/** The same thing happened, as two sides tell it. */
export function sameEvent(left: SegmentEvent, right: SegmentEvent): boolean {
  if (left.kind !== right.kind || left.lsn !== right.lsn) return false;
  if (left.kind === 'resize') return right.kind === 'resize' && left.sizeBytes === right.sizeBytes;
  if (right.kind === 'resize' || left.name !== right.name) return false;
  if (left.kind !== 'snapshotDeleted') return true;
  return right.kind === 'snapshotDeleted' && left.snapshotLsn === right.snapshotLsn;
}
