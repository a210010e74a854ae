/**
 * Scrubs what leads to the blocks of a bucket: the roots of the checkpoints that are kept and of the snapshots, and the
 * shards that they name, each object once. Damage is told apart by who needs the object: a reader of the newest checkpoint,
 * one who begins at an older checkpoint, or whoever wants a snapshot.
 *
 * What is not needed any more may be deleted meanwhile: an object counts only if it is needed still when all was read.
 */
import { GatewayError } from '../base/errors.js';
import { equalBytes } from '../base/bytes.js';
import type { Checksums } from '../ports/checksum.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { BookKeeper } from './book-keeper.js';
import { openCheckpoint } from './checkpoint.js';
import type { Checkpoint } from './checkpoint.js';
import { CHECKPOINTS_KEPT } from './kept-checkpoints.js';
import type { SegmentKey } from './name.js';
import type { RemoteBook } from './remote-map-book.js';
import { isDamageOrNewer, listCheckpoints } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { openMapShard } from './shard-map.js';
import type { MapShardReference } from './shard-map.js';
import { openTableShard, TABLE_SHARD_NUMBERS, tableIndexOf } from './shard-table.js';
import type { SegmentRow, TableShardReference } from './shard-table.js';
import type { Snapshot } from './snapshots.js';

export interface ShardScrubOptions {
  readonly keeper: BookKeeper;
  /** Gives up after a few attempts. */
  readonly store: ObjectStore;
  readonly sealer: ObjectSealer;
  readonly checksums: Checksums;
  readonly request: StoreRequest;
}

/** Whom damage concerns. */
export interface Needed {
  /** Whoever restores the newest recovery point. The next checkpoint does without it. */
  current: boolean;
  /** Whoever finds no newer checkpoint sound. */
  older: boolean;
  /** Names of snapshots that cannot be restored without it. */
  readonly snapshots: Set<string>;
}

export interface DamagedSegment {
  readonly object: string;
  readonly problem: string;
}

export class ShardScrub {
  readonly #options: ShardScrubOptions;
  /** What was read: what is wrong with it, if anything. */
  readonly #read = new Map<string, string | undefined>();
  readonly #needed = new Map<string, Needed>();
  /** Of older checkpoints: the root by which an object is needed. */
  readonly #byRoot = new Map<string, Set<string>>();
  readonly #segments: ReadonlyMap<number, DamagedSegment>;
  readonly #root: SegmentKey | undefined;
  readonly #snapshots: readonly Snapshot[];

  /** `segments`: by their numbers; to be filled before `roots`. */
  constructor(
    { root, snapshots }: Pick<RemoteBook, 'root' | 'snapshots'>,
    segments: ReadonlyMap<number, DamagedSegment>,
    options: ShardScrubOptions,
  ) {
    this.#root = root;
    this.#snapshots = snapshots;
    this.#segments = segments;
    this.#options = options;
  }

  /** Of the newest checkpoint. */
  async mapShard(shard: MapShardReference): Promise<void> {
    await this.#shard(shard, (needed) => (needed.current = true));
  }

  /** Of the newest checkpoint; undefined: it is damaged. */
  async tableShard(shard: TableShardReference): Promise<readonly SegmentRow[] | undefined> {
    return this.#shard(shard, (needed) => (needed.current = true));
  }

  /** Reads the roots that are kept, and what they name that was not read yet. */
  async roots(): Promise<void> {
    const { store, sealer, request } = this.#options;
    const newest = this.#root;
    const keys = await listCheckpoints(store, sealer, request);
    const isNewest = (key: SegmentKey): boolean => key.number === newest?.number && key.epoch === newest.epoch;
    if (newest !== undefined && !keys.some(isNewest)) keys.unshift(newest);
    let sound = 0;
    for (const key of keys) {
      if (sound === CHECKPOINTS_KEPT) break;
      // Written since the newest that the owner told of: its own, or one that is not of its history.
      if (newest === undefined || key.number > newest.number) continue;
      const isOwn = isNewest(key);
      const name = sealer.names.checkpoint(key);
      const note = (needed: Needed): void => {
        if (isOwn) needed.current = true;
        else needed.older = true;
      };
      const checkpoint = await this.#checkpoint(key, note);
      if (!isOwn) this.#neededBy(name, name);
      if (checkpoint === undefined) continue;
      sound++;
      if (!isOwn) await this.#named(checkpoint, note, (object) => this.#neededBy(object, name));
    }
    for (const snapshot of this.#snapshots) await this.#snapshot(snapshot);
  }

  /** What is damaged, and needed still. */
  async damages(): Promise<(DamagedSegment & { readonly needed: Needed })[]> {
    const { keeper, store, sealer, request } = this.#options;
    const { names } = sealer;
    if (this.#needed.size === 0) return [];
    const segments = new Map([...this.#segments.values()].map(({ object, problem }) => [object, problem]));
    const listed = new Set((await listCheckpoints(store, sealer, request)).map((key) => names.checkpoint(key)));
    return keeper.use((book) => {
      const now = new Set([...book.mapShards.values(), ...book.table.tableShards].map((shard) => names.shard(shard)));
      if (book.root !== undefined) now.add(names.checkpoint(book.root));
      const snapshots = new Set(book.snapshots.map(({ name }) => name));
      const damages = [...this.#needed].map(([object, { current, older, snapshots: those }]) => ({
        object,
        problem: this.#read.get(object) ?? segments.get(object) ?? 'it is damaged',
        needed: {
          current: current && now.has(object),
          older: older && [...(this.#byRoot.get(object) ?? [])].some((root) => listed.has(root)),
          snapshots: new Set([...those].filter((name) => snapshots.has(name))),
        },
      }));
      return Promise.resolve(
        damages.filter(({ needed }) => needed.current || needed.older || needed.snapshots.size > 0),
      );
    });
  }

  async #snapshot({ name, point, root }: Snapshot): Promise<void> {
    if (root === undefined) return;
    const note = (needed: Needed): void => void needed.snapshots.add(name);
    const key = { epoch: root.epoch, number: point.number };
    const checkpoint = await this.#checkpoint(key, note, (found) => {
      const own = found.snapshots.find((other) => other.point.number === point.number)?.root;
      return own !== undefined && equalBytes(own.link, root.link);
    });
    if (checkpoint === undefined) return;
    await this.#named(checkpoint, note);
    for (const [number, { object }] of this.#segments) if (livesAt(checkpoint, number)) note(this.#of(object));
  }

  async #named(
    { mapShards, tableShards }: Checkpoint,
    note: (needed: Needed) => void,
    each: (object: string) => void = () => undefined,
  ): Promise<void> {
    for (const shard of [...mapShards, ...tableShards]) {
      each(this.#options.sealer.names.shard(shard));
      await this.#shard(shard, note);
    }
  }

  async #checkpoint(
    key: SegmentKey,
    note: (needed: Needed) => void,
    isThat: (checkpoint: Checkpoint) => boolean = () => true,
  ): Promise<Checkpoint | undefined> {
    const { sealer } = this.#options;
    const name = sealer.names.checkpoint(key);
    // A damaged one is not read twice; a sound one is, which names what is needed by somebody else.
    return this.#object(name, note, (bytes) => {
      const checkpoint = openCheckpoint(sealer, key, bytes);
      if (!isThat(checkpoint))
        throw new GatewayError('object-damaged', `${name}: it is not the root that the history names`);
      return checkpoint;
    });
  }

  async #shard(
    shard: MapShardReference | TableShardReference,
    note: (needed: Needed) => void,
  ): Promise<readonly SegmentRow[] | undefined> {
    const { sealer, checksums } = this.#options;
    const name = sealer.names.shard(shard);
    if (this.#read.has(name) && this.#read.get(name) === undefined) return undefined;
    return this.#object(name, note, (bytes) => {
      if ('tableIndex' in shard) return openTableShard(sealer, shard, bytes);
      openMapShard(sealer, checksums, shard, bytes);
      return [];
    });
  }

  async #object<Result>(
    name: string,
    note: (needed: Needed) => void,
    open: (bytes: Uint8Array) => Result,
  ): Promise<Result | undefined> {
    const { store, request } = this.#options;
    if (this.#read.get(name) === undefined) {
      try {
        const result = open(await store.get(name, request));
        this.#read.set(name, undefined);
        return result;
      } catch (error) {
        // A newer version than what names it is a bit that has flipped.
        if (!isDamageOrNewer(error)) throw error;
        this.#read.set(name, error.message);
      }
    }
    note(this.#of(name));
    return undefined;
  }

  #of(object: string): Needed {
    const needed = this.#needed.get(object) ?? { current: false, older: false, snapshots: new Set() };
    this.#needed.set(object, needed);
    return needed;
  }

  #neededBy(object: string, root: string): void {
    this.#byRoot.set(object, (this.#byRoot.get(object) ?? new Set()).add(root));
  }
}

function livesAt({ tableShards, tail }: Checkpoint, number: number): boolean {
  const shard = tableShards.find(({ tableIndex }) => tableIndex === tableIndexOf(number));
  if (shard !== undefined && (shard.live[number % TABLE_SHARD_NUMBERS] ?? 0) > 0) return true;
  return tail.some(({ row, liveBlocks }) => row.number === number && liveBlocks > 0);
}
