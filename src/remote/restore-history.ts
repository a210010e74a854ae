/**
 * Reads and proves a volume's history, for whoever brings it back: from the newest sound checkpoint (or none) along the
 * chain to its end, with links, LSNs, fences and groups verified, then what lies behind the end (a gap is loss, see
 * chain-walk.ts), then the receipt. What is kept of it is for a book: all of it (remote-map-book.ts), or what a reader of
 * one recovery point needs (frozen-book.ts).
 */
import { GatewayError } from '../base/errors.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { chainAt, keyText } from './chain.js';
import type { ChainState } from './chain.js';
import { walkChain } from './chain-walk.js';
import type { Checkpoint } from './checkpoint.js';
import type { Receipt } from './receipt.js';
import { verifyReceipt } from './receipt.js';
import { isThat, unmet, vouches } from './receipt-proof.js';
import type { FoundVolume } from './remote-list.js';
import type { BookGroup } from './remote-map-book.js';
import { isDamage, listCheckpoints, readCheckpoint } from './restore-checkpoint.js';
import type { ChainPoint } from './segment-point.js';
import type { Snapshot } from './snapshots.js';

/** What a history is read into. */
export interface HistoryBook {
  /** The recovery point that it shows. */
  readonly position: ChainPoint;
  /** undefined: as the volume was created. */
  readonly sizeBytes: number | undefined;
  readonly epochs: readonly { readonly epoch: number }[];
  /** That are not deleted, oldest first. */
  readonly snapshots: readonly Snapshot[];
  /** The next complete group. */
  apply(group: BookGroup): Promise<void>;
  close(): Promise<void>;
}

export interface HistoryOptions<Book extends HistoryBook> {
  readonly store: ObjectStore;
  readonly found: FoundVolume;
  readonly request: StoreRequest;
  readonly receipt: Receipt | undefined;
  /** Take what is before a gap. */
  readonly acceptLoss: boolean;
  readonly log: Log;
  /** The book at a checkpoint (undefined: before the first segment); damage in what that names is passed over. */
  readonly load: (checkpoint: Checkpoint | undefined) => Promise<Book>;
  /** The history will be read from this checkpoint. */
  readonly chosen?: (checkpoint: Checkpoint) => Promise<void>;
  /** After every group that was applied. */
  readonly applied?: (book: Book) => Promise<void>;
}

/** A history that was read and proved. */
export interface ProvedHistory<Book> {
  readonly book: Book;
  readonly chain: ChainState;
  /** Set when loss was accepted: what is missing. */
  readonly loss: string | undefined;
}

/** remote-gap, remote-forked, receipt-unmet, receipt-invalid, object-damaged; store errors. */
export function proveHistory<Book extends HistoryBook>(options: HistoryOptions<Book>): Promise<ProvedHistory<Book>> {
  return new Proof(options).run();
}

class Proof<Book extends HistoryBook> {
  readonly #options: HistoryOptions<Book>;
  /** Checkpoints that there are, sound or not: with any, the beginning of the history may be deleted. */
  #checkpoints = 0;

  constructor(options: HistoryOptions<Book>) {
    this.#options = options;
  }

  /** From the newest checkpoint that is sound with what its book loads, else from the beginning. */
  async run(): Promise<ProvedHistory<Book>> {
    const { store, log, receipt, found, request, load, chosen } = this.#options;
    const { sealer } = found;
    if (receipt !== undefined) verifyReceipt(sealer, receipt);
    const keys = await listCheckpoints(store, sealer, request);
    this.#checkpoints = keys.length;
    for (const key of keys) {
      const damaged = (error: GatewayError): void =>
        log.warn(`checkpoint ${keyText(key)} is passed over: ${error.message}`);
      const checkpoint = await readCheckpoint(store, sealer, key, request, damaged);
      if (checkpoint === undefined) continue;
      // A receipt from before the checkpoint is met by the chain itself.
      if (receipt !== undefined && !vouches(checkpoint, receipt) && receipt.number <= checkpoint.recoveryPoint.number) {
        continue;
      }
      const book = await this.#load(checkpoint, damaged);
      if (book === undefined) continue;
      await chosen?.(checkpoint);
      return this.#walk(book, checkpoint);
    }
    return this.#walk(await load(undefined), undefined);
  }

  async #load(checkpoint: Checkpoint, damaged: (error: GatewayError) => void): Promise<Book | undefined> {
    try {
      return await this.#options.load(checkpoint);
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged(error);
      return undefined;
    }
  }

  async #walk(book: Book, checkpoint: Checkpoint | undefined): Promise<ProvedHistory<Book>> {
    const { store, log, receipt, acceptLoss, found, request, applied } = this.#options;
    const { sealer, volume } = found;
    let met = receipt === undefined || (checkpoint !== undefined && vouches(checkpoint, receipt));
    const visit = async (group: BookGroup): Promise<void> => {
      met ||= group.segments.some(({ key, link }) => receipt !== undefined && isThat(receipt, key, link));
      await book.apply(group);
      await applied?.(book);
    };
    try {
      const { chain, gap } = await walkChain(chainAt(book.position, book.sizeBytes), {
        store,
        sealer,
        request,
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
      return { book, chain, loss };
    } catch (error) {
      await book.close();
      throw error;
    }
  }
}
