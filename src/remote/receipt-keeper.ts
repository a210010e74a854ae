/**
 * The receipts that this directory has issued: in its file `receipts`, one line each, the newest last. A receipt is
 * durable there before anybody sees it. Checkpoints list them too, so that descent from a receipt can be shown when the
 * segments of its time are gone.
 */
import { GatewayError } from '../base/errors.js';
import type { Disk } from '../ports/disk.js';
import type { Log } from '../ports/log.js';
import { samePoint } from './chain.js';
import { formatReceipt, issueReceipt, parseReceipt, verifyReceipt } from './receipt.js';
import type { Receipt } from './receipt.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';

export const RECEIPTS_FILE = 'receipts';
/** What is older is in the checkpoints. */
const KEPT_MAX = 64;
/** In a checkpoint: 256 KiB. The oldest go first. */
export const RECEIPTS_MAX = 4096;

async function keptLines(disk: Disk): Promise<readonly string[]> {
  if (!(await disk.exists(RECEIPTS_FILE))) return [];
  const text = Buffer.from(await disk.readSmall(RECEIPTS_FILE)).toString('utf8');
  return text.split('\n').filter((line) => line !== '');
}

/** The newest receipt that a directory issued, as text, where there is no replicator to ask. */
export async function newestKept(disk: Disk): Promise<string | undefined> {
  const line = (await keptLines(disk)).at(-1);
  return line === undefined ? undefined : `${line}\n`;
}

export class ReceiptKeeper {
  readonly #disk: Disk;
  readonly #sealer: ObjectSealer;
  #kept: readonly Receipt[];
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(disk: Disk, sealer: ObjectSealer, kept: readonly Receipt[]) {
    this.#disk = disk;
    this.#sealer = sealer;
    this.#kept = kept;
  }

  /** A line that has rotted is left out: the superblock knows the newest segment as well. */
  static async open(disk: Disk, sealer: ObjectSealer, log: Log): Promise<ReceiptKeeper> {
    const kept: Receipt[] = [];
    for (const line of await keptLines(disk)) {
      try {
        const receipt = parseReceipt(line, RECEIPTS_FILE);
        verifyReceipt(sealer, receipt);
        kept.push(receipt);
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        log.warn(`a receipt of this directory is left out: ${error.message}`);
      }
    }
    return new ReceiptKeeper(disk, sealer, kept);
  }

  /** The newest one that this directory issued. */
  get newest(): Receipt | undefined {
    return this.#kept.at(-1);
  }

  has(receipt: ChainPoint): boolean {
    return this.#kept.some((kept) => samePoint(kept, receipt));
  }

  /** Makes it durable, and known as issued. The point must be committed. disk-full, disk-failed. */
  issue(point: ChainPoint): Promise<Receipt> {
    const issued = this.#writing.then(() => this.#issue(point));
    this.#writing = issued.catch(() => undefined);
    return issued;
  }

  /** Those that a checkpoint at `position` lists: the ones that it knew before, and what was issued since. */
  upTo(position: ChainPoint, before: readonly ChainPoint[]): readonly ChainPoint[] {
    const since = this.#kept.filter((receipt) => !before.some((known) => samePoint(known, receipt)));
    return [...before, ...since]
      .filter(({ number }) => number <= position.number)
      .sort((left, right) => left.number - right.number)
      .slice(-RECEIPTS_MAX);
  }

  async #issue(point: ChainPoint): Promise<Receipt> {
    const { newest } = this;
    if (newest !== undefined && samePoint(newest, point)) return newest;
    if (newest !== undefined && newest.number >= point.number) {
      throw new GatewayError('invalid-request', 'a newer receipt was issued already');
    }
    const receipt = issueReceipt(this.#sealer, point);
    const kept = [...this.#kept, receipt].slice(-KEPT_MAX);
    await this.#disk.writeSmall(RECEIPTS_FILE, Buffer.from(kept.map(formatReceipt).join('')));
    this.#kept = kept;
    return receipt;
  }
}
