/** Who waits until the bucket has everything up to an LSN. */
import type { Lsn } from '../base/units.js';
import { StoppedError } from './replicator-incarnation.js';

interface Drain {
  readonly lsn: Lsn;
  readonly done: () => void;
}

export class Drains {
  private waiting: readonly Drain[] = [];
  /** Somebody waits who did not. */
  private readonly onWait: () => void;

  constructor(onWait: () => void) {
    this.onWait = onWait;
  }

  add(lsn: Lsn, done: () => void): void {
    this.wait({ lsn, done });
  }

  /** Resolves once it is there. StoppedError: the signal ended the waiting. */
  until(lsn: Lsn, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(new StoppedError());
      const drain = {
        lsn,
        done: (): void => {
          signal.removeEventListener('abort', forget);
          resolve();
        },
      };
      const forget = (): void => {
        this.waiting = this.waiting.filter((other) => other !== drain);
        reject(new StoppedError());
      };
      signal.addEventListener('abort', forget, { once: true });
      this.wait(drain);
    });
  }

  /** True: somebody waits for more than that. */
  beyond(lsn: Lsn): boolean {
    return this.waiting.some((drain) => drain.lsn > lsn);
  }

  /** The bucket has everything up to `lsn`. False: nobody waited for that. */
  answer(lsn: Lsn): boolean {
    const done = this.waiting.filter((drain) => drain.lsn <= lsn);
    this.waiting = this.waiting.filter((drain) => drain.lsn > lsn);
    for (const drain of done) drain.done();
    return done.length > 0;
  }

  private wait(drain: Drain): void {
    this.waiting = [...this.waiting, drain];
    this.onWait();
  }
}
