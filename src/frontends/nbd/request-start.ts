/**
 * Whether a request of a connection may start now, or is left in the stream: writes while the device takes some, reads within
 * the reply budget, of which a connection's replies that nobody has taken are a part.
 *
 * Hot path: allocates nothing.
 */
import type { BlockDevice } from '../../ports/block-device.js';
import type { Stream } from '../../ports/stream.js';
import type { RequestLedger } from './request-ledger.js';
import type { StatusRequests } from './status-request.js';
import { command, commandFlag } from './wire.js';

export interface RequestStartOptions {
  readonly device: BlockDevice;
  readonly stream: Stream;
  readonly ledger: RequestLedger;
  readonly statuses: StatusRequests;
  /** Bytes of replies that this connection may hold now, see NbdServer. */
  readonly replyBudgetBytes: () => number;
  /** Bytes that one buffer of replies holds. */
  readonly pieceBytes: number;
  /** The device takes writes again, or zeros. */
  readonly onWritable: () => void;
}

export class RequestStart {
  /** Bytes of reads that are still running. */
  readingBytes = 0;
  readonly #options: RequestStartOptions;
  #waitsForWritable = false;

  constructor(options: RequestStartOptions) {
    this.#options = options;
  }

  /** False: whatever may end that will be told, by `onWritable`, or by the end of a request or of a reply on its way. */
  mayStart(type: number, flags: number, lengthBytes: number): boolean {
    const { device } = this.#options;
    switch (type) {
      case command.read:
        return this.#mayRead(lengthBytes);
      case command.write:
      case command.trim:
      case command.writeZeroes:
        // What cannot be done at once must be answered at once.
        if ((flags & commandFlag.fastZero) !== 0) return true;
        if (type === command.write ? device.writable : device.zeroable) return true;
        if (!this.#waitsForWritable) {
          this.#waitsForWritable = true;
          device.onceWritable(this.#onWritable);
        }
        return false;
      default:
        return true;
    }
  }

  /** Whether there is room for an answer to BLOCK_STATUS. */
  get takesStatus(): boolean {
    return this.#mayRead(this.#options.pieceBytes);
  }

  #mayRead(lengthBytes: number): boolean {
    const { statuses, stream, ledger, replyBudgetBytes, pieceBytes } = this.#options;
    const heldBytes = this.readingBytes + statuses.heldBytes + stream.pendingBytes;
    const budgetBytes = replyBudgetBytes();
    if (lengthBytes > budgetBytes / 2 && lengthBytes > pieceBytes) return ledger.used === 0;
    return heldBytes === 0 || heldBytes + lengthBytes <= budgetBytes;
  }

  readonly #onWritable = (): void => {
    this.#waitsForWritable = false;
    this.#options.onWritable();
  };
}
