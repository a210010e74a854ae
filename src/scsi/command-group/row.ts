/**
 * How a row of the command table is written.
 *
 * `usage` is the CDB usage data of SPC-4 6.35.3 in hexadecimal: the opcode, then the bits of each byte that the unit
 * evaluates. A CDB with any other bit set is refused, so a row is also its command's check of reserved fields. GROUP
 * NUMBER (1Fh) is accepted and has no meaning here; NACA and protection information are not supported.
 */
import { ioOps } from '../../base/io-stats.js';
import type { IoOp } from '../../base/io-stats.js';
import type { Command } from '../command.js';
import { need } from '../reservation-type.js';
import type { Need } from '../reservation-type.js';

/** Fields that most rows leave to their default. */
type Optional =
  'inquiry' | 'passesAttention' | 'changesMedium' | 'servedAfterFailedSanitize' | 'isSupported' | 'timeouts';

type Row = Omit<Command, 'usage' | 'op' | 'need' | 'needOf' | Optional> & {
  readonly usage: string;
  /** Of what a reservation may keep from it (SPC-4 table 65, SBC-3 table 13; SPC-2 table 9); the most where its CDB decides. */
  readonly needs: Need;
  readonly needsOf?: (cdb: Uint8Array, at: number) => Need;
  readonly op?: IoOp;
} & Partial<Pick<Command, Optional>>;

/** A command that looks at the unit alone, and one that may wait: for the disk, for space on it, for a restart. */
const quick = { nominalSeconds: 1, recommendedSeconds: 60 };
const patient = { nominalSeconds: 30, recommendedSeconds: 600 };

export function row({ needs, needsOf, ...given }: Row): Command {
  return {
    need: need[needs],
    needOf: needsOf && ((cdb, at) => need[needsOf(cdb, at)]),
    inquiry: false,
    passesAttention: false,
    changesMedium: false,
    servedAfterFailedSanitize: false,
    isSupported: () => true,
    timeouts: given.inquiry === true ? quick : patient,
    ...given,
    op: ioOps.indexOf(given.op ?? 'other'),
    usage: Uint8Array.from(given.usage.split(' '), (digits) => parseInt(digits, 16)),
  };
}
