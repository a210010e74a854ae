/**
 * The checkpoints that are kept, the newest three, and the shards that they name. A reader whose newest checkpoint is
 * damaged begins at an older one of them; so what lived at the oldest of the three must stay.
 */
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Checkpoint } from './checkpoint.js';
import type { SegmentKey } from './name.js';
import { listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';

export const CHECKPOINTS_KEPT = 3;

export interface KeptCheckpoint {
  readonly name: string;
  /** Segment number of its recovery point. */
  readonly number: number;
  readonly shards: ReadonlySet<string>;
}

export function keptOf(
  sealer: ObjectSealer,
  key: SegmentKey,
  { recoveryPoint, mapShards, tableShards }: Pick<Checkpoint, 'recoveryPoint' | 'mapShards' | 'tableShards'>,
): KeptCheckpoint {
  const shards = [...mapShards, ...tableShards].map((shard) => sealer.names.shard(shard));
  return { name: sealer.names.checkpoint(key), number: recoveryPoint.number, shards: new Set(shards) };
}

/** What an object's death is: no recovery point from this segment number on needs it. */
export type Dies = (name: string, deadAt: number) => void;

export class KeptCheckpoints {
  /** Oldest first. */
  #kept: KeptCheckpoint[] = [];

  /** Of those in the bucket; one that is damaged is none. */
  async load(store: ObjectStore, sealer: ObjectSealer, request: StoreRequest): Promise<void> {
    for (const key of await listCheckpoints(store, sealer, request)) {
      if (this.#kept.length === CHECKPOINTS_KEPT) break;
      const checkpoint = await readCheckpoint(store, sealer, key, request, () => undefined);
      if (checkpoint !== undefined) this.#kept.unshift(keptOf(sealer, key, checkpoint));
    }
  }

  /** A newer one was written; the fourth dies, with the shards that it alone names. */
  add(checkpoint: KeptCheckpoint, dies: Dies): void {
    if (this.#kept.some(({ name }) => name === checkpoint.name)) return;
    this.#kept.push(checkpoint);
    while (this.#kept.length > CHECKPOINTS_KEPT) {
      const [oldest, next] = this.#kept;
      this.#kept.shift();
      if (oldest === undefined || next === undefined) return;
      dies(oldest.name, next.number);
      for (const shard of oldest.shards) if (!this.names(shard)) dies(shard, next.number);
    }
  }

  /** Whether an object is one of them, or named by one. */
  names(name: string): boolean {
    return this.#kept.some((kept) => kept.name === name || kept.shards.has(name));
  }

  /** What is dead at this recovery point may go; 0: there are not enough to tell. */
  get floor(): number {
    return this.#kept.length < CHECKPOINTS_KEPT ? 0 : (this.#kept[0]?.number ?? 0);
  }

  get newest(): number {
    return this.#kept.at(-1)?.number ?? 0;
  }
}
