/**
 * Counts every attempt that reaches a store: the innermost decorator, so that retries are seen. Plain numbers, which
 * whoever reports copies when it is asked.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';

export const uploadOutcomes = ['stored', 'exists', 'failed', 'aborted'] as const;
export type UploadOutcome = (typeof uploadOutcomes)[number];

/** Upper bounds of the upload duration histogram in seconds; the last bucket is open. */
export const uploadBoundsSeconds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120] as const;

export class StoreCounters {
  uploadedBytes = 0;
  downloadedBytes = 0;
  downloadRequests = 0;
  deleteRequests = 0;
  listRequests = 0;
  readonly uploadRequests: Record<UploadOutcome, number> = { stored: 0, exists: 0, failed: 0, aborted: 0 };
  readonly errors: Record<string, number> = {};
  uploadSecondsSum = 0;
  /** Not cumulative; one more than there are bounds. */
  readonly uploadSeconds = new Float64Array(uploadBoundsSeconds.length + 1);

  /** Counts a failed attempt by its code; an object that is not there is an answer, not an error. */
  failed(error: unknown): void {
    const code = error instanceof GatewayError ? error.code : 'aborted';
    if (code === 'object-missing' || code === 'aborted') return;
    this.errors[code] = (this.errors[code] ?? 0) + 1;
  }

  uploaded(seconds: number): void {
    this.uploadSecondsSum += seconds;
    let bucket = 0;
    while (bucket < uploadBoundsSeconds.length && seconds > (uploadBoundsSeconds[bucket] ?? 0)) bucket++;
    this.uploadSeconds[bucket] = (this.uploadSeconds[bucket] ?? 0) + 1;
  }
}

export class ObservedStore implements ObjectStore {
  readonly counters: StoreCounters;
  readonly #inner: ObjectStore;
  readonly #clock: Clock;

  constructor(inner: ObjectStore, options: { readonly clock: Clock; readonly counters?: StoreCounters }) {
    this.#inner = inner;
    this.#clock = options.clock;
    this.counters = options.counters ?? new StoreCounters();
  }

  get description(): string {
    return this.#inner.description;
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const { counters } = this;
    const startMs = this.#clock.nowMs();
    try {
      const answer = await this.#inner.put(key, body, options);
      counters.uploadRequests[answer]++;
      if (answer === 'stored') counters.uploadedBytes += body.length;
      counters.uploaded((this.#clock.nowMs() - startMs) / 1000);
      return answer;
    } catch (error) {
      counters.uploadRequests[options.signal?.aborted === true ? 'aborted' : 'failed']++;
      counters.failed(error);
      throw error;
    }
  }

  async get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    this.counters.downloadRequests++;
    const bytes = await this.#counted(this.#inner.get(key, options));
    this.counters.downloadedBytes += bytes.length;
    return bytes;
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.#counted(this.#inner.head(key, options));
  }

  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    this.counters.listRequests++;
    try {
      yield* this.#inner.list(prefix, options);
    } catch (error) {
      this.counters.failed(error);
      throw error;
    }
  }

  delete(key: string, options: StoreRequest = {}): Promise<void> {
    this.counters.deleteRequests++;
    return this.#counted(this.#inner.delete(key, options));
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #counted<Result>(answer: Promise<Result>): Promise<Result> {
    try {
      return await answer;
    } catch (error) {
      this.counters.failed(error);
      throw error;
    }
  }
}
