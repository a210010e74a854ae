/**
 * The six types of a persistent reservation (SPC-4 5.13.3, 6.15.3.3), and what each leaves to whom: the conflict tables of
 * SPC-4 (table 65) and SBC-3 (table 13), given what a command needs of the unit.
 *
 * RESERVE(6), the older reservation of SPC-2, is the strictest: it leaves nothing but `need.nothing` to others.
 */
import type { UnregisteredAccess } from '../ports/volume-reservations.js';

/**
 * What a command needs of the unit, and what is denied to a nexus: bits. Every row of the command table names its need, so
 * that none can be forgotten; a command conflicts where a bit of it is denied.
 */
export const need = {
  /** Served whatever is reserved. */
  nothing: 0,
  /** Refused by another's RESERVE(6) alone. */
  unit: 1,
  read: 2,
  write: 4,
} as const;
export type Need = keyof typeof need;

export interface ReservationType {
  readonly code: number;
  readonly name: string;
  /** What it denies to those that it is not shared with, in bits of `need`. */
  readonly denies: number;
  /**
   * none: it is the holder's alone; only: those that are registered share it, and it goes with its one holder; all: who is
   * registered holds it, and it goes with the last of them.
   */
  readonly registrants: 'none' | 'only' | 'all';
  /** Its bit in the persistent reservation type mask of REPORT CAPABILITIES (SPC-4 6.15.4), a big-endian field of 16 bits. */
  readonly maskBit: number;
}

const writes = need.write;
const access = need.read | need.write;

export const reservationTypes: readonly ReservationType[] = [
  { code: 1, name: 'write exclusive', denies: writes, registrants: 'none', maskBit: 0x0200 },
  { code: 3, name: 'exclusive access', denies: access, registrants: 'none', maskBit: 0x0800 },
  { code: 5, name: 'write exclusive, registrants only', denies: writes, registrants: 'only', maskBit: 0x2000 },
  { code: 6, name: 'exclusive access, registrants only', denies: access, registrants: 'only', maskBit: 0x4000 },
  { code: 7, name: 'write exclusive, all registrants', denies: writes, registrants: 'all', maskBit: 0x8000 },
  { code: 8, name: 'exclusive access, all registrants', denies: access, registrants: 'all', maskBit: 0x0001 },
];

export function findReservationType(code: number): ReservationType | undefined {
  return reservationTypes.find((type) => type.code === code);
}

/** Sets what is left to clients that are registered nowhere; `denied`: bits of `need`. */
export function setUnregistered(access: UnregisteredAccess, denied: number): void {
  access.mayRead = (denied & need.read) === 0;
  access.mayWrite = (denied & need.write) === 0;
}
