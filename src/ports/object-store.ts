/**
 * A bucket. Keys are relative to the configured prefix. Errors are GatewayErrors: store-unreachable, store-forbidden,
 * store-bucket-missing, store-slow-down, store-failed, object-missing. Implementations do not retry: the retry
 * decorator does, and counts each attempt in the bandwidth budget.
 */
export interface StoredObject {
  readonly key: string;
  readonly sizeBytes: number;
  /** Milliseconds since 1970 by the store's clock; informative only. */
  readonly modifiedMs: number;
}

export interface StoreRequest {
  readonly signal?: AbortSignal;
}

export interface ByteRange {
  readonly start: number;
  /** At least 1. */
  readonly lengthBytes: number;
  /** The object may end before the range does. */
  readonly orLess?: boolean;
}

export interface ObjectStore {
  /** For messages: "s3://bucket/prefix". */
  readonly description: string;
  /** Stores an object. With ifAbsent (If-None-Match: *) an existing one is left alone and the answer is 'exists'. */
  put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'>;
  /**
   * The whole object, or `range` of it; object-missing when there is none. A body that is shorter than it must be is
   * store-failed; a range that reaches past the object's end is object-damaged, unless `orLess` allows what there is.
   */
  get(key: string, options?: StoreRequest & { readonly range?: ByteRange }): Promise<Uint8Array>;
  /** undefined when there is none. */
  head(key: string, options?: StoreRequest): Promise<StoredObject | undefined>;
  /** All keys that begin with prefix, in byte order, page by page; `after` starts behind a key. */
  list(prefix: string, options?: StoreRequest & { readonly after?: string }): AsyncIterable<StoredObject>;
  /** Fine when there is none. */
  delete(key: string, options?: StoreRequest): Promise<void>;
  close(): Promise<void>;
}
