/**
 * Says when the event loop stays awake between requests that follow closely on each other.
 *
 * Going to sleep and being woken costs more than a small request does: tens of microseconds in a virtual machine, and as
 * much for the client, whose processor has to send the interrupt. So after a request was answered the kernel is asked
 * again and again for the next one, without sleeping, if the one before it was as close: a client with one request at a time
 * is answered sooner, and one that asks now and then costs nothing. A run of requests wastes one moment, at its end. Requests
 * that wait for the disk do not count: its threads want the processor then.
 */
import { limits } from '../base/limits.js';

export class BusyPoll {
  readonly #nowUs: () => number;
  #lastUs = -Infinity;

  constructor(nowUs: () => number) {
    this.#nowUs = nowUs;
  }

  /** What was received is answered already. How long to stay awake for the next request, in microseconds; 0: not at all. */
  answered(): number {
    const now = this.#nowUs();
    const isClose = now - this.#lastUs <= limits.busyPollUs;
    this.#lastUs = now;
    return isClose ? limits.busyPollUs : 0;
  }
}
