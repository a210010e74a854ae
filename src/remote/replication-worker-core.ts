/**
 * The worker's side of replication-messages.ts, without the worker: whoever owns the thread gives it ports, feeds it
 * messages, and sends on what it emits. Everything happens through the ports, so it runs in a simulation as well.
 *
 * A life of the replicator that ends because the local disk failed is followed by another one, which takes a new epoch.
 */
import { assert } from '../base/assert.js';
import { assertNever } from '../base/assert.js';
import type { ErrorCode } from '../base/errors.js';
import type { Lsn } from '../base/units.js';
import type { DurableState, ReplicationState } from '../ports/replication.js';
import type { FromReplicator, ReplicationConfig, ToReplicator } from './replication-messages.js';
import { Replicator } from './replicator.js';
import type { ReplicatorPorts } from './replicator-options.js';
import { RoundLink } from './round-link.js';

export interface WorkerCoreOptions extends ReplicatorPorts {
  readonly emit: (message: FromReplicator) => void;
}

/** What the local disk may do for a while; nothing of the bucket is in doubt by it. */
const localCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['disk-failed', 'disk-full']);
const NEXT_LIFE_MS = 10_000;

export class ReplicationWorkerCore {
  readonly #options: WorkerCoreOptions;
  readonly #stopping = new AbortController();
  readonly #rounds: RoundLink;
  /** Ends the wait for another life. */
  #revoking = new AbortController();
  #replicator: Replicator | undefined;
  #running: Promise<void> | undefined;
  /** What the next life begins with. */
  #state: ReplicationState | undefined;
  #durable: DurableState | undefined;
  #drains = new Map<number, Lsn>();
  /** The life that just ended is followed by another one. */
  #begins = false;
  #config: ReplicationConfig | undefined;
  /** The last life has said that it was fenced, or why it ended for good. */
  #over = false;

  constructor(options: WorkerCoreOptions) {
    this.#options = options;
    this.#rounds = new RoundLink((message) => this.#hear(message));
  }

  /** Takes a message; broken invariants are thrown to the thread (and from `ended`). */
  receive(message: ToReplicator): void {
    switch (message.type) {
      case 'start':
        assert(this.#running === undefined, 'a replicator is started once');
        this.#state = message.replication;
        this.#durable = message.durable;
        this.#config = message.config;
        this.#running = this.#live(message.config, undefined);
        return;
      case 'takeOver':
        this.#takeOver(message);
        return;
      case 'durable':
        this.#durable = message.durable;
        this.#replicator?.onDurable(message.durable);
        return;
      case 'drain':
        this.#drains.set(message.id, message.lsn);
        this.#replicator?.drain(message.id, message.lsn);
        return;
      case 'fetch':
        this.#replicator?.questions.fetch(message.id, message.block, message.throughLsn);
        return;
      case 'scrub':
        this.#replicator?.questions.scrub(message.id);
        return;
      case 'past':
        this.#replicator?.questions.past(message.id, message.ask);
        return;
      case 'pastDone':
        this.#replicator?.questions.pastDone();
        return;
      case 'mend':
        this.#replicator?.mend(message.id, message.objects);
        return;
      case 'receipt':
        this.#replicator?.receipt(message.id);
        return;
      case 'revoke':
        this.#revoke(message.id);
        return;
      case 'resume':
        this.#resume(message);
        return;
      case 'round':
        this.#rounds.answered(message);
        return;
      case 'stop':
        this.#stop();
        return;
      default:
        assertNever(message);
    }
  }

  /** Resolves when the replicator has ended: stopped, fenced, or fatal. Rejects on a broken invariant. */
  async ended(): Promise<void> {
    await this.#running;
  }

  /** Stops, waits for what is in flight to let go, and releases the log. */
  async close(): Promise<void> {
    this.#stop();
    try {
      await this.#running;
    } finally {
      await this.#options.source.close();
    }
    this.#options.emit({ type: 'stopped' });
  }

  #revoke(id: number): void {
    this.#revoking.abort();
    this.#replicator?.stop();
    const revoked = (): void => this.#options.emit({ type: 'revoked', id });
    void (this.#running ?? Promise.resolve()).then(revoked, revoked);
  }

  /** A life that had ended for good stays ended, and what was not started yet will start with what counts then. */
  #resume({ replication, durable }: Extract<ToReplicator, { type: 'resume' }>): void {
    const [config, before] = [this.#config, this.#running];
    this.#revoking = new AbortController();
    if (config === undefined || before === undefined || this.#over) return;
    this.#state = replication;
    this.#durable = durable;
    this.#running = before.then(() => this.#live(config, undefined));
  }

  /** Only where no life goes on: the one that was fenced has ended, and sends nothing any more. */
  #takeOver({ id, replication, durable }: Extract<ToReplicator, { type: 'takeOver' }>): void {
    const [config, before] = [this.#config, this.#running];
    const refuse = (message: string): void =>
      this.#options.emit({ type: 'tookOver', id, refusal: { code: 'invalid-request', message } });
    if (config === undefined || before === undefined || !this.#over) {
      return refuse('this gateway replicates the volume: there is nothing to take over');
    }
    this.#state = replication;
    this.#durable = durable;
    this.#drains.clear();
    this.#revoking = new AbortController();
    this.#over = false;
    this.#running = before.then(() => this.#live(config, id));
  }

  /** One life after the other, as long as each ends for a reason that may pass. */
  async #live(config: ReplicationConfig, takeOver: number | undefined): Promise<void> {
    const { clock } = this.#options;
    for (;;) {
      const signal = AbortSignal.any([this.#stopping.signal, this.#revoking.signal]);
      const [replication, durable] = [this.#state, this.#durable];
      if (signal.aborted || replication === undefined || durable === undefined) return;
      const emit = (message: FromReplicator): void => this.#hear(message);
      this.#replicator = new Replicator({
        ...this.#options,
        emit,
        config,
        replication,
        durable,
        rounds: this.#rounds,
        ...(takeOver === undefined ? {} : { takeOver }),
      });
      for (const [id, lsn] of this.#drains) this.#replicator.drain(id, lsn);
      await this.#replicator.run();
      if (!this.#takeBegins()) return;
      await clock.sleep(NEXT_LIFE_MS, signal).catch(() => undefined);
    }
  }

  #takeBegins(): boolean {
    const begins = this.#begins;
    this.#begins = false;
    return begins;
  }

  #hear(message: FromReplicator): void {
    if (message.type === 'state' || message.type === 'fenced') this.#state = message.state;
    if (message.type === 'drained') this.#drains.delete(message.id);
    if (message.type === 'fatal' && localCodes.has(message.code)) {
      this.#options.log.warn(`replication begins again in ${NEXT_LIFE_MS / 1000} s: ${message.message}`);
      this.#begins = true;
      return;
    }
    this.#over ||= message.type === 'fenced' || message.type === 'fatal';
    this.#options.emit(message);
  }

  #stop(): void {
    this.#stopping.abort();
    this.#replicator?.stop();
  }
}
