/**
 * How many of a peer's sends are received together before they are answered.
 *
 * A client with many requests under way that sends each by itself, as libnbd does, is answered one by one by a server that
 * is quick enough, and then every request costs both sides a send, a receive and often a wake-up. Received together they share
 * these, and their writes share a record of the log. How many there are to share, nobody says: so now and then a peer's answers are held
 * back until nothing more arrives, and what arrived tells how many it has under way. A part of these is gathered from then on:
 * the peer sends the others meanwhile, so that neither side waits for the other. A peer with one request at a time is never waited
 * for, but in such a trial.
 */
import { limits } from '../base/limits.js';

export class Gathering {
  #share = 1;
  #untilTrial: number = limits.gatherTrialEvery;
  #goal = 1;
  #arrivals = 1;

  /** Something arrived that will be answered next. */
  begin(): void {
    this.#untilTrial--;
    this.#goal = this.#isTrial ? limits.gatherTrialMax : this.#share;
    this.#arrivals = 1;
  }

  /** To be answered with what arrived first. */
  get wantsMore(): boolean {
    return this.#arrivals < this.#goal;
  }

  /** Something more did. */
  arrived(): void {
    this.#arrivals++;
  }

  /** Nothing more is waited for. */
  end(): void {
    if (this.#isTrial) {
      this.#share = Math.max(1, Math.floor(this.#arrivals / limits.gatherShare));
      this.#untilTrial = limits.gatherTrialEvery;
    } else if (this.wantsMore) {
      // It has fewer under way than it had.
      this.#untilTrial = 1;
    }
  }

  /** Since `begin`. */
  get arrivals(): number {
    return this.#arrivals;
  }

  get #isTrial(): boolean {
    return this.#untilTrial === 0;
  }
}
