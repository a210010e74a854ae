/**
 * A restored volume's way to its bucket while its content comes from there: reads of blocks that are not here go to the
 * hydrator in the replication thread, and what that asks of the volume is answered. Where the bucket, or its key, cannot
 * be opened at all, that is said and tried again; meanwhile the volume serves what it has.
 */
import { assertNever } from '../base/assert.js';
import { DurabilityLostError, GatewayError } from '../base/errors.js';
import { BLOCK_BYTES, type BlockNumber } from '../base/units.js';
import type { Clock, Timer } from '../ports/clock.js';
import type { FrozenRun, FrozenVolume, HydratingVolume, RestoreSource } from '../ports/hydration.js';
import type { Log } from '../ports/log.js';
import type { StoreRequest } from '../ports/object-store.js';
import type { HydrationStatus } from '../ports/volume-status.js';
import type { FromHydrator, HydrationAnswer, HydrationAsk, ToHydrator } from '../remote/hydration-messages.js';
import type { HydratorStatus } from '../remote/hydrator.js';
import type { MasterKey } from '../remote/key.js';
import { unpackRuns } from '../remote/run-parcel.js';
import { QuestionQueue } from './question-queue.js';

const AGAIN_MS = 10_000;
const FILLED_POLL_MS = 500;
/** Reads that the hydrator is asked for at a time, of at most 1 MiB and what lies beside it in its frames. */
const FETCHES_MAX = 16;
/** Questions to the map at a time, of at most one shard each. */
const MAPS_MAX = 4;

/** Opens the way to a volume's hydrator. */
export interface HydrationPort {
  /** Rejects where the bucket or its key cannot be used. `receive` also says what was downloaded so far, now and then. */
  connect(
    source: RestoreSource,
    receive: (message: FromHydrator, downloadedBytes: number) => void,
  ): Promise<{ readonly send: (message: ToHydrator) => void; readonly masters: readonly MasterKey[] }>;
  /** Who reads, for the pin (a host name). */
  readonly reader: string;
}

interface BlockRange {
  readonly first: BlockNumber;
  readonly count: number;
}

export class HydrationLine implements FrozenVolume {
  /** Of this process, every attempt counted. */
  downloadedBytes = 0;
  readonly #volume: HydratingVolume;
  readonly #port: HydrationPort;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #fetches: QuestionQueue<BlockRange, readonly FrozenRun[]>;
  readonly #maps: QuestionQueue<BlockRange, Uint8Array<ArrayBuffer>>;
  #nextId = 1;
  #send: ((message: ToHydrator) => void) | undefined;
  #status: HydratorStatus | undefined;
  /** Why there is no way to it. */
  #problem: string | undefined;
  #timer: Timer | undefined;
  #closed = false;

  constructor(options: {
    readonly volume: HydratingVolume;
    readonly port: HydrationPort;
    readonly clock: Clock;
    readonly log: Log;
  }) {
    this.#volume = options.volume;
    this.#port = options.port;
    this.#clock = options.clock;
    this.#log = options.log;
    const abandon = (id: number): void => this.#send?.({ type: 'abandon', id });
    this.#fetches = new QuestionQueue({
      askedMax: FETCHES_MAX,
      ask: (id, range) => this.#send?.({ type: 'fetch', id, ...range }),
      abandon,
    });
    this.#maps = new QuestionQueue({
      askedMax: MAPS_MAX,
      ask: (id, range) => this.#send?.({ type: 'map', id, ...range }),
      abandon,
    });
  }

  /** undefined: everything is here. */
  get status(): HydrationStatus | undefined {
    if (!this.#volume.active) return undefined;
    const { remainingBlocks, problem } = this.#status ?? { remainingBlocks: undefined, problem: undefined };
    return { remainingBlocks, problem: this.#problem ?? problem };
  }

  /** Resolves once all of the volume's content is here. volume-closed: the signal came first. */
  async filled(progress: (doneBytes: number, totalBytes: number) => void, signal: AbortSignal): Promise<void> {
    for (let totalBytes = 0; ;) {
      const { status } = this;
      if (status === undefined) return;
      const left = (status.remainingBlocks ?? 0) * BLOCK_BYTES;
      totalBytes = Math.max(totalBytes, left);
      progress(totalBytes - left, totalBytes);
      await this.#clock.sleep(FILLED_POLL_MS, signal).catch(() => undefined);
      if (signal.aborted)
        throw new GatewayError('volume-closed', 'the gateway is stopping; it goes on after its start');
    }
  }

  async start(): Promise<void> {
    const { source } = this.#volume;
    try {
      const { send, masters } = await this.#port.connect(source, (message, downloadedBytes) => {
        this.downloadedBytes = downloadedBytes;
        this.#receive(message);
      });
      if (this.#closed) return;
      this.#send = send;
      this.#problem = undefined;
      this.#volume.connect(this);
      const { progress, blockCount } = this.#volume;
      send({ type: 'start', config: { source, progress, blockCount, masters, reader: this.#port.reader } });
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      if (this.#closed) return;
      if (this.#problem !== error.message)
        this.#log.error(`the bucket of a restored volume cannot be opened: ${error.message}`, { code: error.code });
      this.#problem = error.message;
      this.#volume.connect(error);
      this.#timer = this.#clock.after(AGAIN_MS, () => void this.start());
    }
  }

  fetch(first: BlockNumber, count: number, { signal }: StoreRequest): Promise<readonly FrozenRun[]> {
    if (this.#send === undefined) return Promise.reject(closing());
    return this.#fetches.ask(this.#nextId++, { first, count }, signal);
  }

  mapped(first: BlockNumber, count: number, { signal }: StoreRequest): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#send === undefined) return Promise.reject(closing());
    return this.#maps.ask(this.#nextId++, { first, count }, signal);
  }

  /** Before the volume is closed. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#send?.({ type: 'stop' });
    this.#send = undefined;
    this.#fetches.giveUpAll();
    this.#maps.giveUpAll();
  }

  #receive(message: FromHydrator): void {
    if (this.#closed) return;
    switch (message.type) {
      case 'connected': {
        const { failure } = message;
        // The status, which says so as well, comes later.
        this.#problem = failure?.message;
        this.#volume.connect(failure === undefined ? this : new GatewayError(failure.code, failure.message));
        return;
      }
      case 'fetched': {
        const { id, result } = message;
        this.#fetches.answered(
          id,
          'runs' in result ? unpackRuns(result) : new GatewayError(result.code, result.message),
        );
        return;
      }
      case 'mapped': {
        const { id, result } = message;
        this.#maps.answered(id, 'code' in result ? new GatewayError(result.code, result.message) : result);
        return;
      }
      case 'ask':
        void this.#answer(message.id, message.ask);
        return;
      case 'status':
        this.#status = message.status;
        return;
      default:
        assertNever(message);
    }
  }

  async #answer(id: number, ask: HydrationAsk): Promise<void> {
    let answer: HydrationAnswer;
    try {
      answer = await this.#perform(ask);
    } catch (error) {
      // The engine has ended the process already.
      if (error instanceof DurabilityLostError) return;
      if (!(error instanceof GatewayError)) throw error;
      answer = { to: 'failed', failure: { code: error.code, message: error.message } };
    }
    this.#send?.({ type: 'answer', id, answer, blockCount: this.#volume.blockCount });
  }

  async #perform(ask: HydrationAsk): Promise<HydrationAnswer> {
    const volume = this.#volume;
    switch (ask.to) {
      case 'owed':
        return { to: 'owed', owed: await volume.owed(ask.first, ask.count) };
      case 'fill':
        for (const run of unpackRuns(ask.parcel)) await volume.fill(run);
        return { to: 'fill' };
      case 'advance':
        await volume.advance(ask.progress);
        return { to: 'advance', progress: volume.progress };
      case 'complete':
        return { to: 'complete', complete: await volume.complete() };
      default:
        return assertNever(ask);
    }
  }
}

function closing(): GatewayError {
  return new GatewayError('volume-closed', 'the volume is closing');
}
