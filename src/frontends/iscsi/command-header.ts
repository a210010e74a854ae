/** What the header of a SCSI Command says in more than one field (RFC 7143, sections 11.2.2, 11.3). */
import { readU16, readU32 } from '../../scsi/big-endian.js';
import { ahsType, BHS_BYTES, field } from './wire.js';

/** LUN 0 in the peripheral and in the flat addressing method (SAM-5 4.7). */
export function isLunZero(bytes: Uint8Array, at: number): boolean {
  return (readU32(bytes, at) & ~0x4000_0000) === 0 && readU32(bytes, at + 4) === 0;
}

/** Of a bidirectional command: what the initiator made room for, from its additional header segments (11.2.2.2). */
export function bidirectionalReadBytes(header: Uint8Array, at: number): number {
  const end = at + BHS_BYTES + (header[at + field.ahsLength] ?? 0) * 4;
  let segment = at + BHS_BYTES;
  while (segment + 8 <= end) {
    if (header[segment + 2] === ahsType.bidirectionalReadLength) return readU32(header, segment + 4);
    // The length counts from the byte behind the type.
    segment += (3 + readU16(header, segment) + 3) & ~3;
  }
  return 0;
}
