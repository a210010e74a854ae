/**
 * Looks after a restored volume until nothing of it is owed any more: finds its recovery point in the bucket again, pins
 * it, lets reads on demand through to it (frozen-volume.ts), and fills the rest (hydration-filler.ts). Whatever fails is
 * tried again; meanwhile the volume serves what it has. Reads that come before the bucket was opened wait for that.
 */
import { setMaxListeners } from 'node:events';
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import type { BlockNumber } from '../base/units.js';
import type { Checksums } from '../ports/checksum.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { FrozenRun, FrozenVolume, HydratingVolume } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { openRecorded } from './frozen-open.js';
import { BucketVolume } from './frozen-volume.js';
import { HydrationFiller } from './hydration-filler.js';
import type { MasterKey } from './key.js';
import { Pin } from './pin.js';
import { findRemoteVolume } from './remote-list.js';
import { ShardCache } from './shard-cache.js';
import { RetryingStore, retryDelayMs } from './store-retry.js';

/** How long a request that had to be repeated counts as a problem. */
const TROUBLE_MS = 60_000;

export interface HydratorOptions {
  readonly volume: HydratingVolume;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  /** For reads on demand: one attempt each. */
  readonly store: ObjectStore;
  /** The same bucket for the filling, as a lane of its own of the download budget. */
  readonly background: ObjectStore;
  readonly masters: readonly MasterKey[];
  /** Who reads, for the pin (a host name). */
  readonly reader: string;
  readonly checksums: Checksums;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** A broken invariant, or lost durability. */
  readonly failed: (error: unknown) => void;
}

export interface HydratorStatus {
  readonly phase: 'connecting' | 'filling' | 'complete';
  /** Blocks that are still to come, at most; undefined: not known yet. */
  readonly remainingBlocks: number | undefined;
  /** What keeps it from going on, as one line. */
  readonly problem: string | undefined;
}

export class Hydrator implements FrozenVolume {
  readonly #options: HydratorOptions;
  #bucket: Promise<BucketVolume>;
  #opened: (bucket: BucketVolume) => void = () => undefined;
  #trouble: { readonly message: string; readonly atMs: number } | undefined;
  readonly #ended = new AbortController();
  #pin: Pin | undefined;
  #filler: HydrationFiller | undefined;
  #phase: HydratorStatus['phase'] = 'connecting';
  #problem: string | undefined;
  #running: Promise<void> | undefined;

  constructor(options: HydratorOptions) {
    this.#options = options;
    this.#bucket = this.#awaited();
    // Each request under way listens to it.
    setMaxListeners(0, this.#ended.signal);
  }

  get status(): HydratorStatus {
    return {
      phase: this.#phase,
      remainingBlocks: this.#phase === 'complete' ? 0 : this.#filler?.remainingBlocks,
      problem: this.#problem ?? this.#filler?.problem ?? this.#recentTrouble(),
    };
  }

  start(): void {
    this.#options.volume.connect(this);
    this.#running ??= this.#run();
  }

  /** As the bucket has it, once that was opened. */
  async fetch(first: BlockNumber, count: number, request: StoreRequest): Promise<readonly FrozenRun[]> {
    return (await this.#bucket).fetch(first, count, request);
  }

  async mapped(first: BlockNumber, count: number, request: StoreRequest): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#bucket).mapped(first, count, request);
  }

  /** Resolves when nothing of it runs any more. The pins stand: the next start takes them over. */
  async stop(): Promise<void> {
    this.#ended.abort();
    await this.#running;
    await this.#pin?.handOver();
  }

  async #run(): Promise<void> {
    const { clock, random, failed, volume, log } = this.#options;
    const { signal } = this.#ended;
    const stopped = (): boolean => signal.aborted;
    for (let attempt = 1; !stopped(); attempt++) {
      try {
        await this.#hydrate();
        return;
      } catch (error) {
        if (stopped()) return;
        if (!(error instanceof GatewayError) || error instanceof DurabilityLostError) return failed(error);
        this.#problem = error.message;
        this.#phase = 'connecting';
        // Whoever reads hears why at once, until it is tried again.
        volume.connect(error);
        log.error(`the rest of a restored volume cannot be had from its bucket at the moment: ${error.message}`);
        await clock.sleep(retryDelayMs(attempt, random.fraction()), signal).catch(() => undefined);
        this.#bucket = this.#awaited();
        volume.connect(this);
      }
    }
  }

  async #hydrate(): Promise<void> {
    const { disk, checksums, masters, random, volume, clock, log } = this.#options;
    const { signal } = this.#ended;
    const request = { signal };
    const store = this.#retrying(this.#options.store);
    const found = await findRemoteVolume(store, { volume: volume.source.uuid, masters, random, request });
    const { sealer } = found;
    await this.#keepPinned(store, found.sealer);
    const cache = await ShardCache.open(disk, checksums);
    try {
      const book = await openRecorded(volume.source, { store, found, request, cache, checksums, random, log });
      const bucket = new BucketVolume({ book, sealer, checksums, store });
      const background = this.#retrying(this.#options.background);
      this.#filler = new HydrationFiller({ bucket, target: volume, store: background, signal, clock, random, log });
      this.#opened(bucket);
      this.#phase = 'filling';
      this.#problem = undefined;
      await this.#filler.run();
      this.#phase = 'complete';
    } finally {
      await cache.close();
    }
    await this.#pin?.release();
    await ShardCache.remove(disk);
    log.info('everything of the restored volume is here: its bucket is not needed any more');
  }

  #awaited(): Promise<BucketVolume> {
    return new Promise((resolve) => (this.#opened = resolve));
  }

  #retrying(store: ObjectStore): ObjectStore {
    const { clock, random } = this.#options;
    const onRetry = ({ message }: GatewayError): void => {
      this.#trouble = { message, atMs: clock.nowMs() };
    };
    return new RetryingStore(store, { clock, random, onRetry });
  }

  #recentTrouble(): string | undefined {
    const trouble = this.#trouble;
    if (trouble === undefined || this.#options.clock.nowMs() - trouble.atMs >= TROUBLE_MS) return undefined;
    return trouble.message;
  }

  /** A new pin stands before those of an earlier life go. */
  async #keepPinned(store: ObjectStore, sealer: Parameters<typeof Pin.put>[0]['sealer']): Promise<void> {
    if (this.#pin !== undefined) return;
    const { clock, random, log, reader, volume } = this.#options;
    this.#pin = await Pin.put({
      store,
      sealer,
      clock,
      random,
      log,
      reader,
      request: { signal: this.#ended.signal },
      floor: volume.source.pinFloor,
      inherited: volume.progress.pins,
      record: (pins) => volume.advance({ pins }),
    });
  }
}
