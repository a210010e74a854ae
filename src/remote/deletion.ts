/**
 * Deletes what nobody needs any more, as the owner of a volume and only as that. An object goes when
 *
 *   waited     it was known to be dead for a grace period of this owner's running time (dead-list.ts);
 *   dead       it was dead at the oldest of the three kept checkpoints, so that a reader may begin at any of them;
 *   recorded   and before the newest segment that the local superblocks both know: this directory, after any crash, walks
 *              from there, and takes an absent key for the end;
 *   covered    by no snapshot (deletion-rule.ts);
 *   owner      then a segment was sent and committed in one's own epoch: whoever slept meanwhile may have been fenced;
 *   unread     and then the pins were listed, and no reader needs it (pin-watch.ts);
 *   dead still and the book and the kept checkpoints, asked once more, do not need it either.
 *
 * What is dead stays dead, whoever owns the volume: a history only goes on, and a snapshot that could revive something covers
 * it. So a delete that is late, even one of an owner that was fenced meanwhile, takes from nobody what it needs.
 *
 * Checkpoints go first, and what they lead to only when they are gone. Nothing is repeated: what fails is tried again after
 * the next commit. An idle volume deletes nothing. Epochs and fences stay for ever: they are what ends an owner that comes
 * back.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { BackgroundWork } from './background-work.js';
import type { BookKeeper } from './book-keeper.js';
import { DeadList } from './dead-list.js';
import { exclusiveBytes, unneeded } from './deletion-rule.js';
import type { DeadObject, KeptSpan } from './deletion-rule.js';
import { KeptCheckpoints } from './kept-checkpoints.js';
import type { KeptCheckpoint } from './kept-checkpoints.js';
import { PinWatch } from './pin-watch.js';
import type { TalliedStore } from './remote-tally.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ObjectSealer } from './seal.js';
import type { Snapshot } from './snapshots.js';
import { sweep } from './sweep.js';

export const GRACE_MS = 120_000;
/** How long after its proof was begun a delete may still be sent, in grace periods: a slow line needs a while for a segment. */
const PROOF_GRACES = 30;
const SWEEP_MS = 86_400_000;
/** A probe's scratch object that its owner did not remove. */
const SCRATCH_MS = 86_400_000;
const SCRATCH_PREFIX = 'probe-';
const DELETES_INFLIGHT_MAX = 8;
/** Said once of a life, with what the store answered. */
export const DELETES_FORBIDDEN =
  'the store forbids deletes, so that nothing is compacted or deleted and the bucket grows with every write (allow it, or say that this is meant by compaction: off of the volume; not tried again before a restart)';

export interface DeletionOptions {
  readonly keeper: BookKeeper;
  /** Retries by itself; nothing is deleted through it. */
  readonly reading: ObjectStore;
  /** One attempt each. */
  readonly store: TalliedStore;
  readonly sealer: ObjectSealer;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly clock: Clock;
  readonly log: Log;
  readonly incarnation: Incarnation;
  readonly epoch: number;
  readonly graceMs: number;
  /** The highest segment number that this life has sent. */
  readonly sent: () => number;
  /** DurableState.segmentRecorded */
  readonly recorded: () => number;
  /** Something was deleted. */
  readonly deleted: () => void;
  /** What each snapshot alone keeps in the bucket, by the segment numbers of their points. */
  readonly exclusive: (bytes: ReadonlyMap<number, number>) => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

export class Deletion {
  readonly #options: DeletionOptions;
  readonly #request: StoreRequest;
  readonly #kept = new KeptCheckpoints();
  #dead: DeadList | undefined;
  #pins: PinWatch | undefined;
  /** Each has a checkpoint at its very recovery point, and keeps what that needs. */
  #snapshots: readonly Snapshot[] = [];
  #written: KeptCheckpoint[] = [];
  #emptied: number[] = [];
  #sweptMs: number | undefined;
  /** A segment with a higher number, sent from now on, will prove that this life is the owner. */
  #proofFrom: number | undefined;
  /** The first such segment, and when it was sent. */
  #proof: { readonly number: number; readonly sentMs: number } | undefined;
  #proved = false;
  /** The store lets nobody delete: said once, and not tried again in this life. */
  #forbidden = false;
  readonly #work: BackgroundWork;

  constructor(options: DeletionOptions) {
    this.#options = options;
    this.#request = { signal: options.incarnation.signal };
    this.#work = new BackgroundWork({
      incarnation: options.incarnation,
      step: () => this.#step(),
      refused: (error) => this.#refused(error),
      failed: options.failed,
    });
  }

  /** The store lets nobody delete. */
  get forbidden(): boolean {
    return this.#forbidden;
  }

  /** A checkpoint was written; nothing lives in these segments at its recovery point, or has died before. */
  checkpointed(checkpoint: KeptCheckpoint, emptied: readonly number[]): void {
    this.#written.push(checkpoint);
    this.#emptied.push(...emptied);
    this.#work.wake();
  }

  /** A segment goes on its way. */
  sending(number: number): void {
    if (this.#proofFrom === undefined || this.#proof !== undefined || number <= this.#proofFrom) return;
    this.#proof = { number, sentMs: this.#options.clock.nowMs() };
  }

  /** Everything up to this segment of the own epoch is committed. */
  committed(number: number): void {
    if (this.#proof !== undefined && number >= this.#proof.number) this.#proved = true;
    if (this.#dead !== undefined && this.#dead.size > 0) this.#work.wake();
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    await this.#work.ended();
  }

  #refused(error: Error): void {
    this.#forgetProof();
    this.#forbidden = error instanceof GatewayError && error.code === 'store-forbidden';
    this.#options.log.warn(`${this.#forbidden ? DELETES_FORBIDDEN : 'deletion is put off'}: ${error.message}`);
  }

  async #step(): Promise<void> {
    if (this.#forbidden) return;
    const { disk, clock, sealer, log } = this.#options;
    const known = this.#written.length > 0;
    if (this.#dead === undefined) {
      this.#dead = await DeadList.open(disk, clock, sealer.names, log);
      this.#pins = new PinWatch(this.#dead.pins);
      await this.#kept.load(this.#options.reading, this.#options.sealer, this.#request);
    }
    await this.#bury(this.#dead);
    const snapshots = await this.#options.keeper.use((book) => Promise.resolve(book.snapshots));
    if (known || snapshots !== this.#snapshots) this.#weigh(snapshots, this.#dead);
    this.#snapshots = snapshots;
    if (known) await this.#save();
    if (this.#due(this.#dead, Infinity).length === 0) return;
    if (this.#proofFrom === undefined) {
      this.#proofFrom = this.#options.sent();
      return;
    }
    if (!this.#proved) return;
    if (this.#isFresh()) await this.#deleteUnread(this.#dead);
    this.#forgetProof();
    await this.#save();
  }

  /** Takes down what has died. */
  async #bury(dead: DeadList): Promise<void> {
    const { sealer, keeper, epoch, reading } = this.#options;
    const dies = (name: string, deadAt: number): void => dead.add(name, deadAt);
    for (let next = this.#written.shift(); next !== undefined; next = this.#written.shift()) {
      this.#kept.add(next, dies);
      for (const name of [next.name, ...next.shards]) dead.remove(name);
    }
    const emptied = this.#emptied.splice(0);
    const newest = this.#kept.newest;
    if (emptied.length > 0) {
      const keys = await keeper.use((book) =>
        Promise.resolve(emptied.map((number) => ({ epoch: book.epochOf(number), number }))),
      );
      for (const key of keys) dies(sealer.names.segment(key), Math.max(newest, key.number + 1));
    }
    if (this.#sweptMs !== undefined && dead.runningMs - this.#sweptMs < SWEEP_MS) return;
    const request = this.#request;
    const kept = this.#kept;
    await this.#options.store.count((count) =>
      sweep({ store: reading, sealer, keeper, kept, epoch, request, dies, count }),
    );
    for await (const { key } of reading.list(SCRATCH_PREFIX, request)) dies(key, 0);
    this.#sweptMs = dead.runningMs;
  }

  #weigh(snapshots: readonly Snapshot[], dead: DeadList): void {
    const { store, exclusive } = this.#options;
    const { tally } = store;
    if (tally === undefined) return;
    const numbers = snapshots.map(({ point }) => point.number);
    exclusive(exclusiveBytes(numbers, dead.all, (name) => tally.sizeOf(name)));
  }

  /** What may go, for all that is known without asking the store. */
  #due(dead: DeadList, pinFloor: number): DeadObject[] {
    const { graceMs, recorded } = this.#options;
    const floor = Math.min(this.#kept.floor, recorded());
    const waited = (object: DeadObject): boolean =>
      dead.hasWaited(object, object.name.startsWith(SCRATCH_PREFIX) ? SCRATCH_MS : graceMs);
    return unneeded(dead.all, { floor, pinFloor, kept: spansOf(this.#snapshots) }).filter(waited);
  }

  #isFresh(): boolean {
    const { clock, graceMs } = this.#options;
    return this.#proof !== undefined && clock.nowMs() - this.#proof.sentMs <= graceMs * PROOF_GRACES;
  }

  #forgetProof(): void {
    this.#proofFrom = undefined;
    this.#proof = undefined;
    this.#proved = false;
  }

  async #deleteUnread(dead: DeadList): Promise<void> {
    const { store, sealer, log, deleted } = this.#options;
    if (this.#pins === undefined) return;
    const { floor, stale } = await this.#pins.look(store, sealer, dead.runningMs, this.#request);
    for (const name of stale) dead.add(name, 0);
    const due = await this.#deadStill(this.#due(dead, floor), dead);
    if (due.length === 0) return;
    const isRoot = ({ kind }: DeadObject): boolean => kind === 'checkpoint';
    await this.#delete(due.filter(isRoot), dead);
    await this.#delete(
      due.filter((object) => !isRoot(object)),
      dead,
    );
    log.info(`deleted ${due.length} objects that nothing needs any more`);
    deleted();
  }

  /** Without those that somebody has come to need again after all. */
  #deadStill(due: readonly DeadObject[], dead: DeadList): Promise<DeadObject[]> {
    const { keeper, sealer } = this.#options;
    return keeper.use((book) => {
      // A void segment may have the number of a live one of another epoch.
      const isLive = ({ name, kind, number }: DeadObject): boolean =>
        kind === 'segment' &&
        book.table.isLive(number) &&
        name === sealer.names.segment({ epoch: book.epochOf(number), number });
      const needed = due.filter((object) => this.#kept.names(object.name) || isLive(object));
      for (const { name } of needed) dead.remove(name);
      return Promise.resolve(due.filter((object) => !needed.includes(object)));
    });
  }

  async #delete(objects: readonly DeadObject[], dead: DeadList): Promise<void> {
    const left = objects.values();
    const { store, incarnation } = this.#options;
    const work = async (): Promise<void> => {
      for (const { name } of left) {
        incarnation.check();
        if (!this.#isFresh()) throw new GatewayError('store-slow-down', 'the store was too slow to delete all in time');
        await store.delete(name, this.#request);
        dead.remove(name);
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: DELETES_INFLIGHT_MAX }, work));
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  }

  async #save(): Promise<void> {
    const { log, incarnation } = this.#options;
    incarnation.check();
    try {
      await this.#dead?.save(this.#pins?.seen ?? []);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`what is to be deleted is not written down: ${error.message}`);
    }
  }
}

function spansOf(snapshots: readonly Snapshot[]): KeptSpan[] {
  return snapshots.map(({ point: { number } }) => ({ from: number, through: number }));
}
