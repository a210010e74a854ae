/** The sequence numbers of one connection: its own StatSN, and the window of its session (RFC 7143, section 4.2.2). */
import { CommandWindow } from './command-window.js';

export class Sequence {
  statSn: number;
  /** Of the session: replaced when the login turns out to join one. */
  window: CommandWindow;

  constructor(options: { readonly cmdSn: number; readonly statSn: number }) {
    this.statSn = options.statSn;
    this.window = new CommandWindow(options.cmdSn);
  }

  takeStatSn(): number {
    const taken = this.statSn;
    this.statSn = (taken + 1) >>> 0;
    return taken;
  }
}
