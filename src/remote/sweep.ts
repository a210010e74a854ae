/**
 * Looks through all that the bucket holds of a volume for what nobody needs and nobody remembers: segments that died in an
 * earlier life of the owner, those that an owner sent and never committed, shards of checkpoints that were not finished.
 * It only names them; deletion.ts decides. It counts everything on the way.
 *
 * Void is what lies beside the history in an epoch that was fenced. Epochs do not follow each other by their numbers: one
 * that was only claimed yet may become the next, whatever its number, so nothing of an epoch without a fence is touched.
 * Fences, epochs, keys and the volume object are never named; nor is what cannot be opened. (A fence may lie where a segment
 * was deleted, put there by one that was too slow and then refused.)
 */
import { BLOCK_BYTES } from '../base/units.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { BookKeeper } from './book-keeper.js';
import type { Dies, KeptCheckpoints } from './kept-checkpoints.js';
import type { ParsedName, SegmentKey } from './name.js';
import { isDamage } from './restore-checkpoint.js';
import type { RemoteBook } from './remote-map-book.js';
import type { ObjectSealer } from './seal.js';
import { readSegmentHead } from './segment-reader.js';
import type { SegmentHead } from './segment-reader.js';

/** Segments that are looked up in the book at a time. */
const PAGE = 1000;
/** Beside the history; more are left for the next sweep. */
const STRAYS_MAX = 4096;

interface ListedSegment extends SegmentKey {
  readonly sizeBytes: number;
}

export interface SweepOptions {
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly keeper: BookKeeper;
  readonly kept: KeptCheckpoints;
  /** The owner's own. */
  readonly epoch: number;
  readonly request: StoreRequest;
  readonly dies: Dies;
  /** Called for every object of the volume. */
  readonly count: (name: string, sizeBytes: number) => void;
}

export async function sweep(options: SweepOptions): Promise<void> {
  const { store, sealer, request, count } = options;
  const { names } = sealer;
  const strays: SegmentKey[] = [];
  let page: ListedSegment[] = [];
  for await (const { key: name, sizeBytes } of store.list(names.folder, request)) {
    count(name, sizeBytes);
    const parsed = names.parse(name);
    if (parsed?.kind === 'segment') page.push({ epoch: parsed.epoch, number: parsed.number, sizeBytes });
    else if (parsed !== undefined) other(name, parsed, options);
    if (page.length < PAGE) continue;
    strays.push(...(await history(page, options)));
    page = [];
  }
  strays.push(...(await history(page, options)));
  await voids(strays.slice(0, STRAYS_MAX), options);
}

function other(name: string, parsed: ParsedName, { kept, dies }: SweepOptions): void {
  if (parsed.kind !== 'shard' && parsed.kind !== 'checkpoint') return;
  if (kept.names(name)) return;
  // What is newer than the newest checkpoint is being written.
  if (parsed.kind === 'shard' && parsed.number <= kept.newest) dies(name, kept.newest);
  if (parsed.kind === 'checkpoint' && parsed.number < kept.floor) dies(name, parsed.number + 1);
}

/** Names what is dead of the history; returns what is beside it. */
function history(page: readonly ListedSegment[], options: SweepOptions): Promise<SegmentKey[]> {
  const { keeper, sealer, epoch, dies } = options;
  return keeper.use(async (book) => {
    const ranges = rangesOf(book);
    const strays: SegmentKey[] = [];
    for (const key of page) {
      const range = ranges.get(key.epoch);
      if (range === undefined || key.number < range.first || key.number > range.last) {
        if (key.epoch !== epoch) strays.push(key);
      } else if (!book.table.isLive(key.number) && !(await isFence(key, options))) {
        // Where it died is not known: a snapshot between the newest checkpoint and here may need it.
        dies(sealer.names.segment(key), Math.max(book.position.number, key.number + 1));
      }
    }
    return strays;
  });
}

/** Only what is small is looked at: a fence has no payload. */
async function isFence(key: ListedSegment, options: SweepOptions): Promise<boolean> {
  return key.sizeBytes < BLOCK_BYTES && (await headOf(key, options))?.kind === 'fence';
}

/** Which numbers of each epoch are the history. */
function rangesOf({ epochs, position }: RemoteBook): Map<number, { first: number; last: number }> {
  const last = (at: number): number => epochs.at(at + 1)?.firstNumber ?? position.number + 1;
  return new Map(epochs.map(({ epoch, firstNumber }, at) => [epoch, { first: firstNumber, last: last(at) - 1 }]));
}

/** One key alone beside an epoch's history is the fence that ends it. */
async function voids(strays: readonly SegmentKey[], options: SweepOptions): Promise<void> {
  const { sealer, dies } = options;
  for (const epoch of new Set(strays.map((key) => key.epoch))) {
    const keys = strays.filter((key) => key.epoch === epoch);
    if (keys.length === 1) continue;
    const heads: SegmentHead[] = [];
    for (const key of keys) {
      const head = await headOf(key, options);
      if (head !== undefined) heads.push(head);
    }
    const fence = heads.find((head) => head.kind === 'fence');
    if (fence?.kind !== 'fence') continue;
    // A walk that begins before the end of this epoch reads on to its fence.
    const deadAt = fence.fence.lastGroup.number + 1;
    for (const { kind, key } of heads) if (kind === 'segment') dies(sealer.names.segment(key), deadAt);
  }
}

/** undefined: it cannot be opened, and is left alone. */
async function headOf(key: SegmentKey, { store, sealer, request }: SweepOptions): Promise<SegmentHead | undefined> {
  try {
    return await readSegmentHead(store, sealer, key, request);
  } catch (error) {
    if (isDamage(error)) return undefined;
    throw error;
  }
}
