/**
 * The owner's side of pins (pin.ts): which readers there are, and what they need. A pin is aged by what the owner saw
 * itself, in its own running time: neither its clock nor the reader's can jump. Whoever reads renews its pin under another
 * name; one that stood unchanged for a day belongs to a reader that is gone.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { openPin } from './pin.js';
import { isDamageOrNewer } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';

/** A pin as the owner knows it. */
export interface SeenPin {
  readonly name: string;
  /** The owner's running time when it was first seen. */
  readonly sinceMs: number;
  /** As in the pin; one that cannot be opened may stand for anybody: 0. */
  readonly floor: number;
}

export interface PinView {
  /** What was not dead at this recovery point must stay; Infinity: nobody reads. */
  readonly floor: number;
  /** Of readers that are gone. */
  readonly stale: readonly string[];
}

export class PinWatch {
  #seen: ReadonlyMap<string, SeenPin>;

  /** `seen`: what an earlier life of this owner knew, with its running time. */
  constructor(seen: readonly SeenPin[]) {
    this.#seen = new Map(seen.map((pin) => [pin.name, pin]));
  }

  get seen(): readonly SeenPin[] {
    return [...this.#seen.values()];
  }

  /**
   * Lists the pins now. Store errors are thrown: who cannot list them must not delete. A pin that is gone when it is read
   * may have been renewed under a name that the listing had passed already: for this look it stands for anybody.
   */
  async look(store: ObjectStore, sealer: ObjectSealer, runningMs: number, request: StoreRequest): Promise<PinView> {
    const seen = new Map<string, SeenPin>();
    let vanished = false;
    for await (const { key: name } of store.list(sealer.names.pinsPrefix, request)) {
      const pin = this.#seen.get(name) ?? (await first(store, sealer, name, runningMs, request));
      if (pin === undefined) vanished = true;
      else seen.set(name, pin);
    }
    this.#seen = seen;
    const isStale = ({ sinceMs }: SeenPin): boolean => runningMs - sinceMs >= limits.pinStaleMs;
    const fresh = this.seen.filter((pin) => !isStale(pin));
    return {
      floor: vanished ? 0 : Math.min(Infinity, ...fresh.map(({ floor }) => floor)),
      stale: this.seen.filter(isStale).map(({ name }) => name),
    };
  }
}

/** undefined: it is gone again. */
async function first(
  store: ObjectStore,
  sealer: ObjectSealer,
  name: string,
  sinceMs: number,
  request: StoreRequest,
): Promise<SeenPin | undefined> {
  try {
    return { name, sinceMs, floor: openPin(sealer, name, await store.get(name, request)).floor };
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'object-missing') return undefined;
    if (!isDamageOrNewer(error)) throw error;
    return { name, sinceMs, floor: 0 };
  }
}
