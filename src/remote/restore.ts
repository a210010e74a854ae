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
import { emptyDelta } from './checkpoint.js';
import type { MasterKey } from './key.js';
import type { Receipt } from './receipt.js';
import { readPinned } from './pin.js';
import type { Pin, PinNotes } from './pin.js';
import { RemoteBook } from './remote-map-book.js';
import { MAP_FILE } from './remote-map-file.js';
import type { FoundVolume } from './remote-list.js';
import { fetchLive } from './restore-fetch.js';
import type { BlockSink, RestoreProgress } from './restore-fetch.js';
import { proveHistory } from './restore-history.js';
import type { ProvedHistory } from './restore-history.js';
import { chainOrigin } from './segment-point.js';
import type { ChainPoint } from './segment-point.js';
import { openSnapshot } from './snapshot-open.js';
import { requireSnapshot } from './snapshots.js';
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
  /** Where the pin is noted. */
  readonly notes?: PinNotes;
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

  constructor(options: RestoreOptions, found: FoundVolume, request: StoreRequest, pin: Pin) {
    this.#options = options;
    this.#found = found;
    this.#request = request;
    this.#pin = pin;
  }

  async run(): Promise<Restored> {
    const { takeOver, random, scratch, snapshot } = this.#options;
    const { sealer, volume } = this.#found;
    if (takeOver) refuseSnapshot(snapshot);
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
    await newest.close();
    const snapshot = requireSnapshot(newest.snapshots, name, volume.name);
    const request = this.#request;
    const book = await openSnapshot(snapshot, {
      store,
      sealer,
      request,
      log,
      createdSizeBytes: volume.sizeBytes,
      load: (checkpoint) => RemoteBook.load(checkpoint, { store, sealer, checksums, disk: scratch, request }),
      applied: foldWhenLarge,
    });
    await fold(book);
    await this.#pin.narrow(snapshot.point.number);
    return { book, point: snapshot.point };
  }

  /** From the newest checkpoint that is sound with all its shards, else from the beginning. */
  async #prove(): Promise<ProvedHistory<RemoteBook>> {
    const { store, log, receipt, acceptLoss, checksums, scratch, snapshot } = this.#options;
    const { sealer } = this.#found;
    const request = this.#request;
    const proved = await proveHistory({
      store,
      found: this.#found,
      request,
      receipt,
      acceptLoss,
      log,
      load: (checkpoint) => RemoteBook.load(checkpoint, { store, sealer, checksums, disk: scratch, request }),
      chosen: async ({ recoveryPoint }) => {
        // A snapshot needs what was live then.
        if (snapshot === undefined) await this.#pin.narrow(recoveryPoint.number);
      },
      applied: foldWhenLarge,
    });
    try {
      await fold(proved.book);
      return proved;
    } catch (error) {
      await proved.book.close();
      throw error;
    }
  }
}

/** To go on from a snapshot would undo what came behind it: invalid-request. */
export function refuseSnapshot(snapshot: string | undefined): void {
  if (snapshot === undefined) return;
  const instead = 'restore the snapshot as a copy, or take over and revert the volume to it';
  throw new GatewayError('invalid-request', `a volume is continued from its newest state only; ${instead}`);
}

async function foldWhenLarge(book: RemoteBook): Promise<void> {
  if (book.map.deltaEntries > APPLY_ENTRIES_MAX) await fold(book);
}

/** Brings everything that was applied into the map file. */
async function fold(book: RemoteBook): Promise<void> {
  const change = await book.map.file.begin();
  await book.map.stage(change);
  await book.map.file.commit(change, book.position);
  book.map.staged(emptyDelta);
}
