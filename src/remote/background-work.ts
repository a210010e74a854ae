/**
 * Work beside the uploads that others wake: one step at a time, and one more after it when somebody woke it meanwhile. What
 * the store or the disk refuses (GatewayError, MapDoubtError) ends a step and no more; anything else is a broken invariant.
 */
import { GatewayError } from '../base/errors.js';
import { MapDoubtError } from './remote-map-header.js';
import type { Incarnation } from './replicator-incarnation.js';

export interface BackgroundWorkOptions {
  readonly incarnation: Incarnation;
  readonly step: () => Promise<void>;
  /** A step was refused; the next one comes with the next wake. */
  readonly refused: (error: GatewayError | MapDoubtError) => void;
  /** A broken invariant. */
  readonly failed: (error: unknown) => void;
}

export class BackgroundWork {
  readonly #options: BackgroundWorkOptions;
  #again = false;
  #running: Promise<void> | undefined;

  constructor(options: BackgroundWorkOptions) {
    this.#options = options;
  }

  wake(): void {
    this.#again = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** Resolves when nothing of it runs any more; after the incarnation stopped. */
  async ended(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { incarnation, step, refused, failed } = this.#options;
    // It changes while the step runs.
    const stopped = (): boolean => incarnation.stopped;
    while (this.#again && !stopped()) {
      this.#again = false;
      try {
        await step();
      } catch (error) {
        if (stopped()) return;
        if (!(error instanceof GatewayError) && !(error instanceof MapDoubtError)) {
          failed(error);
          return;
        }
        refused(error);
      }
    }
  }
}
