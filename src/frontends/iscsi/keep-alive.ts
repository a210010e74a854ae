/**
 * Finds out that the peer of a connection is gone: after limits.iscsiPingIdleMs to twice that without a byte from
 * it, it is sent a NOP-In that asks for an answer (RFC 7143, section 11.19); after limits.iscsiPingMsMax more it is given up.
 *
 * Costs the hot path nothing: a timer looks at the stream's counters.
 */
import { limits } from '../../base/limits.js';
import type { Clock, Timer } from '../../ports/clock.js';
import type { Stream } from '../../ports/stream.js';

export interface KeepAliveHost {
  /** We do not read, because the peer does not take what it is sent: then taking some of it is its sign of life. */
  readonly readingStopped: boolean;
  ping(): void;
  /** Nothing came back. */
  lost(): void;
}

export class KeepAlive {
  readonly #clock: Clock;
  readonly #stream: Stream;
  readonly #host: KeepAliveHost;
  #timer: Timer | undefined;
  #receivedBytes = -1;
  #takenBytes = 0;
  #asked = false;

  constructor(options: { readonly clock: Clock; readonly stream: Stream; readonly host: KeepAliveHost }) {
    this.#clock = options.clock;
    this.#stream = options.stream;
    this.#host = options.host;
    this.#wait(limits.iscsiPingIdleMs);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #wait(delayMs: number): void {
    this.#receivedBytes = this.#stream.receivedBytes;
    this.#takenBytes = this.#taken;
    this.#timer = this.#clock.after(delayMs, () => this.#check());
  }

  get #taken(): number {
    return this.#stream.writtenBytes - this.#stream.pendingBytes;
  }

  #check(): void {
    const heard =
      this.#stream.receivedBytes !== this.#receivedBytes ||
      (this.#host.readingStopped && this.#taken !== this.#takenBytes);
    if (heard) {
      this.#asked = false;
      this.#wait(limits.iscsiPingIdleMs);
    } else if (this.#asked) {
      this.#host.lost();
    } else {
      this.#asked = true;
      this.#host.ping();
      this.#wait(limits.iscsiPingMsMax);
    }
  }
}
