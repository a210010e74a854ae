/**
 * Reads the heads of consecutive segments ahead of whoever walks along them, so that a walk does not cost a round trip for
 * each. How far ahead doubles with every step, from one: who stops soon has asked for little that is not there.
 *
 * A head that was read ahead is what lay at its key at that moment, and what is stored there never changes; that nothing
 * lies there is believed only of a read that began when the walker had come there.
 */
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { SegmentKey } from './name.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import type { SegmentHead } from './segment-reader.js';

/** Their indexes are in memory until the walker comes. */
const AHEAD_MAX = 16;

export class SegmentAhead {
  readonly #store: ObjectStore;
  readonly #sealer: ObjectSealer;
  readonly #request: StoreRequest;
  /** Nobody needs what lies behind. */
  readonly #untilNumber: number;
  /** Of the keys that follow the walker's, in order. */
  #ahead: Promise<SegmentHead>[] = [];
  #next: SegmentKey = { epoch: 0, number: 0 };
  #window = 1;

  constructor(options: {
    readonly store: ObjectStore;
    readonly sealer: ObjectSealer;
    readonly request: StoreRequest;
    readonly untilNumber: number;
  }) {
    this.#store = options.store;
    this.#sealer = options.sealer;
    this.#request = options.request;
    this.#untilNumber = options.untilNumber;
  }

  /** What lies at the key where the walker is. Throws as readSegmentHead does. */
  async at(key: SegmentKey): Promise<SegmentHead> {
    const follows = key.epoch === this.#next.epoch && key.number === this.#next.number;
    if (!follows) this.#ahead = [];
    this.#window = follows ? Math.min(AHEAD_MAX, 2 * this.#window) : 1;
    const known = this.#ahead.shift();
    this.#next = { epoch: key.epoch, number: key.number + 1 };
    const here = known ?? this.#read(key);
    while (this.#ahead.length + 1 < this.#window) {
      const number = key.number + 1 + this.#ahead.length;
      if (number > this.#untilNumber) break;
      const read = this.#read({ epoch: key.epoch, number });
      // Whoever comes there hears of it.
      read.catch(() => undefined);
      this.#ahead.push(read);
    }
    const head = await here;
    return head.kind === 'absent' && known !== undefined ? this.#read(key) : head;
  }

  #read(key: SegmentKey): Promise<SegmentHead> {
    const { signal } = this.#request;
    // One for each: Node takes many listeners of one signal for a leak.
    const request = signal === undefined ? {} : { signal: AbortSignal.any([signal]) };
    return readSegmentHead(this.#store, this.#sealer, key, request);
  }
}
