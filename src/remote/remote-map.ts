/**
 * Where each block's newest committed copy is, as of the last group that was applied: pages in a file (remote-map-file.ts)
 * that show some recovery point, and over them a delta in memory. Groups are applied in order only.
 *
 * The delta holds what changed since each shard of the last checkpoint was written, so that a checkpoint can repeat it
 * instead of the shard; the part of it that is newer than the file's position is not in the pages yet.
 */
import { assert } from '../base/assert.js';
import type { BlockNumber } from '../base/units.js';
import { ZERO_LOCATION } from '../engine/block-table.js';
import type { Overlay } from '../engine/overlay.js';
import { emptyDelta } from './checkpoint.js';
import type { MapDelta } from './checkpoint.js';
import { nowhere } from './remote-map-header.js';
import { deltaOf, overlayOf, PLACE_SEGMENT, shardChanges } from './remote-map-delta.js';
import type { ShardChange } from './remote-map-delta.js';
import type { MapFile } from './remote-map-file.js';
import type { MapChange } from './remote-map-redo.js';
import type { SegmentIndex } from './segment-index.js';
import type { SegmentMoves } from './segment-moves.js';
import { MAP_PAGE_BLOCKS, MAP_PAGE_BYTES, MapEntries, SHARD_BLOCKS, SHARD_BYTES, SHARD_PAGES } from './shard-map.js';

/** Told when a block's copy in a segment is superseded. */
export interface LiveCounter {
  drop(segmentNumber: number): void;
}

export class RemoteMap {
  readonly file: MapFile;
  readonly #table: LiveCounter;
  #delta: Overlay;
  /** The delta's blocks, ascending; undefined after a change. */
  #sorted: Uint32Array | undefined;
  /** Newest segment number whose changes the pages have. */
  #inFile: number;
  /** Shards whose changes since the last checkpoint are in the pages, and in no delta. */
  readonly #folded = new Set<number>();
  #folds = 0;
  /** The page that `place` read last. */
  #lookUp: { readonly page: number; readonly entries: MapEntries } | undefined;
  /** Of a shard, as they are read to be changed. */
  readonly #pages = new Uint8Array(SHARD_BYTES);
  readonly #entries = new MapEntries(this.#pages);

  /** `delta`: the checkpoint's at the file's position, whose pages contain it already; an empty file's: to be staged. */
  constructor(file: MapFile, table: LiveCounter, delta: MapDelta) {
    this.file = file;
    this.#table = table;
    this.#inFile = file.position.number;
    this.#delta = overlayOf(delta, Math.max(1, this.#inFile));
  }

  /** Entries of the delta: what bounds its memory, and a checkpoint's size. */
  get deltaEntries(): number {
    return this.#delta.table.size + this.#delta.extents.count;
  }

  /**
   * Applies one segment of a committed group. Segments come in the order of their numbers; a staged one comes with the
   * segment that makes it take effect, whose number is `at`. MapDoubtError when the map has rotted where a move looks it up.
   */
  async apply(number: number, index: SegmentIndex, at = number): Promise<void> {
    assert(at > this.#inFile, 'segments are applied in order');
    if (index.moves !== undefined) return this.#applyMoves(number, index, index.moves);
    const { table } = this.#delta;
    const { extents, zeros } = index;
    this.#sorted = undefined;
    for (let next = 0; next < zeros.count; next++) {
      const first = zeros.firstBlock[next] ?? 0;
      const count = zeros.blockCount[next] ?? 0;
      this.#forget(first, count);
      this.#delta.zero(first, count, at, false);
    }
    for (let next = 0; next < extents.count; next++) {
      const first = extents.firstBlock[next] ?? 0;
      const place = number * PLACE_SEGMENT + (extents.payload[next] ?? 0);
      const count = extents.blockCount[next] ?? 0;
      this.#forget(first, count);
      for (let block = 0; block < count; block++) table.set(first + block, at, place + block, 0);
    }
  }

  /** segment-moves.ts: of a block that is written or zeroed since, the moved copy is dead from the start. */
  async #applyMoves(number: number, { extents }: SegmentIndex, moves: SegmentMoves): Promise<void> {
    const { table } = this.#delta;
    this.#sorted = undefined;
    // By block, so that each page of the map is read once.
    const order = Uint32Array.from({ length: extents.count }, (_, at) => at);
    order.sort((left, right) => (extents.firstBlock[left] ?? 0) - (extents.firstBlock[right] ?? 0));
    for (const at of order) {
      const first = extents.firstBlock[at] ?? 0;
      const payload = extents.payload[at] ?? 0;
      for (let next = 0; next < (extents.blockCount[at] ?? 0); next++) {
        const found = await this.place(first + next);
        const stays =
          found?.segment === moves.segment[payload + next] && found?.payload === moves.payload[payload + next];
        if (!stays) {
          this.#table.drop(number);
          continue;
        }
        this.#forgetOne(first + next);
        table.set(first + next, number, number * PLACE_SEGMENT + payload + next, 0);
      }
    }
  }

  /** Where a block's newest copy is; undefined: it reads as zero. MapDoubtError when the map has rotted there. */
  async place(block: BlockNumber): Promise<{ readonly segment: number; readonly payload: number } | undefined> {
    const slot = this.#delta.lookup(block);
    if (slot === -1) {
      const entries = await this.#lookedUp(Math.floor(block / MAP_PAGE_BLOCKS));
      const segment = entries.segment(block % MAP_PAGE_BLOCKS);
      return segment === 0 ? undefined : { segment, payload: entries.payload(block % MAP_PAGE_BLOCKS) };
    }
    const place = slot === -2 ? ZERO_LOCATION : this.#delta.table.locationAt(slot);
    if (place === ZERO_LOCATION) return undefined;
    return { segment: Math.floor(place / PLACE_SEGMENT), payload: place % PLACE_SEGMENT };
  }

  /** The page of the file, which changes only when a set of changes is committed. */
  async #lookedUp(page: number): Promise<MapEntries> {
    if (this.#lookUp?.page !== page) {
      const bytes = new Uint8Array(MAP_PAGE_BYTES);
      await this.file.readPages(page, 1, bytes, 0);
      this.#lookUp = { page, entries: new MapEntries(bytes) };
    }
    return this.#lookUp.entries;
  }

  /** Writes every page that the delta changes to `change`, and counts the copies that die by it. */
  async stage(change: MapChange): Promise<void> {
    const pages = this.#dirtyPages();
    for (let at = 0; at < pages.length;) {
      const first = pages[at] ?? 0;
      const shard = Math.floor(first / SHARD_PAGES);
      const holes = first % SHARD_PAGES === 0 ? this.#wholeHoles(shard) : 0;
      if (holes > 0) {
        await this.#dropShards(shard, holes);
        change.holes(shard, holes);
        while ((pages[at] ?? Infinity) < (shard + holes) * SHARD_PAGES) at++;
        continue;
      }
      const count = runLength(pages, at);
      await this.file.readPages(first, count, this.#pages, 0);
      for (let next = 0; next < count; next++) {
        this.#mergePage(first + next, next * MAP_PAGE_BLOCKS);
        await change.page(first + next, this.#pages, next * MAP_PAGE_BYTES);
      }
      at += count;
    }
  }

  /** The file shows everything that was staged; the delta goes on as a checkpoint has it. */
  staged(delta: MapDelta): void {
    this.#inFile = this.file.position.number;
    this.#delta = overlayOf(delta, Math.max(1, this.#inFile));
    this.#folded.clear();
    this.#sorted = undefined;
    this.#lookUp = undefined;
  }

  /**
   * Brings the delta into the pages in the middle of a group, whose segments go on to be applied `at` the same number, so
   * that memory stays bounded. Until the next checkpoint the file shows no recovery point: after a crash it is made again.
   */
  async fold(at: number): Promise<void> {
    const shards = this.changes().keys();
    const change = await this.file.begin();
    try {
      await this.stage(change);
    } catch (error) {
      await change.discard();
      throw error;
    }
    await this.file.commit(change, nowhere(++this.#folds));
    for (const shard of shards) this.#folded.add(shard);
    this.#delta = overlayOf(emptyDelta, 1);
    this.#inFile = at - 1;
    this.#sorted = undefined;
    this.#lookUp = undefined;
  }

  /** Since the last checkpoint; a shard that was folded counts as wholly written. */
  changes(): Map<number, ShardChange> {
    const changes = shardChanges(this.#delta);
    for (const shard of this.#folded) changes.set(shard, { written: SHARD_BLOCKS, zeroed: 0 });
    return changes;
  }

  /** The delta as a checkpoint has it, without shards that are written anew or are not needed. */
  deltaWithout(skip: (shard: number) => boolean): MapDelta {
    return deltaOf(this.#delta, skip);
  }

  /** A shard as it is with the delta. */
  async merged(shardIndex: number): Promise<Uint8Array> {
    const { entries: bytes } = await this.file.readShard(shardIndex);
    const entries = new MapEntries(bytes);
    const first = shardIndex * SHARD_BLOCKS;
    for (let at = 0; at < SHARD_BLOCKS; at++) this.#mergeEntry(first + at, entries, at, false);
    return bytes;
  }

  /** Copies that the pages do not have yet, and that are superseded now, die here; the others when pages change. */
  #forget(first: BlockNumber, count: number): void {
    const { table } = this.#delta;
    if (count <= table.size) {
      for (let block = first; block < first + count; block++) this.#forgetOne(block);
    } else if (table.size > 0) {
      for (const block of table.sortedBlocks()) if (block >= first && block < first + count) this.#forgetOne(block);
    }
  }

  #forgetOne(block: BlockNumber): void {
    const slot = this.#delta.lookup(block);
    if (slot < 0) return;
    const { table } = this.#delta;
    const place = table.locationAt(slot);
    if (place !== ZERO_LOCATION && table.lsnAt(slot) > this.#inFile)
      this.#table.drop(Math.floor(place / PLACE_SEGMENT));
  }

  /** `entry`: where the page lies in #entries. */
  #mergePage(page: number, entry: number): void {
    const first = page * MAP_PAGE_BLOCKS;
    const end = first + MAP_PAGE_BLOCKS;
    if (this.#delta.extents.nextStart(first) < end) {
      for (let block = first; block < end; block++) this.#mergeEntry(block, this.#entries, entry + block - first, true);
      return;
    }
    const sorted = this.#sortedBlocks();
    for (let at = lowerBound(sorted, first); at < sorted.length; at++) {
      const block = sorted[at] ?? end;
      if (block >= end) return;
      this.#mergeEntry(block, this.#entries, entry + block - first, true);
    }
  }

  #mergeEntry(block: BlockNumber, entries: MapEntries, at: number, count: boolean): void {
    const slot = this.#delta.lookup(block);
    if (slot === -1) return;
    const { table, extents } = this.#delta;
    const number = slot === -2 ? extents.lsnAt(block) : table.lsnAt(slot);
    if (number <= this.#inFile) return;
    const place = slot === -2 ? ZERO_LOCATION : table.locationAt(slot);
    const before = entries.segment(at);
    if (count && before !== 0) this.#table.drop(before);
    if (place === ZERO_LOCATION) entries.set(at, 0, 0);
    else entries.set(at, Math.floor(place / PLACE_SEGMENT), place % PLACE_SEGMENT);
  }

  /** Pages with changes that the file does not have, ascending. Of shards that become holes only the first page. */
  #dirtyPages(): number[] {
    const pages = new Set<number>();
    const { table, extents } = this.#delta;
    for (const block of this.#sortedBlocks()) {
      if (table.lsnAt(table.find(block)) > this.#inFile) pages.add(Math.floor(block / MAP_PAGE_BLOCKS));
    }
    for (const { start, end, lsn } of extents) {
      if (lsn <= this.#inFile) continue;
      for (let block = start; block < end;) {
        pages.add(Math.floor(block / MAP_PAGE_BLOCKS));
        const shard = Math.floor(block / SHARD_BLOCKS);
        const holes = block % SHARD_BLOCKS === 0 ? this.#wholeHoles(shard) : 0;
        block =
          holes > 0 ? (shard + holes) * SHARD_BLOCKS : (Math.floor(block / MAP_PAGE_BLOCKS) + 1) * MAP_PAGE_BLOCKS;
      }
    }
    return [...pages].sort((left, right) => left - right);
  }

  /** How many whole shards from `shard` on one new zero range covers, with nothing written over it. */
  #wholeHoles(shard: number): number {
    const first = shard * SHARD_BLOCKS;
    const extent = this.#delta.extents.at(first);
    if (extent === undefined || extent.lsn <= this.#inFile) return 0;
    const sorted = this.#sortedBlocks();
    let end = extent.end;
    for (let at = lowerBound(sorted, first); at < sorted.length; at++) {
      const block = sorted[at] ?? end;
      if (block >= end) break;
      if (this.#delta.lookup(block) >= 0) end = block;
    }
    return Math.max(0, Math.floor(end / SHARD_BLOCKS) - shard);
  }

  /** Counts what dies in shards that become holes. */
  async #dropShards(first: number, count: number): Promise<void> {
    for await (const shard of this.file.shards()) {
      if (shard < first || shard >= first + count) continue;
      const entries = new MapEntries((await this.file.readShard(shard)).entries);
      for (let at = 0; at < SHARD_BLOCKS; at++) {
        const segment = entries.segment(at);
        if (segment !== 0) this.#table.drop(segment);
      }
    }
  }

  #sortedBlocks(): Uint32Array {
    this.#sorted ??= this.#delta.table.sortedBlocks();
    return this.#sorted;
  }
}

/** How many pages of one shard follow each other from pages[at] on. */
function runLength(pages: readonly number[], at: number): number {
  const first = pages[at] ?? 0;
  const most = SHARD_PAGES - (first % SHARD_PAGES);
  let count = 1;
  while (count < most && pages[at + count] === first + count) count++;
  return count;
}

function lowerBound(sorted: Uint32Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
