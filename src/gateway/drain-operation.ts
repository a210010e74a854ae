/**
 * `drain`: everything acknowledged when it began is made durable and replicated, whatever is written meanwhile.
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
  /** Sends what is durable now rather than at its interval; resolves once everything up to `lsn` is committed. */
  replicateTo(lsn: Lsn): Promise<void>;
}

export class DrainOperation {
  readonly id: string;
  readonly #volume: Drainable;
  readonly #clock: Clock;
  readonly #startedMs: number;
  readonly #totalBytes: number;
  readonly #fromLsn: Lsn;
  /** Known once the flush is through. */
  #targetLsn: Lsn | undefined;
  #ended: { readonly state: 'done' | 'failed'; readonly reason: string | undefined } | undefined;

  constructor(options: { readonly id: string; readonly volume: Drainable; readonly clock: Clock }) {
    const { volume } = options;
    this.id = options.id;
    this.#volume = volume;
    this.#clock = options.clock;
    this.#startedMs = options.clock.nowMs();
    const { pendingBytes, lsn } = volume.status();
    this.#totalBytes = pendingBytes;
    this.#fromLsn = lsn.replicated;
    volume
      .forceFlush()
      .then((target) => {
        this.#targetLsn = target;
        return volume.replicateTo(target);
      })
      .then(
        () => this.#end('done', undefined),
        (error: unknown) => this.#end('failed', error instanceof Error ? error.message : String(error)),
      );
  }

  report(): Operation {
    const status = this.#volume.status();
    const { mode, reason } = status.replication ?? { mode: 'off', reason: undefined };
    // A replicator that ended answers no more.
    if (status.state === 'fenced' || status.state === 'failed') {
      this.#end('failed', status.reason ?? `the volume is ${status.state}`);
    } else if (mode === 'off') {
      this.#end('failed', reason ?? 'replication is off');
    }
    const state = this.#ended?.state ?? 'running';
    const doneBytes = state === 'done' ? this.#totalBytes : this.#estimate(status.lsn.replicated);
    const elapsedMs = this.#clock.nowMs() - this.#startedMs;
    return {
      id: this.id,
      kind: 'drain',
      volume: this.#volume.name,
      state,
      totalBytes: this.#totalBytes,
      doneBytes,
      bytesPerSecond: elapsedMs > 0 ? Math.round((doneBytes * 1000) / elapsedMs) : 0,
      reason: this.#ended === undefined ? reason : this.#ended.reason,
    };
  }

  /** By LSN, since what is written meanwhile is pending too: never runs backwards. */
  #estimate(replicatedLsn: Lsn): number {
    const target = this.#targetLsn;
    if (target === undefined || target <= this.#fromLsn) return 0;
    const share = (replicatedLsn - this.#fromLsn) / (target - this.#fromLsn);
    return Math.floor(this.#totalBytes * Math.min(1, Math.max(0, share)));
  }

  #end(state: 'done' | 'failed', reason: string | undefined): void {
    this.#ended ??= { state, reason };
  }
}
