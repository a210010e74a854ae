/**
 * The order of a session's commands over all of its connections (RFC 7143, section 4.2.2.1).
 *
 * Commands are begun strictly in the order of CmdSN. One that overtook others, which are still on their way on another
 * connection, waits with `hold` until those have come, or until they are known not to come. MaxCmdSN moves when a
 * command arrives or ends, never back: at most limits.iscsiCommandWindow commands are under way or waiting.
 *
 * On a session that never had a second connection a gap can never fill: such a peer is cut off. Otherwise whoever
 * uses this bounds the wait.
 *
 * Hot path: `arrive` and `advance` of a command that is due allocate nothing.
 */
import { ProtocolError } from '../../base/errors.js';
import { limits } from '../../base/limits.js';
import { isBefore } from './wire.js';

export const arrival = {
  /** Outside of the window, or a duplicate: silently dropped. */
  ignored: 0,
  /** It is due, and has been taken. */
  due: 1,
  /** Others come before it: hold it. */
  early: 2,
} as const;
export type Arrival = (typeof arrival)[keyof typeof arrival];

/** A command that waits for its number. */
export interface EarlyCommand {
  /** Its connection: when that is gone, so is the command. */
  readonly owner: object;
  readonly cmdSn: number;
  /** Begins it; undefined once it was aborted, while its number stays taken. */
  begin: (() => void) | undefined;
}

/** What is to be done once every command before `cmdSn` has come. */
interface Barrier {
  readonly owner: object;
  readonly cmdSn: number;
  readonly reached: () => void;
}

export class CommandWindow {
  expCmdSn: number;
  /** Commands that take a place in the window: not the immediate ones. */
  underway = 0;
  /** The session has, or had, several connections: gaps may fill. */
  mayFill = false;
  /** Something waits for a number: call `advance` after a command was begun. */
  crowded = false;
  readonly #early = new Map<number, EarlyCommand | undefined>();
  #barriers: Barrier[] = [];

  constructor(cmdSn: number) {
    this.expCmdSn = cmdSn;
  }

  get maxCmdSn(): number {
    return (this.expCmdSn + limits.iscsiCommandWindow - this.underway - 1) >>> 0;
  }

  /** A command that is not immediate has come. @throws ProtocolError */
  arrive(cmdSn: number): Arrival {
    if (cmdSn === this.expCmdSn) {
      if (this.underway >= limits.iscsiCommandWindow) return arrival.ignored;
      this.expCmdSn = (cmdSn + 1) >>> 0;
      return arrival.due;
    }
    if (!this.#isAhead(cmdSn) || this.#early.has(cmdSn)) return arrival.ignored;
    if (!this.mayFill) throw new ProtocolError('a command number was skipped (RFC 7143 4.2.2.1)');
    return arrival.early;
  }

  /** Keeps a command that came early until it is due; `begin` runs inside of `advance`. */
  hold(command: EarlyCommand): void {
    this.#early.set(command.cmdSn, command);
    this.crowded = true;
  }

  /**
   * Takes the number of a command that has not come as received, so that it never takes effect (11.6.1). False: it has
   * come, or is outside of the window.
   */
  skip(cmdSn: number): boolean {
    if ((cmdSn !== this.expCmdSn && !this.#isAhead(cmdSn)) || this.#early.has(cmdSn)) return false;
    if (isBefore(this.maxCmdSn, cmdSn)) return false;
    this.#early.set(cmdSn, undefined);
    this.crowded = true;
    this.advance();
    return true;
  }

  /** Takes every command before `cmdSn` that has not come as received. */
  skipBefore(cmdSn: number): void {
    while (isBefore(this.expCmdSn, cmdSn) && this.skip(this.expCmdSn));
  }

  /** Calls back once every command before `cmdSn` was begun: at once (true), or inside of `advance`. */
  whenBegun(cmdSn: number, owner: object, reached: () => void): boolean {
    // One number past the window is what an immediate command has while the window is full.
    if (!isBefore(this.expCmdSn, cmdSn) || isBefore((this.maxCmdSn + 1) >>> 0, cmdSn)) {
      reached();
      return true;
    }
    this.#barriers.push({ owner, cmdSn, reached });
    this.crowded = true;
    return false;
  }

  /** A command was begun, or a number skipped: begins those that waited for it, in order. */
  advance(): void {
    do this.#passBarriers();
    while (this.#beginNext());
    this.#recount();
  }

  /** A connection is gone: its commands that were not begun have not come, and may come again elsewhere. */
  forget(owner: object): void {
    for (const [cmdSn, command] of this.#early) if (command?.owner === owner) this.#early.delete(cmdSn);
    this.#barriers = this.#barriers.filter((barrier) => barrier.owner !== owner);
    this.#recount();
  }

  #isAhead(cmdSn: number): boolean {
    return isBefore(this.expCmdSn, cmdSn) && !isBefore(this.maxCmdSn, cmdSn);
  }

  #beginNext(): boolean {
    const cmdSn = this.expCmdSn;
    if (!this.#early.has(cmdSn)) return false;
    const command = this.#early.get(cmdSn);
    this.#early.delete(cmdSn);
    this.expCmdSn = (cmdSn + 1) >>> 0;
    command?.begin?.();
    return true;
  }

  #passBarriers(): void {
    for (;;) {
      const at = this.#barriers.findIndex((barrier) => !isBefore(this.expCmdSn, barrier.cmdSn));
      if (at < 0) return;
      const [passed] = this.#barriers.splice(at, 1);
      passed?.reached();
    }
  }

  #recount(): void {
    this.crowded = this.#early.size > 0 || this.#barriers.length > 0;
  }
}
