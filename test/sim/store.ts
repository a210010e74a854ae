/**
 * A bucket, and each life's way to it. A request travels, is applied, and its answer travels back; each of these can go
 * wrong by itself. What is under way when its sender dies may still arrive, any time later.
 */
import { createHash } from 'node:crypto';
import { GatewayError, type ErrorCode } from '../../src/base/errors.js';
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../../src/ports/object-store.js';
import { ObjectNames, uuidOfKey } from '../../src/remote/name.js';
import type { SeededRandom } from '../fake/random.js';
import type { Life, Scheduler } from './scheduler.js';
import { Violation } from './shadow.js';

export type StoreOperation = 'put' | 'get' | 'head' | 'list' | 'delete';

export interface StorePlan {
  /** Milliseconds to the store, or back. */
  latencyMs: () => number;
  /** Shares of requests. */
  failBefore: number;
  loseReply: number;
  duplicate: number;
  /** Share of PUTs that take minutes to arrive (their sender has long given up). */
  straggle: number;
  /** Unreachable until then. */
  outageUntilMs: number;
}

const REQUEST_MS_MAX = 60_000;
const LISTING_PAGE_KEYS = 3;
const failures: readonly ErrorCode[] = ['store-slow-down', 'store-failed', 'store-unreachable'];

interface Entry {
  readonly body: Uint8Array;
  readonly modifiedMs: number;
}

export class SimBucket {
  readonly plan: StorePlan = {
    latencyMs: () => 5,
    failBefore: 0,
    loseReply: 0,
    duplicate: 0,
    straggle: 0,
    outageUntilMs: 0,
  };
  /** Called before every request. */
  onOperation: (operation: StoreOperation, key: string) => void = () => undefined;
  /** An object was stored, by a PUT of this life, which may have ended since. */
  onStored: (key: string, body: Uint8Array, life: Life) => void = () => undefined;
  /** The same, whoever asks. */
  onArrival: (key: string, body: Uint8Array) => void = () => undefined;
  readonly objects = new Map<string, Entry>();
  /** The first object that breaks the rules of names (docs/formats.md). */
  violation: Error | undefined;
  /** By name, the SHA-256 of what was stored there, deleted since or not. */
  private readonly stored = new Map<string, string>();
  /** Another one's volume begins when it is cleared. */
  generation = 0;

  constructor(
    readonly scheduler: Scheduler,
    readonly random: SeededRandom,
  ) {}

  attach(life: Life): ObjectStore {
    return new StoreOfLife(this, life);
  }

  clear(): void {
    this.generation++;
    this.objects.clear();
    this.stored.clear();
  }

  keys(prefix: string): string[] {
    return [...this.objects.keys()].filter((key) => key.startsWith(prefix)).sort();
  }

  /** As it is now, in another world, where nothing goes wrong. */
  copy(scheduler: Scheduler, random = this.random.fork()): SimBucket {
    const copy = new SimBucket(scheduler, random);
    for (const [key, entry] of this.objects) copy.objects.set(key, entry);
    return copy;
  }

  /** Flips a bit in the newest so many checkpoints: a reader must begin at an older one, to the same end. */
  damageCheckpoints(count: number): void {
    const numberOf = (key: string): string => key.slice(key.lastIndexOf('-'));
    const checkpoints = this.keys('').filter((key) => key.includes('/checkpoints/'));
    checkpoints.sort((left, right) => numberOf(right).localeCompare(numberOf(left)));
    for (const key of checkpoints.slice(0, count)) {
      const entry = this.objects.get(key);
      if (entry === undefined) continue;
      const body = entry.body.slice();
      const at = this.random.below(body.length);
      body[at] = (body[at] ?? 0) ^ 1;
      this.objects.set(key, { ...entry, body });
    }
  }

  apply(key: string, body: Uint8Array, ifAbsent: boolean, life: Life): 'stored' | 'exists' {
    if (ifAbsent && this.objects.has(key)) return 'exists';
    this.objects.set(key, { body, modifiedMs: this.scheduler.nowMs });
    this.judgeName(key, body);
    this.onStored(key, body, life);
    this.onArrival(key, body);
    return 'stored';
  }

  /** Every object has a known name, and no name ever has two contents: so a provider has no older version of an object. */
  private judgeName(key: string, body: Uint8Array): void {
    if (key.startsWith('probe-')) return;
    const uuid = uuidOfKey(key);
    if (uuid === undefined || new ObjectNames(uuid).parse(key) === undefined) {
      this.violation ??= new Violation(`${key} is none of the names of objects`);
      return;
    }
    const digest = createHash('sha256').update(body).digest('base64');
    const before = this.stored.get(key) ?? digest;
    if (before !== digest) this.violation ??= new Violation(`${key} was stored twice, with different contents`);
    this.stored.set(key, digest);
  }
}

class StoreOfLife implements ObjectStore {
  readonly description = 'sim://bucket';

  constructor(
    private readonly bucket: SimBucket,
    private readonly life: Life,
  ) {}

  put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const copy = new Uint8Array(body);
    return this.request('put', key, options, () => this.bucket.apply(key, copy, options.ifAbsent, this.life));
  }

  get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    return this.request('get', key, options, () => {
      const entry = this.bucket.objects.get(key);
      if (entry === undefined) throw new GatewayError('object-missing', `${key}: 404`);
      const { start, lengthBytes, orLess } = options.range ?? { start: 0, lengthBytes: entry.body.length };
      if (start + lengthBytes > entry.body.length && orLess !== true)
        throw new GatewayError('object-damaged', `${key}: it ends inside the range`);
      return entry.body.slice(start, start + lengthBytes);
    });
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.request('head', key, options, () => this.describe(key));
  }

  /** Page by page: what is stored between two pages shows only in the later one. */
  async *list(
    prefix: string,
    options: StoreRequest & { readonly after?: string } = {},
  ): AsyncGenerator<StoredObject, void, undefined> {
    for (let after = options.after ?? ''; ;) {
      const page = await this.request('list', prefix, options, () =>
        this.bucket
          .keys(prefix)
          .filter((key) => key > after)
          .slice(0, LISTING_PAGE_KEYS)
          .map((key) => this.describe(key)),
      );
      for (const object of page) if (object !== undefined) yield object;
      const last = page.at(-1);
      if (last === undefined || page.length < LISTING_PAGE_KEYS) return;
      after = last.key;
    }
  }

  delete(key: string, options: StoreRequest = {}): Promise<void> {
    return this.request('delete', key, options, () => {
      this.bucket.objects.delete(key);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  private describe(key: string): StoredObject | undefined {
    const entry = this.bucket.objects.get(key);
    return entry && { key, sizeBytes: entry.body.length, modifiedMs: entry.modifiedMs };
  }

  private request<Result>(
    operation: StoreOperation,
    key: string,
    { signal }: StoreRequest,
    apply: () => Result,
  ): Promise<Result> {
    const { bucket, life } = this;
    const { plan, random, scheduler } = bucket;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(signal.reason as Error);
      const aborted = (): void => reject(signal?.reason as Error);
      signal?.addEventListener('abort', aborted, { once: true });
      const settle = (run: () => void): void => {
        signal?.removeEventListener('abort', aborted);
        run();
      };
      bucket.onOperation(operation, key);
      const fail = (delayMs: number, code: ErrorCode): void => {
        life.later(delayMs, () => settle(() => reject(new GatewayError(code, `${operation} ${key}: injected`))));
      };
      if (scheduler.nowMs < plan.outageUntilMs) return fail(plan.latencyMs(), 'store-unreachable');
      if (random.fraction() < plan.failBefore)
        return fail(plan.latencyMs(), failures[random.below(failures.length)] ?? 'store-failed');
      const straggles = operation === 'put' && random.fraction() < plan.straggle;
      const thereMs = straggles ? REQUEST_MS_MAX * (0.5 + 4 * random.fraction()) : plan.latencyMs();
      if (straggles) fail(REQUEST_MS_MAX, 'store-unreachable');
      const lost = random.fraction() < plan.loseReply;
      const backMs = plan.latencyMs();
      if (operation === 'put' && random.fraction() < plan.duplicate)
        scheduler.at(thereMs + backMs + 2 * REQUEST_MS_MAX * random.fraction(), () => tolerate(apply));
      // It arrives whether its sender lives or not.
      scheduler.at(thereMs, () => {
        let answer: () => void;
        try {
          const result = apply();
          answer = () => resolve(result);
        } catch (error) {
          answer = () => reject(error instanceof Error ? error : new Error(String(error)));
        }
        if (straggles) return;
        if (lost) fail(backMs, 'store-failed');
        else life.later(backMs, () => settle(answer));
      });
    });
  }
}

function tolerate(run: () => unknown): void {
  try {
    run();
  } catch {
    // A duplicate's answer goes nowhere.
  }
}
