/**
 * What lies under the bucket's prefix beside the volumes of this gateway, asked before one is created: whether another one
 * has its name, and whether there are any that the keys do not open (P9). Names are sealed, so each has to be opened; all
 * volumes that a gateway creates at once share one look.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { MasterKey } from './key.js';
import { openKnownKey } from './key.js';
import { ObjectSealer } from './seal.js';
import { listVolumeUuids, readVolume } from './volume-object.js';

/** Looked at at the same time. */
const VOLUMES_AT_ONCE = 8;

export interface LookOptions {
  readonly store: ObjectStore;
  readonly masters: readonly MasterKey[];
  readonly random: Random;
}

/** Volumes by uuid: their name, or undefined where none of the keys opens them. */
export type Neighbours = ReadonlyMap<string, { readonly name: string | undefined }>;

/** Of one gateway: one store, one set of master keys. */
export class NeighbourSurvey {
  #looking: Promise<Neighbours> | undefined;

  /** Joins a look that is under way; where that fails, or whoever began it is stopped, looks by itself. */
  async look(options: LookOptions, request: StoreRequest): Promise<Neighbours> {
    for (let other = this.#looking; other !== undefined; other = this.#looking) {
      const found = await Promise.race([other.catch(() => undefined), aborted(request.signal)]);
      request.signal?.throwIfAborted();
      if (found !== undefined) return found;
      if (this.#looking === other) this.#looking = undefined;
    }
    const looking = lookAround(options, request);
    this.#looking = looking;
    try {
      return await looking;
    } finally {
      if (this.#looking === looking) this.#looking = undefined;
    }
  }
}

async function lookAround({ store, masters, random }: LookOptions, request: StoreRequest): Promise<Neighbours> {
  const uuids = await listVolumeUuids(store, request);
  const found = new Map<string, { readonly name: string | undefined }>();
  const look = async (uuid: string): Promise<void> => {
    const key = await openKnownKey(store, { ...request, uuid, masters, random });
    if (key === undefined) return void found.set(uuid, { name: undefined });
    try {
      const volume = await readVolume(store, new ObjectSealer({ key, uuid, random }), request);
      // One that is just being created: whoever does that looks as well.
      if (volume !== undefined) found.set(uuid, { name: volume.name });
    } catch (error) {
      if (!(error instanceof GatewayError) || error.code !== 'object-damaged') throw error;
      found.set(uuid, { name: undefined });
    }
  };
  for (let at = 0; at < uuids.length; at += VOLUMES_AT_ONCE) {
    await Promise.all(uuids.slice(at, at + VOLUMES_AT_ONCE).map(look));
  }
  return found;
}

function aborted(signal: AbortSignal | undefined): Promise<undefined> {
  return new Promise((resolve) => signal?.addEventListener('abort', () => resolve(undefined), { once: true }));
}
