/**
 * Hands out receipts of what this life has committed: when somebody asks, and by itself every so often while there is
 * something new. Before it issues one by itself it looks whether the newest segment still lies in the bucket, so that a
 * running owner finds out when its bucket is rolled back (one ranged GET for each receipt; none while the volume idles).
 */
import { GatewayError } from '../base/errors.js';
import type { Clock, Timer } from '../ports/clock.js';
import { formatReceipt } from './receipt.js';
import type { ReceiptKeeper } from './receipt-keeper.js';
import type { FetchFailure } from './replication-messages.js';
import type { Incarnation } from './replicator-incarnation.js';
import type { ChainPoint } from './segment-point.js';

/** Where a disk is full, the next try waits. */
const AGAIN_MS = 60_000;

export interface ReceiptDeskOptions {
  readonly keeper: ReceiptKeeper;
  readonly everyMs: number;
  readonly clock: Clock;
  readonly incarnation: Incarnation;
  /** The newest recovery point; undefined before the first. */
  readonly point: () => ChainPoint | undefined;
  /** Throws what is wrong with the bucket when the segment does not lie there any more. */
  readonly watch: (point: ChainPoint) => Promise<void>;
  /** One that was due. */
  readonly issued: (text: string) => void;
  /** What ends this life. */
  readonly failed: (error: unknown) => void;
  readonly warn: (message: string) => void;
}

export class ReceiptDesk {
  readonly #options: ReceiptDeskOptions;
  #dueMs: number;
  #timer: Timer | undefined;
  #busy = false;

  constructor(options: ReceiptDeskOptions) {
    const { keeper, everyMs, clock } = options;
    this.#options = options;
    const ageMs = keeper.newest === undefined ? everyMs : clock.wallMs() - keeper.newest.wallMs;
    this.#dueMs = clock.nowMs() + Math.max(0, Math.min(everyMs, everyMs - ageMs));
  }

  /** The recovery point has moved on. */
  committed(): void {
    const { clock, incarnation } = this.#options;
    if (this.#timer !== undefined || this.#busy || incarnation.stopped) return;
    const inMs = Math.max(0, this.#dueMs - clock.nowMs());
    this.#timer = clock.after(inMs, () => {
      this.#timer = undefined;
      void this.#due();
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** A receipt of the newest recovery point; needs no store. */
  async ask(): Promise<string | FetchFailure> {
    const { keeper, point } = this.#options;
    const newest = point();
    try {
      if (newest === undefined)
        throw new GatewayError('not-found', 'nothing is replicated yet: there is no recovery point');
      return formatReceipt(await keeper.issue(newest));
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      return { code: error.code, message: error.message };
    }
  }

  async #due(): Promise<void> {
    const { keeper, point, watch, clock, everyMs, incarnation, issued, failed, warn } = this.#options;
    const newest = point();
    if (newest === undefined) return;
    this.#busy = true;
    this.#dueMs = clock.nowMs() + everyMs;
    try {
      await watch(newest);
      const receipt = await keeper.issue(newest);
      if (!incarnation.stopped) issued(formatReceipt(receipt));
    } catch (error) {
      const local =
        error instanceof GatewayError && ['disk-full', 'disk-failed', 'invalid-request'].includes(error.code);
      if (local) {
        warn(`a receipt could not be kept: ${error.message}`);
        this.#dueMs = clock.nowMs() + AGAIN_MS;
      } else failed(error);
    }
    this.#busy = false;
    if (point() !== newest) this.committed();
  }
}
