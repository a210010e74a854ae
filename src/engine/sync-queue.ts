/**
 * Group commit: one fdatasync at a time, shared by everyone who waited when it was called (P1, P5).
 *
 * A sync covers what was appended before its call, over all files touched since the last one. By itself the queue
 * syncs within a second of the oldest unsynced append, and after `unsyncedBytesMax`, so that nothing waits for a
 * client that never flushes.
 */
import { limits } from '../base/limits.js';
import { MIB, type Lsn } from '../base/units.js';
import { durationBoundsUs } from '../base/io-stats.js';
import type { Completion } from '../ports/block-device.js';
import type { Clock, Timer } from '../ports/clock.js';

interface Waiter {
  readonly lsn: Lsn;
  readonly completion: Completion;
}

export interface SyncQueueOptions {
  readonly clock: Clock;
  readonly durableLsn: Lsn;
  /** fdatasync of these log files. */
  readonly sync: (files: readonly number[]) => Promise<void>;
  readonly onDurable: (lsn: Lsn) => void;
  readonly onFatal: (cause: unknown) => void;
}

export class SyncQueue {
  durableLsn: Lsn;
  unsyncedBytesMax = 64 * MIB;
  /** Durations of the syncs, for keepgate_flush_duration_seconds. */
  readonly stats = { count: 0, sumUs: 0, buckets: new Array<number>(durationBoundsUs.length + 1).fill(0) };
  private readonly options: SyncQueueOptions;
  private appendedLsn: Lsn;
  private touched = new Set<number>();
  private unsyncedBytes = 0;
  private waiters: Waiter[] = [];
  private running = false;
  /** Asked for while another sync ran, which does not cover it: the next one begins when that ends. */
  private again = false;
  private stopped = false;
  private timer: Timer | undefined;

  constructor(options: SyncQueueOptions) {
    this.options = options;
    this.durableLsn = options.durableLsn;
    this.appendedLsn = options.durableLsn;
  }

  /** Notes an append; `urge` false for records that by themselves need no sync. */
  appended(lsn: Lsn, file: number, lengthBytes: number, urge: boolean): void {
    this.appendedLsn = lsn;
    this.touched.add(file);
    this.unsyncedBytes += lengthBytes;
    if (!urge) return;
    if (this.unsyncedBytes >= this.unsyncedBytesMax) this.start();
    else
      this.timer ??= this.options.clock.after(limits.durableAgeMsMax, () => {
        this.timer = undefined;
        this.start();
      });
  }

  /** Completes when everything through `lsn` is durable; never from inside this call's own stack, unless it is already. */
  request(lsn: Lsn, completion: Completion): void {
    if (this.stopped) return;
    if (lsn <= this.durableLsn) {
      queueMicrotask(() => {
        if (!this.stopped) completion.done(undefined);
      });
      return;
    }
    this.waiters.push({ lsn, completion });
    // Started at the end of this turn, so that requests of one wake-up share the sync.
    if (this.running) return;
    queueMicrotask(() => {
      if (!this.running) this.start();
    });
  }

  /** Syncs soon, whoever waits. */
  start(): void {
    if (this.running) {
      this.again = true;
      return;
    }
    this.again = false;
    if (this.stopped || this.appendedLsn <= this.durableLsn) return;
    void this.run();
  }

  stop(): void {
    this.stopped = true;
    this.timer?.cancel();
    this.waiters = [];
  }

  private async run(): Promise<void> {
    this.running = true;
    this.timer?.cancel();
    this.timer = undefined;
    const captured = this.appendedLsn;
    const files = [...this.touched];
    this.touched = new Set();
    this.unsyncedBytes = 0;
    const startedMs = this.options.clock.nowMs();
    try {
      await this.options.sync(files);
    } catch (cause) {
      this.running = false;
      // Fail-stop: after a failed fsync the kernel's pages are clean and may differ from the disk.
      if (!this.stopped) this.options.onFatal(cause);
      return;
    }
    this.running = false;
    if (this.stopped) return;
    this.count((this.options.clock.nowMs() - startedMs) * 1000);
    this.durableLsn = captured;
    this.options.onDurable(captured);
    const waiting = this.waiters;
    this.waiters = [];
    for (const waiter of waiting) {
      if (waiter.lsn <= captured) waiter.completion.done(undefined);
      else this.waiters.push(waiter);
    }
    if (this.waiters.length > 0 || this.again) this.start();
  }

  private count(durationUs: number): void {
    this.stats.count++;
    this.stats.sumUs += durationUs;
    let bucket = 0;
    while (bucket < durationBoundsUs.length && durationUs > (durationBoundsUs[bucket] ?? 0)) bucket++;
    this.stats.buckets[bucket] = (this.stats.buckets[bucket] ?? 0) + 1;
  }
}
