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

type Row = Omit<Command, 'usage' | 'inquiry' | 'passesAttention' | 'changesMedium' | 'op'> & {
  readonly usage: string;
  readonly op?: IoOp;
} & Partial<Pick<Command, 'inquiry' | 'passesAttention' | 'changesMedium'>>;

export function row(given: Row): Command {
  return {
    inquiry: false,
    passesAttention: false,
    changesMedium: false,
    ...given,
    op: ioOps.indexOf(given.op ?? 'other'),
    usage: Uint8Array.from(given.usage.split(' '), (digits) => parseInt(digits, 16)),
  };
}
