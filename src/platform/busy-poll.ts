/**
 * Keeps the event loop awake between requests that follow closely on each other.
 *
 * Going to sleep and being woken costs more than a small request does: tens of microseconds in a virtual machine, and as
 * much for the client, whose processor has to send the interrupt. So after a request was answered the loop asks the kernel
 * again and again for a moment, without sleeping, if the one before it was as close: a client with one request at a time
 * is answered sooner, and one that asks now and then costs nothing. A run of requests wastes one moment, at its end. Requests
 * that wait for the disk do not count: its threads want the processor then.
 */
import { limits } from '../base/limits.js';

export class BusyPoll {
  readonly #nowUs: () => number;
  #lastUs = -Infinity;
  #untilUs = -Infinity;
  #spinning = false;

  constructor(nowUs: () => number) {
    this.#nowUs = nowUs;
  }

  /** The loop does not sleep at the moment. */
  get isAwake(): boolean {
    return this.#spinning;
  }

  /** What was received is answered already. */
  answered(): void {
    const now = this.#nowUs();
    if (now - this.#lastUs <= limits.busyPollUs) {
      this.#untilUs = now + limits.busyPollUs;
      if (!this.#spinning) {
        this.#spinning = true;
        setImmediate(this.#spin);
      }
    }
    this.#lastUs = now;
  }

  readonly #spin = (): void => {
    if (this.#nowUs() < this.#untilUs) setImmediate(this.#spin);
    else this.#spinning = false;
  };
}
