/** From store.url to an ObjectStore; the only place that knows which kinds there are. */
import type { StoreConfiguration } from '../config/configuration.js';
import { FileStore } from '../platform/file-store.js';
import type { ObjectStore, StoredObject } from '../ports/object-store.js';
import type { Paces } from '../ports/pace.js';
import type { Random } from '../ports/random.js';

export interface OpenStoreOptions {
  readonly store: Pick<StoreConfiguration, 'url'> & Partial<StoreConfiguration>;
  /** Make the directory of a file store. Otherwise a missing one is refused: its disk may just not be mounted. */
  readonly create: boolean;
  readonly random: Random;
  /** Spreads bodies over time, where they cross a network. */
  readonly paces?: Paces;
}

/** Opens on first use, and again after a failure, so that an absent store is a failed request and no failed start. */
export function openStore(options: OpenStoreOptions): ObjectStore {
  const { store, paces } = options;
  const { url } = store;
  if (url.startsWith('s3:')) {
    const target = { ...store, ...(paces === undefined ? {} : { paces }) };
    // The SDK costs 40 MiB and a third of a second: loaded only where it is needed.
    return new LateStore(url, async () => new (await import('../platform/s3-store.js')).S3Store(target));
  }
  return new LateStore(url, () => FileStore.open({ location: url, create: options.create, random: options.random }));
}

class LateStore implements ObjectStore {
  readonly description: string;
  readonly #open: () => Promise<ObjectStore>;
  #store: Promise<ObjectStore> | undefined;

  constructor(description: string, open: () => Promise<ObjectStore>) {
    this.description = description;
    this.#open = open;
  }

  #opened(): Promise<ObjectStore> {
    if (this.#store === undefined) {
      const opening = this.#open();
      this.#store = opening;
      opening.catch(() => (this.#store = undefined));
    }
    return this.#store;
  }

  async put(...parameters: Parameters<ObjectStore['put']>): Promise<'stored' | 'exists'> {
    return (await this.#opened()).put(...parameters);
  }

  async get(...parameters: Parameters<ObjectStore['get']>): Promise<Uint8Array> {
    return (await this.#opened()).get(...parameters);
  }

  async head(...parameters: Parameters<ObjectStore['head']>): Promise<StoredObject | undefined> {
    return (await this.#opened()).head(...parameters);
  }

  async *list(...parameters: Parameters<ObjectStore['list']>): AsyncGenerator<StoredObject, void, undefined> {
    yield* (await this.#opened()).list(...parameters);
  }

  async delete(...parameters: Parameters<ObjectStore['delete']>): Promise<void> {
    await (await this.#opened()).delete(...parameters);
  }

  async close(): Promise<void> {
    await (await this.#store?.catch(() => undefined))?.close();
  }
}
