/**
 * Holds a store to the gateway's bandwidth: each attempt's bytes are taken from a token bucket, so below the retry
 * decorator. Uploads wait before they are sent. A download whose length is known waits before it is asked for; another
 * one is charged when it has arrived, and what follows waits for it.
 */
import type { TokenBucket } from '../bandwidth/token-bucket.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';

export interface LimitOptions {
  readonly upload: TokenBucket;
  readonly download: TokenBucket;
  /** Stores of different lanes (volumes) share a bucket fairly. */
  readonly lane: string;
}

export class LimitedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #options: LimitOptions;

  constructor(inner: ObjectStore, options: LimitOptions) {
    this.#inner = inner;
    this.#options = options;
  }

  get description(): string {
    return this.#inner.description;
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    await this.#options.upload.take(body.length, this.#wait(options));
    return this.#inner.put(key, body, options);
  }

  async get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    const { range } = options;
    const { download } = this.#options;
    const expectedBytes = range === undefined || range.orLess === true ? 0 : range.lengthBytes;
    await download.take(expectedBytes, this.#wait(options));
    const bytes = await this.#inner.get(key, options);
    download.charge(bytes.length - expectedBytes);
    return bytes;
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.#inner.head(key, options);
  }

  list(prefix: string, options: StoreRequest & { readonly after?: string } = {}): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix, options);
  }

  delete(key: string, options: StoreRequest = {}): Promise<void> {
    return this.#inner.delete(key, options);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #wait(request: StoreRequest): { lane: string; signal?: AbortSignal } {
    const { lane } = this.#options;
    return request.signal === undefined ? { lane } : { lane, signal: request.signal };
  }
}
