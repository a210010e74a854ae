/**
 * `drain`: everything acknowledged when it began is made durable and replicated. The operation ends when the replicated
 * LSN has reached the durable LSN of that moment, whatever was written since.
 */
import type { Operation } from '../api/gateway-view.js';
import type { Lsn } from '../base/units.js';
import type { Clock } from '../ports/clock.js';
import type { VolumeStatus } from '../ports/volume-status.js';

/** What a drain needs of a volume. */
export interface Drainable {
  readonly name: string;
  status(): VolumeStatus;
  /** Flushes; resolves to the LSN that is durable. */
  forceFlush(): Promise<Lsn>;
  /** Asks the replicator to send what is durable now rather than at its interval. */
  hurry(): void;
}

export class DrainOperation {
  readonly id: string;
  readonly #volume: Drainable;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #totalBytes: number;
  #targetLsn: Lsn | undefined;
  #ended: { readonly state: 'done' | 'failed'; readonly reason: string | undefined } | undefined;

  constructor(options: { readonly id: string; readonly volume: Drainable; readonly clock: Clock }) {
    this.id = options.id;
    this.#volume = options.volume;
    this.#clock = options.clock;
    this.#startedMs = options.clock.nowMs();
    this.#totalBytes = options.volume.status().pendingBytes;
    options.volume.forceFlush().then(
      (lsn) => {
        this.#targetLsn = lsn;
        options.volume.hurry();
      },
      (error: unknown) => {
        this.#ended = { state: 'failed', reason: error instanceof Error ? error.message : String(error) };
      },
    );
  }

  /** How far it is; also what notices its end, so it is asked until then. */
  report(): Operation {
    const status = this.#volume.status();
    this.#settle(status);
    const state = this.#ended?.state ?? 'running';
    // Bytes written since it began count as pending too: never show progress going backwards below zero.
    const doneBytes =
      state === 'done'
        ? this.#totalBytes
        : Math.max(0, Math.min(this.#totalBytes, this.#totalBytes - status.pendingBytes));
    const elapsedMs = this.#clock.nowMs() - this.#startedMs;
    return {
      id: this.id,
      kind: 'drain',
      volume: this.#volume.name,
      state,
      totalBytes: this.#totalBytes,
      doneBytes,
      bytesPerSecond: elapsedMs > 0 ? Math.round((doneBytes * 1000) / elapsedMs) : 0,
      reason: this.#ended === undefined ? status.replication?.reason : this.#ended.reason,
    };
  }

  #settle(status: VolumeStatus): void {
    if (this.#ended !== undefined || this.#targetLsn === undefined) return;
    if (status.state === 'fenced' || status.state === 'failed') {
      this.#ended = { state: 'failed', reason: status.reason ?? `the volume is ${status.state}` };
    } else if (status.lsn.replicated >= this.#targetLsn) {
      this.#ended = { state: 'done', reason: undefined };
    }
  }
}
