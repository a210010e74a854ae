/**
 * The main thread's end of the replication thread. It is only a queue until `begin`, so that loading the program a second
 * time does not compete with clients for the start. A thread that dies by itself has met a broken invariant: that is fatal
 * for the gateway, since nobody knows what was sent.
 */
import { Worker } from 'node:worker_threads';
import { InvariantError } from '../base/assert.js';
import type { Transfers } from '../metrics/source.js';
import type { RateLimits } from '../ports/bandwidth.js';
import type { Clock } from '../ports/clock.js';
import type { FromHydrator, ToHydrator } from '../remote/hydration-messages.js';
import type { FromReplicator, ToReplicator } from '../remote/replication-messages.js';
import type { FromReplicationThread, ReplicationThreadData, ToReplicationThread } from './replication-channel.js';
import type { StoreSettings } from './restore-location.js';

const stopMsMax = 2000;

export interface ReplicationThreadOptions {
  readonly data: ReplicationThreadData;
  readonly clock: Clock;
  readonly onFatal: (error: Error) => void;
}

export type ReplicationListener = (message: FromReplicator, transfers: Transfers | undefined) => void;

/** One volume's line to its replicator. */
export interface ReplicationLine {
  send(message: ToReplicator): void;
}

export class ReplicationThread {
  readonly #options: ReplicationThreadOptions;
  #worker: Worker | undefined;
  /** What it is told first. */
  #queue: ToReplicationThread[] = [];
  readonly #listeners = new Map<string, ReplicationListener>();
  readonly #hydrations = new Map<string, (message: FromHydrator, downloadedBytes: number) => void>();
  readonly #releases = new Map<string, () => void>();
  readonly #foundRates: { upload?: number; download?: number } = {};
  #ending = false;
  #exited: Promise<void> = Promise.resolve();

  constructor(options: ReplicationThreadOptions) {
    this.#options = options;
  }

  /** Starts the thread, unless it runs or is to end. */
  begin(): void {
    if (this.#worker !== undefined || this.#ending) return;
    const { data, onFatal } = this.#options;
    const worker = new Worker(new URL('./replication-worker.js', import.meta.url), {
      workerData: data,
      resourceLimits: { maxYoungGenerationSizeMb: 8 },
    });
    worker.on('message', (said: FromReplicationThread) => {
      if ('direction' in said) this.#foundRates[said.direction] = said.bytesPerSecond;
      else if ('released' in said) this.#releases.get(said.released)?.();
      else if ('hydration' in said) this.#hydrations.get(said.volume)?.(said.hydration, said.downloadedBytes);
      else this.#listeners.get(said.volume)?.(said.message, said.transfers);
    });
    worker.on('error', (error) => onFatal(error instanceof Error ? error : new Error(String(error))));
    this.#exited = new Promise((resolve) => {
      worker.once('exit', (code) => {
        resolve();
        if (!this.#ending) onFatal(new InvariantError(`the replication thread ended by itself (${code})`));
      });
    });
    for (const message of this.#queue) worker.postMessage(message);
    this.#queue = [];
    this.#worker = worker;
  }

  /** `directory` is the volume's; `receive` gets everything that its replicator says. */
  open(volume: string, directory: string, receive: ReplicationListener): ReplicationLine {
    this.#listeners.set(volume, receive);
    this.#post({ type: 'open', volume, directory });
    // A line that was released says nothing to the next volume of that name.
    return {
      send: (message) => {
        if (this.#listeners.get(volume) === receive) this.#post({ type: 'to', volume, message });
      },
    };
  }

  /** A line to what fills a restored volume from the bucket that it came from. */
  hydrate(
    volume: string,
    directory: string,
    store: StoreSettings,
    receive: (message: FromHydrator, downloadedBytes: number) => void,
  ): (message: ToHydrator) => void {
    this.#hydrations.set(volume, receive);
    this.#post({ type: 'hydrate', volume, directory, store });
    return (message) => {
      if (this.#hydrations.get(volume) === receive) this.#post({ type: 'toHydrator', volume, message });
    };
  }

  /** The volume was closed, and is none of the gateway's any more. Resolves once nothing of it is under way here. */
  async release(volume: string): Promise<void> {
    const known = [this.#listeners.delete(volume), this.#hydrations.delete(volume)];
    if (!known.includes(true)) return;
    const released = new Promise<void>((resolve) => this.#releases.set(volume, resolve));
    this.#post({ type: 'release', volume });
    await Promise.race([released, this.#exited]);
    this.#releases.delete(volume);
  }

  setLimits(limits: RateLimits): void {
    this.#post({ type: 'limit', limits });
  }

  /** What `auto` found last. */
  foundRate(direction: keyof RateLimits): number | undefined {
    return this.#foundRates[direction];
  }

  /** Ends it, politely at first: what is in flight to a slow store is abandoned, and found again at the next start. */
  async end(): Promise<void> {
    this.#ending = true;
    this.#listeners.clear();
    this.#hydrations.clear();
    const worker = this.#worker;
    if (worker === undefined) return;
    worker.postMessage({ type: 'end' } satisfies ToReplicationThread);
    const timer = this.#options.clock.after(stopMsMax, () => void worker.terminate());
    await this.#exited;
    timer.cancel();
  }

  #post(message: ToReplicationThread): void {
    if (this.#worker === undefined) this.#queue.push(message);
    else this.#worker.postMessage(message);
  }
}
