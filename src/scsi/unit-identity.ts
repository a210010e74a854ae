/** What a unit is called, derived from the volume's uuid (36 characters) alone: the same on every path to it. */
import { uuidBytes } from '../base/uuid.js';

/** T10 VENDOR IDENTIFICATION. */
export const VENDOR = 'KEEPGATE';

/** There is one target port, whatever the number of addresses that lead to it, in a group of its own. */
export const RELATIVE_PORT = 1;
export const TARGET_PORT_GROUP = 1;

/** Unit serial number: the uuid's 32 hexadecimal digits. */
export function serialNumber(uuid: string): string {
  return uuid.replaceAll('-', '');
}

/**
 * NAA locally assigned (SPC-4 7.8.6.6.4): 3h, then the last 60 bits of the uuid, which are random in every uuid of
 * version 4 but for two.
 */
export function nameAuthorityIdentifier(uuid: string): Uint8Array {
  const identifier = uuidBytes(uuid).slice(8);
  identifier[0] = 0x30 | ((identifier[0] ?? 0) & 0x0f);
  return identifier;
}
