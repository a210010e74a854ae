/**
 * The engine's way to stop its replicator from reading the log, and to let it go on. What was not started yet starts when
 * the engine is through with what it wanted to do undisturbed.
 */
import type { LogFollower } from '../engine/reclaimer.js';
import type { Volume } from '../engine/volume.js';
import type { ReplicationLine } from './replication-thread.js';

export class FollowerLine implements LogFollower {
  readonly #waiting = new Map<number, (revoked: boolean) => void>();
  #started: { readonly line: ReplicationLine; readonly volume: Volume } | undefined;
  #revoked = false;
  #start: (() => void) | undefined;
  #closed = false;
  #nextId = 1;

  /** Starts the replicator, once it may read the log. */
  start(line: ReplicationLine, volume: Volume, start: () => void): void {
    this.#start = () => {
      this.#started = { line, volume };
      start();
    };
    if (!this.#revoked) this.#startNow();
  }

  revoke(): Promise<boolean> {
    this.#revoked = true;
    if (this.#started === undefined || this.#closed) return Promise.resolve(!this.#closed);
    const { line } = this.#started;
    const id = this.#nextId++;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      line.send({ type: 'revoke', id });
    });
  }

  resume(): void {
    this.#revoked = false;
    if (this.#closed) return;
    if (this.#started === undefined) return this.#startNow();
    const { line, volume } = this.#started;
    line.send({ type: 'resume', replication: volume.replication.state, durable: volume.replication.durableState() });
  }

  revoked(id: number): void {
    this.#waiting.get(id)?.(true);
    this.#waiting.delete(id);
  }

  close(): void {
    this.#closed = true;
    for (const resolve of this.#waiting.values()) resolve(false);
    this.#waiting.clear();
  }

  #startNow(): void {
    this.#start?.();
    this.#start = undefined;
  }
}
