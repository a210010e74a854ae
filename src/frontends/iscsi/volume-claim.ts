/**
 * A session's right to use its volume: asked for by the first command that touches data (access: exclusive), on
 * whatever connection, and kept until the session ends.
 *
 * Commands that wait for it do so in the order in which they were begun, over all connections. A refusal is remembered
 * for a second, so that a refused initiator's scan does not probe the holder once per command.
 */
import { GatewayError } from '../../base/errors.js';
import type { Clock } from '../../ports/clock.js';
import type { Attachment, ClientIdentity, ServedVolume, SessionControl } from '../../ports/volume-directory.js';
import type { IscsiTask } from './task.js';

/** Who goes on with a command when the volume is ours, or was refused. */
export interface Claimant {
  decided(task: IscsiTask, refusal: GatewayError | undefined): void;
}

export interface VolumeClaimOptions {
  /** undefined: a discovery session. */
  readonly volume: ServedVolume | undefined;
  readonly client: ClientIdentity;
  readonly control: SessionControl;
  readonly clock: Clock;
  /** The volume was refused to this session (not told again while the refusal is remembered). */
  readonly refused: (error: GatewayError) => void;
}

const REFUSAL_MS = 1000;

export class VolumeClaim {
  readonly #options: VolumeClaimOptions;
  #attachment: Attachment | undefined;
  #attaching = false;
  #asked = false;
  readonly #tasks = new Map<IscsiTask, Claimant>();
  #whenDecided: ((refusal: GatewayError | undefined) => void)[] = [];
  #refusal: GatewayError | undefined;
  #refusedUntilMs = 0;
  #closed = false;

  constructor(options: VolumeClaimOptions) {
    this.#options = options;
  }

  get held(): boolean {
    return this.#attachment !== undefined;
  }

  /** Claimant.decided follows, never from inside the call, unless the task is withdrawn. */
  await(task: IscsiTask, claimant: Claimant): void {
    this.#tasks.set(task, claimant);
    if (this.#asked) return;
    this.#asked = true;
    this.whenDecided((refusal) => {
      this.#asked = false;
      // One at a time: what one command does may withdraw others.
      for (let first = this.#first(); first !== undefined; first = this.#first()) {
        this.#tasks.delete(first[0]);
        first[1].decided(first[0], refusal);
      }
    });
  }

  /** The task waits no longer. */
  withdraw(task: IscsiTask): void {
    this.#tasks.delete(task);
  }

  /** Calls back once it is known whether the volume is ours; never from inside the call. */
  whenDecided(callback: (refusal: GatewayError | undefined) => void): void {
    this.#whenDecided.push(callback);
    if (this.#attaching) return;
    this.#attaching = true;
    void this.#attach().then((refusal) => {
      this.#attaching = false;
      for (const each of this.#whenDecided.splice(0)) each(refusal);
    });
  }

  /** The session is over. */
  close(): void {
    this.#closed = true;
    this.#tasks.clear();
    this.#whenDecided = [];
    this.#attachment?.release();
    this.#attachment = undefined;
  }

  async #attach(): Promise<GatewayError | undefined> {
    const { clock, volume, client, control } = this.#options;
    if (volume === undefined || this.#attachment !== undefined) return undefined;
    if (clock.nowMs() < this.#refusedUntilMs) return this.#refusal;
    try {
      const attachment = await volume.attach(client, control);
      if (this.#isClosed()) attachment.release();
      else this.#attachment = attachment;
      return undefined;
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      this.#options.refused(error);
      this.#refusal = error;
      this.#refusedUntilMs = clock.nowMs() + REFUSAL_MS;
      return error;
    }
  }

  /** Behind a call, because TypeScript believes that nothing changes while something is awaited. */
  #isClosed(): boolean {
    return this.#closed;
  }

  #first(): [IscsiTask, Claimant] | undefined {
    const [first] = this.#tasks;
    return first;
  }
}
