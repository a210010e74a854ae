/** An operation whose work says itself how far it is. */
import type { Operation } from '../api/gateway-view.js';
import type { Clock } from '../ports/clock.js';

export interface TaskOptions {
  readonly id: string;
  readonly kind: Operation['kind'];
  readonly volume: string;
  readonly clock: Clock;
  /** Rejects where it fails; resolves to a line that says how it ended, if there is something to say. */
  readonly work: (progress: (doneBytes: number, totalBytes: number) => void) => Promise<string | undefined>;
}

export class TaskOperation {
  readonly id: string;
  readonly #options: TaskOptions;
  readonly #startedMs: number;
  #done = 0;
  #total = 0;
  #ended: { readonly state: 'done' | 'failed'; readonly reason: string | undefined } | undefined;

  constructor(options: TaskOptions) {
    this.id = options.id;
    this.#options = options;
    this.#startedMs = options.clock.nowMs();
    options
      .work((doneBytes, totalBytes) => {
        this.#done = doneBytes;
        this.#total = totalBytes;
      })
      .then(
        (reason) => (this.#ended = { state: 'done', reason }),
        (error: unknown) =>
          (this.#ended = { state: 'failed', reason: error instanceof Error ? error.message : String(error) }),
      );
  }

  report(): Operation {
    const { kind, volume, clock } = this.#options;
    const elapsedMs = clock.nowMs() - this.#startedMs;
    return {
      id: this.id,
      kind,
      volume,
      state: this.#ended?.state ?? 'running',
      totalBytes: this.#total,
      doneBytes: this.#done,
      bytesPerSecond: elapsedMs > 0 ? Math.round((this.#done * 1000) / elapsedMs) : 0,
      reason: this.#ended?.reason,
    };
  }
}
