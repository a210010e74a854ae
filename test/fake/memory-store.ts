/**
 * An ObjectStore in memory whose faults a test chooses request by request: it fails before or after it applied one,
 * loses a reply, delays, delivers a PUT once more later, or forgets conditional PUTs, as real stores do.
 */
import { GatewayError } from '../../src/base/errors.js';
import type { ErrorCode } from '../../src/base/errors.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../../src/ports/object-store.js';

export type StoreOperation = 'put' | 'get' | 'head' | 'list' | 'delete';

export interface StoreCall {
  readonly operation: StoreOperation;
  /** The key, or a listing's prefix. */
  readonly key: string;
  /** Counts all calls, from 1. */
  readonly ordinal: number;
}

/**
 * failBefore: not applied. failAfter: applied, and the reply is lost. lateDuplicate (put): applied and answered, and
 * delivered once more when `deliverLate` is called. delay: the call goes on when the promise resolves.
 */
export interface StoreFault {
  readonly failBefore?: ErrorCode;
  readonly failAfter?: ErrorCode;
  readonly lateDuplicate?: boolean;
  readonly delay?: Promise<void>;
}

interface Entry {
  readonly body: Uint8Array;
  readonly modifiedMs: number;
}

export class MemoryStore implements ObjectStore {
  readonly description: string;
  /** Every call, in order, for assertions. */
  readonly calls: StoreCall[] = [];
  /** Asked before each call; undefined: no fault. */
  fault: (call: StoreCall) => StoreFault | undefined = () => undefined;
  /** false: If-None-Match is accepted and ignored, as Garage and s3rver do. */
  conditionalPuts = true;
  readonly #objects = new Map<string, Entry>();
  readonly #late: (() => void)[] = [];
  #ordinal = 0;

  constructor(description = 'memory://test') {
    this.description = description;
  }

  /** Direct access for a test that tampers: what is stored now. */
  peek(key: string): Uint8Array | undefined {
    return this.#objects.get(key)?.body;
  }

  /** Replaces an object behind everybody's back; undefined removes it. */
  poke(key: string, body: Uint8Array | undefined): void {
    if (body === undefined) this.#objects.delete(key);
    else this.#objects.set(key, { body: new Uint8Array(body), modifiedMs: this.#ordinal });
  }

  /** All keys, in byte order. */
  keys(prefix = ''): string[] {
    return [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  /** A copy of the bucket as it is now, as a provider that keeps an old state would. */
  snapshot(): Map<string, Uint8Array> {
    return new Map([...this.#objects].map(([key, { body }]) => [key, body]));
  }

  restore(snapshot: ReadonlyMap<string, Uint8Array>): void {
    this.#objects.clear();
    for (const [key, body] of snapshot) this.poke(key, body);
  }

  /** Delivers every late duplicate PUT now. */
  deliverLate(): void {
    for (const deliver of this.#late.splice(0)) deliver();
  }

  put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    // Not body.slice(): that of a Buffer shares its memory.
    const copy = new Uint8Array(body);
    const apply = (): 'stored' | 'exists' => {
      if (options.ifAbsent && this.conditionalPuts && this.#objects.has(key)) return 'exists';
      this.poke(key, copy);
      return 'stored';
    };
    return this.#call('put', key, options, apply, () => this.#late.push(apply));
  }

  get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    return this.#call('get', key, options, () => {
      const entry = this.#objects.get(key);
      if (entry === undefined) throw new GatewayError('object-missing', `${this.description}/${key}: get failed: 404`);
      const { start, lengthBytes, orLess } = options.range ?? { start: 0, lengthBytes: entry.body.length };
      if (start + lengthBytes > entry.body.length && orLess !== true) {
        throw new GatewayError('object-damaged', `${this.description}/${key}: it ends inside the range`);
      }
      return entry.body.slice(start, start + lengthBytes);
    });
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.#call('head', key, options, () => this.#describe(key));
  }

  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    const { after = '' } = options;
    const keys = await this.#call('list', prefix, options, () => this.keys(prefix).filter((key) => key > after));
    for (const key of keys) {
      const object = this.#describe(key);
      if (object !== undefined) yield object;
    }
  }

  delete(key: string, options: StoreRequest = {}): Promise<void> {
    return this.#call('delete', key, options, () => {
      this.#objects.delete(key);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #describe(key: string): StoredObject | undefined {
    const entry = this.#objects.get(key);
    return entry && { key, sizeBytes: entry.body.length, modifiedMs: entry.modifiedMs };
  }

  async #call<Result>(
    operation: StoreOperation,
    key: string,
    request: StoreRequest,
    apply: () => Result,
    duplicate?: () => void,
  ): Promise<Result> {
    request.signal?.throwIfAborted();
    const call = { operation, key, ordinal: ++this.#ordinal };
    this.calls.push(call);
    const fault = this.fault(call) ?? {};
    await fault.delay;
    request.signal?.throwIfAborted();
    if (fault.failBefore !== undefined) throw this.#injected(fault.failBefore, call);
    const result = apply();
    if (fault.lateDuplicate === true) duplicate?.();
    if (fault.failAfter !== undefined) throw this.#injected(fault.failAfter, call);
    return result;
  }

  #injected(code: ErrorCode, call: StoreCall): GatewayError {
    return new GatewayError(code, `${this.description}/${call.key}: ${call.operation} failed: injected`);
  }
}
