/**
 * Gets a block that has rotted here back from the bucket (P3). It never waits longer than limits.healMsMax for one block,
 * and concurrent readers of a block share one fetch.
 *
 * What comes back counts only if it is proved to be the block's newest version:
 *   a sum is there     the block sum of the image, or the log sum of the record: the bytes must have it
 *   the sum is lost    the bytes must be of a recovery point that includes everything the image does (destager.ts, `heal`)
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { BlockNumber, Lsn } from '../base/units.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { RemoteCopy } from '../ports/remote-copy.js';
import type { Destager } from './destager.js';

export interface HealerOptions {
  readonly remote: RemoteCopy;
  readonly destager: Destager;
  readonly clock: Clock;
  /** A block of the image was put right: not durable yet. */
  readonly onHealed: (block: BlockNumber) => void;
}

export class Healer {
  private readonly options: HealerOptions;
  private readonly shared = new Map<string, Promise<unknown>>();
  /** How the fetches under way are ended. */
  private readonly waiting = new Set<(error: GatewayError) => void>();
  private stopped = false;

  constructor(options: HealerOptions) {
    this.options = options;
  }

  /** Until when one read goes on healing blocks. */
  deadlineMs(): number {
    return this.options.clock.nowMs() + limits.healMsMax;
  }

  /** Puts a block of the image right; a read can then try again. Rejects with the reason when it cannot. */
  image(block: BlockNumber, deadlineMs: number): Promise<void> {
    return this.once(`image ${block}`, deadlineMs, (untilMs) => this.healImage(block, untilMs));
  }

  /** What the bucket has of a block whose newest record is in the log; the caller holds it against the record's sum. */
  logged(block: BlockNumber, deadlineMs: number): Promise<Uint8Array> {
    return this.once(`log ${block}`, deadlineMs, (untilMs) => this.fetch(block, 0, untilMs));
  }

  /** Fails whoever waits; resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    for (const fail of [...this.waiting]) fail(closing());
    await Promise.allSettled(this.shared.values());
  }

  private async healImage(block: BlockNumber, untilMs: number): Promise<void> {
    const { destager, onHealed } = this.options;
    const watch = await destager.watch(block);
    try {
      // The newest recovery point may do, and is there now; only one that includes all that the image does is sure to.
      for (const throughLsn of watch.sumLost ? [watch.lsn] : [0, watch.lsn]) {
        const outcome = await destager.heal(watch, await this.fetch(block, throughLsn, untilMs), throughLsn);
        if (outcome === 'healed') onHealed(block);
        if (outcome !== 'different') return;
      }
      throw new GatewayError('object-damaged', 'the bucket holds another version of it');
    } finally {
      destager.unwatch(watch);
    }
  }

  private once<T>(key: string, deadlineMs: number, work: (untilMs: number) => Promise<T>): Promise<T> {
    const running = this.shared.get(key) as Promise<T> | undefined;
    if (running !== undefined) return running;
    if (this.stopped) return Promise.reject(closing());
    if (this.options.clock.nowMs() >= deadlineMs) return Promise.reject(tooSlow());
    const begun = work(this.deadlineMs()).finally(() => this.shared.delete(key));
    this.shared.set(key, begun);
    return begun;
  }

  private fetch(block: BlockNumber, throughLsn: Lsn, untilMs: number): Promise<Uint8Array> {
    const { remote, clock } = this.options;
    if (this.stopped) return Promise.reject(closing());
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        timer.cancel();
        this.waiting.delete(fail);
        reject(error instanceof Error ? error : new Error(String(error)));
      };
      const timer: Timer = clock.after(Math.max(0, untilMs - clock.nowMs()), () => fail(tooSlow()));
      this.waiting.add(fail);
      remote.fetch(block, throughLsn).then((bytes) => {
        timer.cancel();
        this.waiting.delete(fail);
        resolve(bytes);
      }, fail);
    });
  }
}

function closing(): GatewayError {
  return new GatewayError('volume-closed', 'the volume is closing');
}

function tooSlow(): GatewayError {
  return new GatewayError('store-unreachable', `the bucket did not give it back within ${limits.healMsMax / 1000} s`);
}
