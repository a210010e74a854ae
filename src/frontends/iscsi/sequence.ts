/**
 * The sequence numbers of a session with one connection (RFC 7143, section 4.2.2).
 *
 * The command window is open while fewer than limits.iscsiCommandWindow commands are under way: MaxCmdSN moves when a
 * command arrives or ends, never back. On a single connection commands arrive in the order of CmdSN, so that a gap
 * inside the window can never fill: such a peer is cut off.
 */
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import { isBefore } from './wire.js';

export class Sequence {
  expCmdSn: number;
  statSn: number;
  /** Commands that take a place in the window: not the immediate ones. */
  underway = 0;

  constructor(options: { readonly cmdSn: number; readonly statSn: number }) {
    this.expCmdSn = options.cmdSn;
    this.statSn = options.statSn;
  }

  get maxCmdSn(): number {
    return (this.expCmdSn + limits.iscsiCommandWindow - this.underway - 1) >>> 0;
  }

  takeStatSn(): number {
    const taken = this.statSn;
    this.statSn = (taken + 1) >>> 0;
    return taken;
  }

  /** Whether a command that is not immediate is to be executed; outside of the window it is silently ignored. */
  admit(cmdSn: number): boolean {
    if (cmdSn === this.expCmdSn) {
      if (this.underway >= limits.iscsiCommandWindow) return false;
      this.expCmdSn = (cmdSn + 1) >>> 0;
      return true;
    }
    if (isBefore(cmdSn, this.expCmdSn) || isBefore(this.maxCmdSn, cmdSn)) return false;
    throw new ProtocolError('a command number was skipped (RFC 7143 4.2.2.1)');
  }
}
