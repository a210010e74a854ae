/**
 * How much a volume takes in its bucket: counted by a listing (sweep.ts), and kept by what this life puts and deletes since.
 * An object counts once, however often it is put or seen.
 */
import type { ByteRange, ObjectStore, StoredObject, StoreRequest } from '../ports/object-store.js';
import { ObjectNames } from './name.js';

export class RemoteTally {
  readonly #names: ObjectNames;
  /** Segments by epoch and number, which takes less than their names do. */
  readonly #segments = new Map<number, Map<number, number>>();
  readonly #others = new Map<string, number>();
  #objects = 0;
  #bytes = 0;

  constructor(uuid: string) {
    this.#names = new ObjectNames(uuid);
  }

  get objects(): number {
    return this.#objects;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Only objects of the volume count. */
  add(name: string, sizeBytes: number): void {
    const parsed = this.#names.parse(name);
    if (parsed === undefined) return;
    this.remove(name);
    this.#objects++;
    this.#bytes += sizeBytes;
    if (parsed.kind !== 'segment') {
      this.#others.set(name, sizeBytes);
      return;
    }
    const numbers = this.#segments.get(parsed.epoch) ?? new Map<number, number>();
    this.#segments.set(parsed.epoch, numbers.set(parsed.number, sizeBytes));
  }

  /** undefined: there is none of that name. */
  sizeOf(name: string): number | undefined {
    const parsed = this.#names.parse(name);
    return parsed?.kind === 'segment' ? this.#segments.get(parsed.epoch)?.get(parsed.number) : this.#others.get(name);
  }

  remove(name: string): void {
    const sizeBytes = this.sizeOf(name);
    if (sizeBytes === undefined) return;
    const parsed = this.#names.parse(name);
    if (parsed?.kind === 'segment') this.#segments.get(parsed.epoch)?.delete(parsed.number);
    else this.#others.delete(name);
    this.#objects--;
    this.#bytes -= sizeBytes;
  }
}

/** Keeps tallies of a volume by what passes through. */
export class TalliedStore implements ObjectStore {
  readonly #inner: ObjectStore;
  readonly #uuid: string;
  #tally: RemoteTally | undefined;
  /** Being counted. */
  #fresh: RemoteTally | undefined;

  constructor(inner: ObjectStore, uuid: string) {
    this.#inner = inner;
    this.#uuid = uuid;
  }

  get description(): string {
    return this.#inner.description;
  }

  /** undefined: nothing was counted yet. */
  get tally(): RemoteTally | undefined {
    return this.#tally;
  }

  /** Counts with `list`, which calls its argument for every object, while all goes on. */
  async count<Result>(list: (found: (name: string, sizeBytes: number) => void) => Promise<Result>): Promise<Result> {
    const fresh = new RemoteTally(this.#uuid);
    this.#fresh = fresh;
    try {
      const result = await list((name, sizeBytes) => fresh.add(name, sizeBytes));
      this.#tally = fresh;
      return result;
    } finally {
      this.#fresh = undefined;
    }
  }

  async put(
    key: string,
    body: Uint8Array,
    options: StoreRequest & { readonly ifAbsent: boolean },
  ): Promise<'stored' | 'exists'> {
    const answer = await this.#inner.put(key, body, options);
    if (answer === 'stored') for (const tally of this.#both()) tally.add(key, body.length);
    return answer;
  }

  get(key: string, options: StoreRequest & { readonly range?: ByteRange } = {}): Promise<Uint8Array> {
    return this.#inner.get(key, options);
  }

  head(key: string, options: StoreRequest = {}): Promise<StoredObject | undefined> {
    return this.#inner.head(key, options);
  }

  list(prefix: string, options: StoreRequest & { readonly after?: string } = {}): AsyncIterable<StoredObject> {
    return this.#inner.list(prefix, options);
  }

  async delete(key: string, options: StoreRequest = {}): Promise<void> {
    await this.#inner.delete(key, options);
    for (const tally of this.#both()) tally.remove(key);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #both(): RemoteTally[] {
    return [this.#tally, this.#fresh].filter((tally) => tally !== undefined);
  }
}
