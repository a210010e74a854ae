/**
 * The master keys of a volume: each has wrapped the one volume key into an object of its own, so that keys come and go
 * without uploading data again. What a removed key can still do is in docs/threat-model.md: who kept its wrapped object
 * still gets the volume key, which does not change.
 *
 * Order: a new key is put and read back before an old one goes, and a key goes only while another one, which the caller
 * has, was found to open the volume. So a crash between two steps leaves a volume that opens. Two who remove each
 * other's key at once both look again afterwards, and put their own back.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { openVolumeKey, unwrapVolumeKey, wrapVolumeKey } from './key.js';
import type { MasterKey } from './key.js';
import { ObjectNames } from './name.js';

export interface KeyRingOptions {
  readonly store: ObjectStore;
  readonly uuid: string;
  /** What the caller has. */
  readonly masters: readonly MasterKey[];
  readonly clock: Clock;
  readonly random: Random;
  readonly request: StoreRequest;
}

export interface ListedKey {
  readonly id: string;
  readonly sizeBytes: number;
  /** undefined: the caller does not have it. */
  readonly opens: boolean | undefined;
}

export class KeyRing {
  readonly #options: KeyRingOptions;
  readonly #names: ObjectNames;

  constructor(options: KeyRingOptions) {
    this.#options = options;
    this.#names = new ObjectNames(options.uuid);
  }

  async list(): Promise<ListedKey[]> {
    const { store, masters, request } = this.#options;
    const listed: ListedKey[] = [];
    for await (const { key, sizeBytes } of store.list(this.#names.keysPrefix, request)) {
      const parsed = this.#names.parse(key);
      if (parsed?.kind !== 'key') continue;
      const master = masters.find(({ id }) => id === parsed.id);
      const opens = master === undefined ? undefined : (await this.#opened(master)) !== undefined;
      listed.push({ id: parsed.id, sizeBytes, opens });
    }
    return listed;
  }

  /** Lets `added` open the volume as well. Resolves once that was tried. key-mismatch, store errors. */
  async add(added: MasterKey): Promise<void> {
    const { store, uuid, clock, random, request } = this.#options;
    const { volumeKey } = await openVolumeKey(store, this.#options);
    const there = await this.#opened(added);
    if (there !== undefined && equalBytes(there, volumeKey)) return;
    const { name, object } = wrapVolumeKey({ master: added, uuid, volumeKey, wallMs: clock.wallMs(), random });
    // What may lie there opens nothing.
    await store.put(name, object.bytes, { ...request, ifAbsent: false });
    const back = await this.#opened(added);
    if (back !== undefined && equalBytes(back, volumeKey)) return;
    throw new GatewayError('object-damaged', `${name}: what was put there does not come back; no key was removed`);
  }

  /** Deletes the wrapped object. key-last: no other key of the caller opens the volume. not-found. */
  async remove(id: string): Promise<void> {
    const { store, uuid, clock, random, request, masters } = this.#options;
    const stay = masters.filter((master) => master.id !== id);
    if (!(await this.list()).some((listed) => listed.id === id)) {
      throw new GatewayError('not-found', `volume ${uuid} has no key ${id}; keepgate key list shows them`);
    }
    const kept = await this.#firstThatOpens(stay);
    if (kept === undefined) {
      throw new GatewayError('key-last', `no other key that was given opens volume ${uuid}: key ${id} stays`);
    }
    const { master, volumeKey } = kept;
    await store.delete(this.#names.key(id), request);
    if ((await this.#opened(master)) !== undefined) return;
    // Somebody removed ours meanwhile.
    const { name, object } = wrapVolumeKey({ master, uuid, volumeKey, wallMs: clock.wallMs(), random });
    await store.put(name, object.bytes, { ...request, ifAbsent: false });
  }

  async #firstThatOpens(
    masters: readonly MasterKey[],
  ): Promise<{ readonly master: MasterKey; readonly volumeKey: Uint8Array } | undefined> {
    for (const master of masters) {
      const volumeKey = await this.#opened(master);
      if (volumeKey !== undefined) return { master, volumeKey };
    }
    return undefined;
  }

  /** The volume key by one master key; undefined: it has no wrapped object, or a damaged one. */
  async #opened(master: MasterKey): Promise<Uint8Array | undefined> {
    const { store, uuid, random, request } = this.#options;
    try {
      const bytes = await store.get(this.#names.key(master.id), request);
      return unwrapVolumeKey({ master, uuid, bytes, random });
    } catch (error) {
      if (error instanceof GatewayError && ['object-missing', 'object-damaged'].includes(error.code)) return undefined;
      throw error;
    }
  }
}
