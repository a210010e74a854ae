/**
 * The worker's side of replication-messages.ts, without the worker: whoever owns the thread gives it ports, feeds it
 * messages, and sends on what it emits. Everything happens through the ports, so it runs in a simulation as well.
 */
import { assert } from '../base/assert.js';
import { assertNever } from '../base/assert.js';
import type { FromReplicator, ToReplicator } from './replication-messages.js';
import { Replicator } from './replicator.js';
import type { ReplicatorPorts } from './replicator.js';

export interface WorkerCoreOptions extends ReplicatorPorts {
  readonly emit: (message: FromReplicator) => void;
}

export class ReplicationWorkerCore {
  readonly #options: WorkerCoreOptions;
  #replicator: Replicator | undefined;
  #running: Promise<void> | undefined;

  constructor(options: WorkerCoreOptions) {
    this.#options = options;
  }

  /** Takes a message; broken invariants are thrown to the thread (and from `ended`). */
  receive(message: ToReplicator): void {
    switch (message.type) {
      case 'start': {
        assert(this.#replicator === undefined, 'a replicator is started once');
        const { config, replication, durable } = message;
        this.#replicator = new Replicator({ ...this.#options, config, replication, durable });
        this.#running = this.#replicator.run();
        return;
      }
      case 'durable':
        this.#replicator?.onDurable(message.durable);
        return;
      case 'drain':
        this.#replicator?.drain(message.id, message.lsn);
        return;
      case 'fetch':
        this.#replicator?.fetch(message.id, message.block, message.throughLsn);
        return;
      case 'stop':
        this.#replicator?.stop();
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
    this.#replicator?.stop();
    try {
      await this.#running;
    } finally {
      await this.#options.source.close();
    }
    this.#options.emit({ type: 'stopped' });
  }
}
