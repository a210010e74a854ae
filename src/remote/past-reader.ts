/**
 * Compares what a volume was at one of its snapshots with what the bucket holds of it now, and reads what differs: for
 * whoever brings the volume back to there. Nothing is fetched of what has the same copy in both.
 *
 * The snapshot itself keeps all that this needs in the bucket. A block that was moved by compaction since counts as one that
 * differs, and is read once more than need be.
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import { SUM_REMOTE } from '../engine/sums.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { FrozenRun } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { BookKeeper } from './book-keeper.js';
import { FrozenBook } from './frozen-book.js';
import { BucketVolume } from './frozen-volume.js';
import type { ReadLane } from './frozen-volume.js';
import type { RemoteBook } from './remote-map-book.js';
import type { ObjectSealer } from './seal.js';
import { ShardCache } from './shard-cache.js';
import { MapEntries, SHARD_BLOCKS } from './shard-map.js';
import { openSnapshot } from './snapshot-open.js';

/** Shards that one question looks through at most, so that its answer comes soon. */
const SHARDS_AT_ONCE = 16;

export interface PastReaderOptions {
  readonly keeper: BookKeeper;
  /** Gives up after a few attempts. */
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly random: Random;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly log: Log;
  readonly createdSizeBytes: number;
  readonly request: StoreRequest;
}

export interface PastAsk {
  /** Of the snapshot's record. */
  readonly snapshotLsn: Lsn;
  readonly from: BlockNumber;
  readonly blocksMax: number;
  /** count: only how many differ, and which of them are lost. */
  readonly do: 'count' | 'read';
}

export interface PastPiece {
  /** Where to go on; undefined: nothing that differs lies behind. */
  readonly next: BlockNumber | undefined;
  /** Blocks that differ, of those from `from` to before `next`. */
  readonly blocks: number;
  /** Those that had rotted before the bucket got them: nobody has what they were. */
  readonly lost: readonly BlockNumber[];
  /** To read: all of them, as they were. */
  readonly runs: readonly FrozenRun[];
}

interface Opened {
  readonly snapshotLsn: Lsn;
  readonly volume: BucketVolume;
  readonly cache: ShardCache;
}

export class PastReader {
  readonly #options: PastReaderOptions;
  #opened: Opened | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: PastReaderOptions) {
    this.#options = options;
  }

  /** not-found: there is no such snapshot; object-missing, object-damaged, remote-gap; store errors. */
  read(ask: PastAsk): Promise<PastPiece> {
    const answer = this.#turn.then(() => this.#read(ask));
    this.#turn = answer.catch(() => undefined);
    return answer;
  }

  /** Forgets what it has opened, and what it kept on the disk. */
  async close(): Promise<void> {
    await this.#turn;
    await this.#closeOpened();
  }

  async #closeOpened(): Promise<void> {
    const opened = this.#opened;
    this.#opened = undefined;
    if (opened === undefined) return;
    await opened.cache.close();
    await ShardCache.remove(this.#options.disk);
  }

  async #read(ask: PastAsk): Promise<PastPiece> {
    const { volume } = await this.#open(ask.snapshotLsn);
    const { differing, next } = await this.#differing(volume.book, ask);
    const { request, store } = this.#options;
    const lane = { store, request, keep: false };
    if (ask.do === 'count') {
      return { next, blocks: differing.length, lost: await this.#lost(volume, differing, lane), runs: [] };
    }
    const runs: FrozenRun[] = [];
    for (const { first, count } of runsOf(differing)) {
      const read = await volume.read(first, count, lane);
      if (read.failure !== undefined) throw read.failure;
      for (const run of read.runs) {
        const part = within(run, first, count);
        if (part !== undefined) runs.push(part);
      }
    }
    return { next, blocks: differing.length, lost: [], runs };
  }

  async #open(snapshotLsn: Lsn): Promise<Opened> {
    if (this.#opened?.snapshotLsn === snapshotLsn) return this.#opened;
    await this.#closeOpened();
    const { keeper, sealer, disk, checksums } = this.#options;
    const all = await keeper.use((book) => Promise.resolve(book.snapshots));
    const snapshot = all.find(({ lsn }) => lsn === snapshotLsn);
    if (snapshot === undefined) throw new GatewayError('not-found', 'the snapshot is not in the bucket');
    const cache = await ShardCache.open(disk, checksums);
    try {
      const load = (checkpoint: ConstructorParameters<typeof FrozenBook>[0]): Promise<FrozenBook> =>
        Promise.resolve(new FrozenBook(checkpoint, { ...this.#options, cache }));
      const book = await openSnapshot(snapshot, { ...this.#options, load });
      const { store } = this.#options;
      this.#opened = { snapshotLsn, cache, volume: new BucketVolume({ book, sealer, checksums, store }) };
      return this.#opened;
    } catch (error) {
      await cache.close();
      throw error;
    }
  }

  async #differing(
    past: FrozenBook,
    { from, blocksMax }: PastAsk,
  ): Promise<{ readonly differing: readonly BlockNumber[]; readonly next: BlockNumber | undefined }> {
    const shards = await this.#options.keeper.use((book) => Promise.resolve(shardsOf(book, past)));
    const differing: BlockNumber[] = [];
    let looked = 0;
    for (const shard of shards) {
      const end = (shard + 1) * SHARD_BLOCKS;
      if (end <= from) continue;
      if (looked++ === SHARDS_AT_ONCE) return { differing, next: shard * SHARD_BLOCKS };
      const now = new MapEntries(await this.#options.keeper.use((book) => book.map.merged(shard)));
      for (let block = Math.max(from, shard * SHARD_BLOCKS); block < end; block++) {
        const at = block % SHARD_BLOCKS;
        const known = past.map.placeNow(block);
        const place = known === 'unknown' ? await past.map.place(block, this.#options.request) : known;
        const [segment, payload] = [now.segment(at), now.payload(at)];
        if (segment === (place?.segment ?? 0) && (segment === 0 || payload === place?.payload)) continue;
        if (differing.length === blocksMax) return { differing, next: block };
        differing.push(block);
      }
    }
    return { differing, next: undefined };
  }

  /** Of these blocks those that the snapshot has lost. Every index is fetched, so that none is missing afterwards. */
  async #lost(volume: BucketVolume, blocks: readonly BlockNumber[], lane: ReadLane): Promise<BlockNumber[]> {
    const lost: BlockNumber[] = [];
    for (const block of blocks) {
      const place = await volume.book.map.place(block, lane.request);
      if (place === undefined) continue;
      const { index } = await volume.head(await volume.book.table.row(place.segment, lane.request), lane);
      if (index.sums[place.payload] === SUM_REMOTE) lost.push(block);
    }
    return lost;
  }
}

/** Shards in which anything may differ, ascending. */
function shardsOf(book: RemoteBook, past: FrozenBook): number[] {
  const changed = book.map.changes();
  const all = new Set([...book.mapShards.keys(), ...changed.keys(), ...past.map.mappedShards]);
  const same = (shard: number): boolean => {
    const link = past.map.pureLink(shard);
    const now = book.mapShards.get(shard)?.link;
    return !changed.has(shard) && link !== undefined && now !== undefined && equalBytes(link, now);
  };
  return [...all].filter((shard) => !same(shard)).sort((left, right) => left - right);
}

function runsOf(blocks: readonly BlockNumber[]): { readonly first: BlockNumber; readonly count: number }[] {
  const runs: { first: BlockNumber; count: number }[] = [];
  for (const block of blocks) {
    const last = runs.at(-1);
    if (last !== undefined && last.first + last.count === block) last.count++;
    else runs.push({ first: block, count: 1 });
  }
  return runs;
}

/** The part of a run that lies in a range, with memory of its own. */
function within(run: FrozenRun, first: BlockNumber, count: number): FrozenRun | undefined {
  const firstBlock = Math.max(first, run.firstBlock);
  const blockCount = Math.min(first + count, run.firstBlock + run.blockCount) - firstBlock;
  if (blockCount <= 0) return undefined;
  const { payload } = run;
  if (payload === undefined) return { firstBlock, blockCount, payload };
  const skipped = firstBlock - run.firstBlock;
  const start = payload.start + skipped * BLOCK_BYTES;
  const bytes = payload.bytes.slice(start, start + blockCount * BLOCK_BYTES);
  const sums = payload.sums.slice(payload.sumsStart + skipped, payload.sumsStart + skipped + blockCount);
  return { firstBlock, blockCount, payload: { bytes, start: 0, sums, sumsStart: 0 } };
}
