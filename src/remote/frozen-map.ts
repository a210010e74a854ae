/**
 * Where each block has its copy at one recovery point, for a reader of it: the shards of a checkpoint, which come on first
 * use (shard-cache.ts), and over them a delta in memory of what changed between that checkpoint and the recovery point.
 *
 * Compaction behind the checkpoint is left out: it changes nothing that can be read, and the copies that it moved blocks
 * away from were not dead at the checkpoint, so that the reader's pin protects them (pin.ts). So a change never depends
 * on what was there before it, and no shard is needed to apply one.
 */
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { BlockNumber } from '../base/units.js';
import { ZERO_LOCATION } from '../engine/block-table.js';
import type { Overlay } from '../engine/overlay.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { Checkpoint } from './checkpoint.js';
import { emptyDelta } from './checkpoint.js';
import { overlayOf, PLACE_SEGMENT, shardChanges } from './remote-map-delta.js';
import type { ObjectSealer } from './seal.js';
import { LINK_BYTES } from './seal.js';
import type { SegmentIndex } from './segment-index.js';
import type { ShardCache } from './shard-cache.js';
import {
  MAP_PAGE_BLOCKS,
  MAP_PAGE_BYTES,
  MapEntries,
  mapPageSums,
  openMapShard,
  SHARD_BLOCKS,
  SHARD_BYTES,
  SHARD_PAGES,
} from './shard-map.js';
import type { MapShard, MapShardReference } from './shard-map.js';
import { SharedFetch } from './shared-fetch.js';

/** Pages that are kept in memory. */
const PAGES_MAX = 1024;
/**
 * Entries of the delta that are kept in memory, up to 56 MiB of it: more than a checkpoint has and what may be written
 * before the next one, so that an opening needs no shard.
 */
const FOLD_ENTRIES = 512 * 1024;

export interface Place {
  readonly segment: number;
  /** Index among the segment's payload blocks. */
  readonly payload: number;
}

export interface FrozenMapOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly random: Random;
  readonly cache: ShardCache;
  /** Of the opening. */
  readonly request: StoreRequest;
  /** See FOLD_ENTRIES. */
  readonly foldEntries?: number;
}

interface Shard {
  readonly link: Uint8Array;
  /** undefined: changes were folded into it, so that it is in the cache alone. */
  readonly reference: MapShardReference | undefined;
}

export class FrozenMap {
  readonly #options: FrozenMapOptions;
  readonly #shards: Map<number, Shard>;
  readonly #delta: Overlay;
  readonly #loads = new SharedFetch<MapShard>();
  /** Oldest first. */
  readonly #pages = new Map<number, MapEntries>();
  #mapped: readonly number[] | undefined;
  /** Shards that the delta changes. */
  #changed: ReadonlySet<number> | undefined;

  constructor(checkpoint: Checkpoint | undefined, options: FrozenMapOptions) {
    this.#options = options;
    this.#shards = new Map(
      checkpoint?.mapShards.map((reference) => [reference.shardIndex, { link: reference.link, reference }]),
    );
    this.#delta = overlayOf(checkpoint?.delta ?? emptyDelta, Math.max(1, checkpoint?.recoveryPoint.number ?? 0));
  }

  /** One segment of a committed group, in the order of their numbers; a staged one with the segment `at` that applies it. */
  async apply(number: number, { role, extents, zeros }: SegmentIndex, at = number): Promise<void> {
    if (role === 'compaction') return;
    this.#mapped = this.#changed = undefined;
    const { table } = this.#delta;
    for (let next = 0; next < zeros.count; next++) {
      this.#delta.zero(zeros.firstBlock[next] ?? 0, zeros.blockCount[next] ?? 0, at, false);
    }
    for (let next = 0; next < extents.count; next++) {
      const first = extents.firstBlock[next] ?? 0;
      const place = number * PLACE_SEGMENT + (extents.payload[next] ?? 0);
      for (let block = 0; block < (extents.blockCount[next] ?? 0); block++) {
        table.set(first + block, at, place + block, 0);
      }
    }
    const { foldEntries = FOLD_ENTRIES } = this.#options;
    if (table.size + this.#delta.extents.count > foldEntries) await this.fold();
  }

  /** undefined: the block reads as zero. object-missing, object-damaged; store errors. */
  async place(block: BlockNumber, request: StoreRequest): Promise<Place | undefined> {
    const known = this.placeNow(block);
    if (known !== 'unknown') return known;
    return placeIn(await this.#page(Math.floor(block / MAP_PAGE_BLOCKS), request), block);
  }

  /** 1 for each of these blocks that has a copy, as far as the shard of the first one tells. Rejects as `place`. */
  async mapped(first: BlockNumber, count: number, request: StoreRequest): Promise<Uint8Array<ArrayBuffer>> {
    const mapped = new Uint8Array(Math.min(count, SHARD_BLOCKS - (first % SHARD_BLOCKS)));
    for (let at = 0; at < mapped.length; at++) {
      const known = this.placeNow(first + at);
      const place = known === 'unknown' ? await this.place(first + at, request) : known;
      if (place !== undefined) mapped[at] = 1;
    }
    return mapped;
  }

  /** As place, for what is in memory. */
  placeNow(block: BlockNumber): Place | undefined | 'unknown' {
    const slot = this.#delta.lookup(block);
    if (slot === -1) {
      if (!this.#shards.has(Math.floor(block / SHARD_BLOCKS))) return undefined;
      const entries = this.#pages.get(Math.floor(block / MAP_PAGE_BLOCKS));
      return entries === undefined ? 'unknown' : placeIn(entries, block);
    }
    const place = slot === -2 ? ZERO_LOCATION : this.#delta.table.locationAt(slot);
    if (place === ZERO_LOCATION) return undefined;
    return { segment: Math.floor(place / PLACE_SEGMENT), payload: place % PLACE_SEGMENT };
  }

  /** The link of a shard that is, unchanged, this part of the map; undefined: there is none such. */
  pureLink(shardIndex: number): Uint8Array | undefined {
    this.#changed ??= new Set(shardChanges(this.#delta).keys());
    return this.#changed.has(shardIndex) ? undefined : this.#shards.get(shardIndex)?.link;
  }

  /** Shards, ascending, in which any block can have a copy: all others read as zero. */
  get mappedShards(): readonly number[] {
    if (this.#mapped === undefined) {
      const shards = new Set(this.#shards.keys());
      for (const block of this.#delta.table.sortedBlocks()) shards.add(Math.floor(block / SHARD_BLOCKS));
      this.#mapped = [...shards].sort((left, right) => left - right);
    }
    return this.#mapped;
  }

  async #page(page: number, request: StoreRequest): Promise<MapEntries> {
    const shardIndex = Math.floor(page / SHARD_PAGES);
    const shard = this.#shards.get(shardIndex);
    assert(shard !== undefined, 'a page is looked up in a shard that there is');
    const bytes = new Uint8Array(MAP_PAGE_BYTES);
    if (!(await this.#options.cache.readPage(shard.link, page, bytes))) {
      const { entries } = await this.#loaded(shardIndex, shard, request);
      const start = (page % SHARD_PAGES) * MAP_PAGE_BYTES;
      bytes.set(entries.subarray(start, start + MAP_PAGE_BYTES));
    }
    const entries = new MapEntries(bytes);
    if (this.#shards.get(shardIndex) === shard) this.#keep(page, entries);
    return entries;
  }

  #keep(page: number, entries: MapEntries): void {
    this.#pages.delete(page);
    this.#pages.set(page, entries);
    const [oldest] = this.#pages.keys();
    if (this.#pages.size > PAGES_MAX && oldest !== undefined) this.#pages.delete(oldest);
  }

  #loaded(shardIndex: number, { reference }: Shard, request: StoreRequest): Promise<MapShard> {
    if (reference === undefined) {
      throw new GatewayError('checksum-mismatch', `shard ${shardIndex} of the local map has rotted`);
    }
    const { store, sealer, checksums, cache } = this.#options;
    return this.#loads.get(`shard ${shardIndex} of the map`, request, async (shared) => {
      const bytes = await store.get(sealer.names.shard(reference), shared);
      const shard = openMapShard(sealer, checksums, reference, bytes);
      await cache.write(reference.link, shard);
      return shard;
    });
  }

  /** Brings the delta into the shards that it changes, so that memory stays bounded however long the way is. */
  async fold(): Promise<void> {
    const { cache, random, request } = this.#options;
    for (const [shardIndex, { written, zeroed }] of shardChanges(this.#delta)) {
      if (written === 0 && zeroed === SHARD_BLOCKS) {
        this.#shards.delete(shardIndex);
        continue;
      }
      const entries = await this.#wholeShard(shardIndex, request);
      this.#merge(shardIndex, new MapEntries(entries));
      const link = random.bytes(LINK_BYTES);
      if (
        !(await cache.write(link, {
          shardIndex,
          entries,
          pageSums: mapPageSums(this.#options.checksums, shardIndex, entries),
        }))
      ) {
        throw new GatewayError('disk-full', 'there is no space for the local map');
      }
      this.#shards.set(shardIndex, { link, reference: undefined });
    }
    this.#delta.clear();
    this.#pages.clear();
  }

  async #wholeShard(shardIndex: number, request: StoreRequest): Promise<Uint8Array> {
    const bytes = new Uint8Array(SHARD_BYTES);
    if (!this.#shards.has(shardIndex)) return bytes;
    for (let page = 0; page < SHARD_PAGES; page++) {
      const { bytes: entries } = await this.#page(shardIndex * SHARD_PAGES + page, request);
      bytes.set(entries, page * MAP_PAGE_BYTES);
    }
    return bytes;
  }

  #merge(shardIndex: number, entries: MapEntries): void {
    for (let at = 0; at < SHARD_BLOCKS; at++) {
      const slot = this.#delta.lookup(shardIndex * SHARD_BLOCKS + at);
      if (slot === -1) continue;
      const place = slot === -2 ? ZERO_LOCATION : this.#delta.table.locationAt(slot);
      if (place === ZERO_LOCATION) entries.set(at, 0, 0);
      else entries.set(at, Math.floor(place / PLACE_SEGMENT), place % PLACE_SEGMENT);
    }
  }
}

function placeIn(entries: MapEntries, block: BlockNumber): Place | undefined {
  const segment = entries.segment(block % MAP_PAGE_BLOCKS);
  return segment === 0 ? undefined : { segment, payload: entries.payload(block % MAP_PAGE_BLOCKS) };
}
