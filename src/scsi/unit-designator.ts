/** Designation descriptors of VPD page 83h (SPC-4 7.8.6): how the unit, its target port and its target are called. */
import { uuidBytes } from '../base/uuid.js';
import { writeText } from './big-endian.js';
import type { TargetPort } from './command.js';
import { nameAuthorityIdentifier, RELATIVE_PORT, serialNumber, TARGET_PORT_GROUP, VENDOR } from './unit-identity.js';

/**
 * Device identification (SPC-4 7.8.6): designators of the logical unit, all made of the volume's uuid.
 *
 *   type 3, NAA, locally assigned: 3h and 60 bits     there is no registered company number to be used
 *   type 1, T10 vendor identification: "KEEPGATE" and the serial number
 *   type A, UUID (SPC-5): 10h 00h and the 16 bytes
 */
export function unitDesignators(uuid: string): Uint8Array[] {
  const vendor = new Uint8Array(8 + serialNumber(uuid).length);
  writeText(vendor, 0, VENDOR, 8);
  writeText(vendor, 8, serialNumber(uuid), vendor.length - 8);
  const identifier = new Uint8Array(18);
  identifier[0] = 0x10;
  identifier.set(uuidBytes(uuid), 2);
  return [
    designator(codeSet.binary, 0x3, nameAuthorityIdentifier(uuid)),
    designator(codeSet.ascii, 0x1, vendor),
    designator(codeSet.binary, 0xa, identifier),
  ];
}

/**
 * Designators of the target port (association 01b) and of the target (10b), all with the transport's protocol identifier:
 *
 *   type 4, relative target port   type 5, target port group   type 8, SCSI name strings of both
 */
export function portDesignators(port: TargetPort | undefined): Uint8Array[] {
  if (port === undefined) return [];
  const ofPort = { protocol: port.protocol, association: 0x1 };
  return [
    designator(codeSet.binary, 0x4, Uint8Array.of(0, 0, 0, RELATIVE_PORT), ofPort),
    designator(codeSet.binary, 0x5, Uint8Array.of(0, 0, 0, TARGET_PORT_GROUP), ofPort),
    designator(codeSet.utf8, 0x8, nameString(port.portName), ofPort),
    designator(codeSet.utf8, 0x8, nameString(port.targetName), { protocol: port.protocol, association: 0x2 }),
  ];
}

/** NUL-terminated, and padded with NUL to a multiple of 4 bytes (SPC-4 7.8.6.11). */
function nameString(name: string): Uint8Array {
  const encoded = new TextEncoder().encode(name);
  const bytes = new Uint8Array((Math.floor(encoded.length / 4) + 1) * 4);
  bytes.set(encoded);
  return bytes;
}

const codeSet = { binary: 0x1, ascii: 0x2, utf8: 0x3 } as const;
const PIV = 0x80;

function designator(
  set: number,
  type: number,
  value: Uint8Array,
  of?: { readonly protocol: number; readonly association: number },
): Uint8Array {
  const bytes = new Uint8Array(4 + value.length);
  bytes[0] = set | ((of?.protocol ?? 0) << 4);
  bytes[1] = type | (of === undefined ? 0 : PIV | (of.association << 4));
  bytes[3] = value.length;
  bytes.set(value, 4);
  return bytes;
}
