/**
 * A session's right to use its volume: asked for by the first command that touches data (access: exclusive), on
 * whatever connection, and kept until the session ends.
 *
 * Commands and task management functions that wait for it do so in the order in which they were begun, over all
 * connections, and go on in that order: a function meets the commands before it, and none behind it (RFC 7143 4.2.3.3).
 * A refusal is remembered for a second, so that a refused initiator's scan does not probe the holder once per command.
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

type Decided = (refusal: GatewayError | undefined) => void;

export class VolumeClaim {
  readonly #options: VolumeClaimOptions;
  #attachment: Attachment | undefined;
  #attaching = false;
  /** What waits, first come first: commands by their task, functions by themselves. */
  readonly #waiting = new Map<IscsiTask | Decided, Decided>();
  /** Those that wait go on, one at a time. */
  #deciding = false;
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
    this.#wait(task, (refusal) => claimant.decided(task, refusal));
  }

  /** The task waits no longer. */
  withdraw(task: IscsiTask): void {
    this.#waiting.delete(task);
  }

  /** Whether what goes on now, a function or a command that waited, came before this task, which still waits. */
  isBehind(task: IscsiTask): boolean {
    return this.#deciding && this.#waiting.has(task);
  }

  /** Calls back once it is known whether the volume is ours; never from inside the call. */
  whenDecided(callback: Decided): void {
    this.#wait(callback, callback);
  }

  /** The session is over. */
  close(): void {
    this.#closed = true;
    this.#waiting.clear();
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

  #wait(who: IscsiTask | Decided, decided: Decided): void {
    this.#waiting.set(who, decided);
    if (this.#attaching) return;
    this.#attaching = true;
    void this.#attach().then((refusal) => {
      this.#attaching = false;
      this.#decide(refusal);
    });
  }

  /** One at a time: what one does may withdraw others. */
  #decide(refusal: GatewayError | undefined): void {
    this.#deciding = true;
    for (let [first] = this.#waiting; first !== undefined; [first] = this.#waiting) {
      this.#waiting.delete(first[0]);
      first[1](refusal);
    }
    this.#deciding = false;
  }
}
