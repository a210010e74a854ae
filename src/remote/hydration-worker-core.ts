/**
 * The worker's side of hydration-messages.ts, without the worker: whoever owns the thread gives it ports, feeds it messages,
 * and sends on what it emits. To the hydrator it is the volume; to the volume it is the bucket.
 */
import { setMaxListeners } from 'node:events';
import { assert, assertNever } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import type { BlockNumber } from '../base/units.js';
import type { FrozenRun, FrozenVolume, HydratingVolume, HydrationProgress, RestoreSource } from '../ports/hydration.js';
import type { Timer } from '../ports/clock.js';
import type { StoreRequest } from '../ports/object-store.js';
import type { FromHydrator, HydrationAnswer, HydrationAsk, HydrationConfig, ToHydrator } from './hydration-messages.js';
import { Hydrator } from './hydrator.js';
import type { HydratorOptions } from './hydrator.js';
import { packRuns, transfersOf } from './run-parcel.js';

const STATUS_MS = 1000;

export interface HydrationCoreOptions extends Omit<HydratorOptions, 'volume' | 'masters' | 'reader' | 'failed'> {
  /** `transfer`: what may be handed over instead of copied. */
  readonly emit: (message: FromHydrator, transfer?: ArrayBuffer[]) => void;
}

export class HydrationWorkerCore {
  readonly #options: HydrationCoreOptions;
  #volume: DistantVolume | undefined;
  #hydrator: Hydrator | undefined;
  readonly #asked = new Map<number, AbortController>();
  #timer: Timer | undefined;
  #told = '';
  #broken: (error: Error) => void = () => undefined;
  readonly #ended: Promise<void>;
  #stop: () => void = () => undefined;

  constructor(options: HydrationCoreOptions) {
    this.#options = options;
    this.#ended = new Promise((resolve, reject) => {
      this.#stop = resolve;
      this.#broken = reject;
    });
  }

  receive(message: ToHydrator): void {
    switch (message.type) {
      case 'start':
        return this.#start(message.config);
      case 'fetch':
        void this.#answer(message.id, 'fetched', async (frozen, request) => {
          const parcel = packRuns(await frozen.fetch(message.first, message.count, request));
          return [{ type: 'fetched', id: message.id, result: parcel }, transfersOf(parcel)];
        });
        return;
      case 'map':
        void this.#answer(message.id, 'mapped', async (frozen, request) => {
          const result = await frozen.mapped(message.first, message.count, request);
          return [{ type: 'mapped', id: message.id, result }, [result.buffer]];
        });
        return;
      case 'abandon':
        this.#asked.get(message.id)?.abort();
        this.#asked.delete(message.id);
        return;
      case 'answer':
        this.#volume?.answered(message.id, message.answer, message.blockCount);
        return;
      case 'stop':
        void this.close().catch(this.#broken);
        return;
      default:
        assertNever(message);
    }
  }

  /** Resolves when it was stopped. Rejects on a broken invariant. */
  ended(): Promise<void> {
    return this.#ended;
  }

  /** Ends what is under way; the pins stay for the next start. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    for (const asked of this.#asked.values()) asked.abort();
    this.#asked.clear();
    this.#volume?.close();
    await this.#hydrator?.stop();
    this.#stop();
  }

  #start(config: HydrationConfig): void {
    assert(this.#hydrator === undefined, 'a hydrator is started once');
    const { emit, ...ports } = this.#options;
    this.#volume = new DistantVolume(config, emit);
    const { masters, reader } = config;
    const failed = (error: unknown): void => this.#broken(error instanceof Error ? error : new Error(String(error)));
    this.#hydrator = new Hydrator({ ...ports, volume: this.#volume, masters, reader, failed });
    this.#hydrator.start();
    this.#tell();
  }

  /** The status, where it changed; until nothing is owed any more. */
  #tell(): void {
    const { emit, clock } = this.#options;
    const status = this.#hydrator?.status;
    if (status === undefined) return;
    const text = JSON.stringify(status);
    if (text !== this.#told) emit({ type: 'status', status });
    this.#told = text;
    if (status.phase !== 'complete') this.#timer = clock.after(STATUS_MS, () => this.#tell());
  }

  /** What the bucket says, unless nobody waits for it any more. */
  async #answer(
    id: number,
    type: 'fetched' | 'mapped',
    ask: (frozen: FrozenVolume, request: StoreRequest) => Promise<Parameters<HydrationCoreOptions['emit']>>,
  ): Promise<void> {
    const { emit } = this.#options;
    const abort = new AbortController();
    // Each frame's request listens to it.
    setMaxListeners(0, abort.signal);
    this.#asked.set(id, abort);
    try {
      const source = this.#volume?.frozen;
      if (source === undefined) throw new GatewayError('store-unreachable', 'the bucket is not connected yet');
      if (source instanceof GatewayError) throw source;
      const answer = await ask(source, { signal: abort.signal });
      if (this.#asked.has(id)) emit(...answer);
    } catch (error) {
      if (!this.#asked.has(id)) return;
      if (!(error instanceof GatewayError)) {
        this.#broken(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      emit({ type, id, result: { code: error.code, message: error.message } });
    } finally {
      this.#asked.delete(id);
    }
  }
}

/** The volume, which lives in another thread. */
class DistantVolume implements HydratingVolume {
  active = true;
  progress: HydrationProgress;
  blockCount: number;
  readonly source: RestoreSource;
  frozen: FrozenVolume | GatewayError | undefined;
  readonly #emit: HydrationCoreOptions['emit'];
  readonly #asked = new Map<number, { resolve: (answer: HydrationAnswer) => void; reject: (error: Error) => void }>();
  #filling: { readonly runs: FrozenRun[]; readonly sent: Promise<void> } | undefined;
  #nextId = 1;
  #closed = false;

  constructor({ source, progress, blockCount }: HydrationConfig, emit: HydrationCoreOptions['emit']) {
    this.source = source;
    this.progress = progress;
    this.blockCount = blockCount;
    this.#emit = emit;
  }

  connect(frozen: FrozenVolume | GatewayError): void {
    this.frozen = frozen;
    const failure = frozen instanceof GatewayError ? { code: frozen.code, message: frozen.message } : undefined;
    this.#emit({ type: 'connected', failure });
  }

  async owed(first: BlockNumber, count: number): Promise<Uint8Array> {
    const answer = await this.#ask({ to: 'owed', first, count });
    assert(answer.to === 'owed', 'an answer is to what was asked');
    return answer.owed;
  }

  /** Whatever is to be filled at the same moment travels together. */
  fill(run: FrozenRun): Promise<void> {
    if (this.#filling === undefined) {
      const runs: FrozenRun[] = [];
      const sent = Promise.resolve().then(async () => {
        this.#filling = undefined;
        const parcel = packRuns(runs);
        await this.#ask({ to: 'fill', parcel }, transfersOf(parcel));
      });
      this.#filling = { runs, sent };
    }
    this.#filling.runs.push(run);
    return this.#filling.sent;
  }

  async advance(progress: Partial<HydrationProgress>): Promise<void> {
    const answer = await this.#ask({ to: 'advance', progress });
    assert(answer.to === 'advance', 'an answer is to what was asked');
    this.progress = answer.progress;
  }

  async complete(): Promise<boolean> {
    const answer = await this.#ask({ to: 'complete' });
    assert(answer.to === 'complete', 'an answer is to what was asked');
    if (answer.complete) this.active = false;
    return answer.complete;
  }

  answered(id: number, answer: HydrationAnswer, blockCount: number): void {
    this.blockCount = blockCount;
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (answer.to === 'failed') asked?.reject(new GatewayError(answer.failure.code, answer.failure.message));
    else asked?.resolve(answer);
  }

  /** Nobody answers any more. */
  close(): void {
    this.#closed = true;
    for (const { reject } of this.#asked.values()) reject(closing());
    this.#asked.clear();
  }

  #ask(ask: HydrationAsk, transfer?: ArrayBuffer[]): Promise<HydrationAnswer> {
    if (this.#closed) return Promise.reject(closing());
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#emit({ type: 'ask', id, ask }, transfer);
    });
  }
}

function closing(): GatewayError {
  return new GatewayError('volume-closed', 'the volume is closing');
}
