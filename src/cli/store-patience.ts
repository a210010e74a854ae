/**
 * How long a store may take. Only seconds count in which this process ran: where the machine is starved, or the process was
 * stopped, a time-out on the clock would blame a store that had long answered. So it is counted in timers that came, and
 * between any two of them there was a turn of the loop to hear the answer.
 */
import type { Clock } from '../ports/clock.js';

const TURN_MS = 1000;

/** A signal that aborts once so many seconds have come and gone. */
export function storePatience(clock: Clock, turnsMax: number): AbortSignal {
  const patience = new AbortController();
  let turns = 0;
  const turn = (): void => {
    turns += 1;
    if (turns < turnsMax) clock.after(TURN_MS, turn);
    else patience.abort(new DOMException(`no answer within ${turnsMax} s`, 'TimeoutError'));
  };
  clock.after(TURN_MS, turn);
  return patience.signal;
}
