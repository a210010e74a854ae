/**
 * Brings a volume back from its bucket, whole, with only the store and a key: finds it, proves its history, then fetches
 * every live block into an empty directory.
 *
 * Order: pin, newest sound checkpoint (or none), the chain from there to its end with links, LSNs, fences and groups
 * verified, what lies behind the end (a gap is loss, see chain-walk.ts), the receipt; only then data. A copy is detached
 * by default: it gets a uuid of its own and never writes to the bucket but its pin.
 */
import { GatewayError } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { chainAt, keyText } from './chain.js';
import type { ChainState } from './chain.js';
import { walkChain } from './chain-walk.js';
import { emptyDelta } from './checkpoint.js';
import type { Checkpoint } from './checkpoint.js';
import type { MasterKey } from './key.js';
import { verifyReceipt } from './receipt.js';
import type { Receipt } from './receipt.js';
import { isThat, unmet, vouches } from './receipt-proof.js';
import { readPinned } from './pin.js';
import type { Pin } from './pin.js';
import { RemoteBook } from './remote-map-book.js';
import type { BookGroup } from './remote-map-book.js';
import { MAP_FILE } from './remote-map-file.js';
import type { FoundVolume } from './remote-list.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import { fetchLive } from './restore-fetch.js';
import type { BlockSink, RestoreProgress } from './restore-fetch.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { openSnapshot } from './snapshot-open.js';
import { snapshotNamed } from './snapshots.js';
import type { Snapshot } from './snapshots.js';

/** Segments whose changes are held in memory before they go into the map file. */
const APPLY_ENTRIES_MAX = 256 * 1024;

/** The new directory; engine/restore-sink.ts implements the sink. */
export interface RestoreTarget {
  readonly sink: BlockSink & {
    finish(state: {
      readonly lsn: Lsn;
      readonly remoteEpoch: number;
      readonly segmentNumber: number;
      readonly chainHead: Uint8Array;
      readonly detached: boolean;
    }): Promise<void>;
  };
}

export interface RestoreOptions {
  /** Repeats what fails for a while (RetryingStore): a restore itself does not retry. */
  readonly store: ObjectStore;
  readonly masters: readonly MasterKey[];
  /** Name or uuid. */
  readonly volume: string;
  /** Name of the new volume; default: the old one. */
  readonly as?: string;
  /** Continue the volume itself (same uuid) instead of making a detached copy. */
  readonly takeOver: boolean;
  readonly receipt?: Receipt;
  /** Take what is before a gap. */
  readonly acceptLoss: boolean;
  /** Give back this snapshot instead of the newest recovery point; only as a detached copy. */
  readonly snapshot?: string;
  /** Who restores, for the pin (a host name). */
  readonly reader: string;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly signal?: AbortSignal;
  /** Makes the new directory; called once the history is proved. */
  readonly openTarget: (volume: { uuid: string; name: string; sizeBytes: number }) => Promise<RestoreTarget>;
  /** An empty directory for the map while it is needed; the caller removes it. */
  readonly scratch: Disk;
  readonly progress?: (progress: RestoreProgress) => void;
}

export interface Restored {
  readonly uuid: string;
  readonly name: string;
  readonly sizeBytes: number;
  readonly recoveryPoint: ChainPoint;
  /** At the newest recovery point, oldest first. */
  readonly snapshots: readonly Snapshot[];
  readonly detached: boolean;
  /** Set when loss was accepted: what is missing. */
  readonly loss: string | undefined;
  /** Blocks that had rotted before they were replicated: they read as errors until they are written. */
  readonly lostBlocks: number;
}

export function restoreFull(options: RestoreOptions): Promise<Restored> {
  return readPinned(options, (found, request, pin) => new Restore(options, found, request, pin).run());
}

/** A history that was read and proved. */
interface Proved {
  readonly book: RemoteBook;
  readonly chain: ChainState;
  readonly loss: string | undefined;
}

/** What is to be fetched: the newest recovery point, or a snapshot. */
interface Chosen {
  readonly book: RemoteBook;
  readonly point: ChainPoint;
}

class Restore {
  readonly #options: RestoreOptions;
  readonly #found: FoundVolume;
  readonly #request: StoreRequest;
  readonly #pin: Pin;
  /** Checkpoints that there are, sound or not: with any, the beginning of the history may be deleted. */
  #checkpoints = 0;

  constructor(options: RestoreOptions, found: FoundVolume, request: StoreRequest, pin: Pin) {
    this.#options = options;
    this.#found = found;
    this.#request = request;
    this.#pin = pin;
  }

  async run(): Promise<Restored> {
    const { takeOver, random, scratch, snapshot } = this.#options;
    const { sealer, volume } = this.#found;
    if (takeOver && snapshot !== undefined) {
      const instead = 'restore the snapshot as a copy, or take over and revert the volume to it';
      throw new GatewayError('invalid-request', `a volume is continued from its newest state only; ${instead}`);
    }
    const { book: newest, chain, loss } = await this.#prove();
    const { snapshots } = newest;
    const { book, point } =
      snapshot === undefined ? { book: newest, point: chain.lastGroup } : await this.#atSnapshot(newest, snapshot);
    try {
      const uuid = takeOver ? sealer.names.uuid : random.uuid();
      const name = this.#options.as ?? volume.name;
      const sizeBytes = book.sizeBytes ?? volume.sizeBytes;
      const target = await this.#options.openTarget({ uuid, name, sizeBytes });
      const progress = this.#options.progress ?? ((): void => undefined);
      const sources = { ...this.#options, sealer, request: this.#request, sink: target.sink, progress };
      const lostBlocks = await fetchLive(book, sources);
      await target.sink.finish({
        lsn: point.lsn,
        remoteEpoch: takeOver ? point.epoch : 0,
        segmentNumber: takeOver ? point.number : 0,
        chainHead: takeOver ? point.link : chainOrigin.link,
        detached: !takeOver,
      });
      return { uuid, name, sizeBytes, recoveryPoint: point, snapshots, detached: !takeOver, loss, lostBlocks };
    } finally {
      await book.close();
      await scratch.remove(MAP_FILE);
    }
  }

  /** Closes `newest`, which is proved, and goes back to a snapshot that it names. */
  async #atSnapshot(newest: RemoteBook, name: string): Promise<Chosen> {
    const { store, checksums, scratch, log } = this.#options;
    const { sealer, volume } = this.#found;
    const { snapshots } = newest;
    await newest.close();
    const snapshot = snapshotNamed(snapshots, name);
    if (snapshot === undefined) {
      const there = snapshots.length === 0 ? 'it has none' : `it has ${snapshots.map((one) => one.name).join(', ')}`;
      throw new GatewayError('not-found', `volume ${volume.name} has no snapshot "${name}": ${there}`);
    }
    const book = await openSnapshot(snapshot, {
      store,
      sealer,
      checksums,
      disk: scratch,
      request: this.#request,
      log,
      createdSizeBytes: volume.sizeBytes,
      applied: async (applied) => {
        if (applied.map.deltaEntries > APPLY_ENTRIES_MAX) await fold(applied);
      },
    });
    await fold(book);
    await this.#pin.narrow(snapshot.point.number);
    return { book, point: snapshot.point };
  }

  /** From the newest checkpoint that is sound with all its shards, else from the beginning. */
  async #prove(): Promise<Proved> {
    const { store, log, receipt } = this.#options;
    const { sealer } = this.#found;
    this.#checkReceipt();
    const keys = await listCheckpoints(store, sealer, this.#request);
    this.#checkpoints = keys.length;
    for (const key of keys) {
      const damaged = (error: GatewayError): void =>
        log.warn(`checkpoint ${keyText(key)} is passed over: ${error.message}`);
      const checkpoint = await readCheckpoint(store, sealer, key, this.#request, damaged);
      if (checkpoint === undefined) continue;
      // A receipt from before the checkpoint is met by the chain itself.
      if (receipt !== undefined && !vouches(checkpoint, receipt) && receipt.number <= checkpoint.recoveryPoint.number) {
        continue;
      }
      const book = await this.#load(checkpoint, damaged);
      if (book === undefined) continue;
      // A snapshot needs what was live then.
      if (this.#options.snapshot === undefined) await this.#pin.narrow(checkpoint.recoveryPoint.number);
      return this.#walk(book, checkpoint);
    }
    const book = await this.#load(undefined, () => undefined);
    if (book === undefined) throw new GatewayError('disk-failed', 'an empty map could not be made');
    return this.#walk(book, undefined);
  }

  async #load(
    checkpoint: Checkpoint | undefined,
    damaged: (error: GatewayError) => void,
  ): Promise<RemoteBook | undefined> {
    const { store, checksums, scratch } = this.#options;
    const { sealer } = this.#found;
    try {
      return await RemoteBook.load(checkpoint, { store, sealer, checksums, disk: scratch, request: this.#request });
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged(error);
      return undefined;
    }
  }

  async #walk(book: RemoteBook, checkpoint: Checkpoint | undefined): Promise<Proved> {
    const { store, log, receipt, acceptLoss } = this.#options;
    const { sealer, volume } = this.#found;
    let met = receipt === undefined || (checkpoint !== undefined && vouches(checkpoint, receipt));
    const visit = async (group: BookGroup): Promise<void> => {
      met ||= group.segments.some(({ key, link }) => receipt !== undefined && isThat(receipt, key, link));
      await book.apply(group);
      if (book.map.deltaEntries > APPLY_ENTRIES_MAX) await fold(book);
    };
    try {
      const { chain, gap } = await walkChain(chainAt(book.position, book.sizeBytes), {
        store,
        sealer,
        request: this.#request,
        createdSizeBytes: volume.sizeBytes,
        knownEpochs: book.epochs.map(({ epoch }) => epoch),
        visit,
      });
      if (gap !== undefined && !acceptLoss) throw new GatewayError('remote-gap', gap);
      if (gap !== undefined && chain.lastGroup.number === 0 && this.#checkpoints > 0) {
        throw new GatewayError('remote-gap', `nothing is left to restore: no checkpoint is sound, and ${gap}`);
      }
      if (gap !== undefined) log.warn(`restoring what is before a gap: ${gap}`);
      let loss = gap;
      if (!met && receipt !== undefined) {
        const refusal = unmet(chain.lastGroup, receipt);
        // A fork is no gap: the receipt's history is another one.
        if (!acceptLoss || receipt.number <= chain.lastGroup.number) throw refusal;
        log.warn(`restoring in spite of a receipt: ${refusal.message}`);
        loss ??= refusal.message;
      }
      await fold(book);
      return { book, chain, loss };
    } catch (error) {
      await book.close();
      throw error;
    }
  }

  #checkReceipt(): void {
    const { receipt } = this.#options;
    if (receipt !== undefined) verifyReceipt(this.#found.sealer, receipt);
  }
}

/** Brings everything that was applied into the map file. */
async function fold(book: RemoteBook): Promise<void> {
  const change = await book.map.file.begin();
  await book.map.stage(change);
  await book.map.file.commit(change, book.position);
  book.map.staged(emptyDelta);
}
