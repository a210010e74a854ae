/**
 * Who has a volume. With `exclusive` one client at a time, over both protocols together, so that a second machine can
 * never mount, and destroy, a file system that is mounted elsewhere; with `shared` any number, which must coordinate
 * themselves.
 *
 * Invariants of `exclusive`: at most one client key has connections; another client gets in only after every connection
 * of the holder failed its probe and was evicted, so that nothing of the old holder reaches the volume after the new
 * one's first request. Contenders are served one after another; connections of the holder itself never wait.
 *
 * Whatever the mode: before a client has another connection, those that it gave up are ended, with what they sent and was not
 * taken in yet. A client that lost its connection sends again what had no answer, and then newer writes, over which an old
 * one that still waited here must not come.
 */
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { Attachment, ClientIdentity, SessionControl } from '../ports/volume-directory.js';

export interface AccessOptions {
  readonly volume: string;
  readonly mode: 'exclusive' | 'shared';
  readonly clock: Clock;
  readonly log: Log;
}

export interface AttachedClient {
  readonly frontend: 'nbd' | 'iscsi';
  readonly description: string;
  readonly connections: number;
}

export interface AttachedSession extends AttachedClient {
  /** "disk0.3": volume names have no dot. Not given twice while the process runs. */
  readonly id: string;
}

interface Holder {
  readonly id: string;
  readonly client: ClientIdentity;
  readonly connections: Set<SessionControl>;
}

export class VolumeAccess {
  readonly #options: AccessOptions;
  readonly #holders = new Map<string, Holder>();
  /** The last contender's turn; the next one waits for it. */
  #turn: Promise<unknown> = Promise.resolve();
  #closed = false;
  #locked: string | undefined;
  #sessions = 0;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  clients(): readonly AttachedClient[] {
    return [...this.#holders.values()].map(({ client, connections }) => ({
      frontend: client.frontend,
      description: client.description,
      connections: connections.size,
    }));
  }

  sessions(): readonly AttachedSession[] {
    return [...this.#holders.values()].map(({ id, client: { frontend, description }, connections }) => {
      return { id, frontend, description, connections: connections.size };
    });
  }

  /** Cuts all connections of a client; false when there is none of that id. What a client does then is its affair. */
  end(id: string, reason: string): boolean {
    const holder = [...this.#holders.values()].find((candidate) => candidate.id === id);
    if (holder === undefined) return false;
    for (const control of [...holder.connections]) {
      control.evict(reason);
      this.#remove(holder, control);
    }
    this.#options.log.info('a session was ended', {
      volume: this.#options.volume,
      client: holder.client.description,
      reason,
    });
    return true;
  }

  /** Takes the volume for one connection. Rejects with volume-in-use, volume-closed or session-limit. */
  async attach(client: ClientIdentity, control: SessionControl): Promise<Attachment> {
    const now = this.#tryAttach(client, control);
    if (now !== undefined) return now;
    const turn = this.#turn.then(() => this.#contend(client, control));
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** Nobody has the volume, and nobody gets it until `unlock`; `why` goes on after its name. volume-in-use. */
  lock(why: string): void {
    const { volume } = this.#options;
    const [holder] = this.#holders.values();
    if (holder !== undefined)
      throw new GatewayError(
        'volume-in-use',
        `volume ${volume} is in use by ${holder.client.description}: detach it first`,
      );
    if (this.#locked !== undefined) throw new GatewayError('volume-in-use', `volume ${volume} ${this.#locked}`);
    this.#locked = why;
  }

  unlock(): void {
    this.#locked = undefined;
  }

  /** Refuses every later attach; connections that are there stay. */
  close(): void {
    this.#closed = true;
  }

  async #contend(client: ClientIdentity, control: SessionControl): Promise<Attachment> {
    for (const holder of this.#others(client)) await this.#evictDead(holder, client);
    const attachment = this.#tryAttach(client, control);
    if (attachment !== undefined) return attachment;
    const [holder] = this.#others(client);
    throw new GatewayError(
      'volume-in-use',
      `volume ${this.#options.volume} is in use by ${holder?.client.description ?? 'another client'}`,
      { context: { volume: this.#options.volume, client: client.description } },
    );
  }

  #others(client: ClientIdentity): Holder[] {
    return [...this.#holders.values()].filter((holder) => holder.client.key !== client.key);
  }

  /** Undefined while another client holds the volume. */
  #tryAttach(client: ClientIdentity, control: SessionControl): Attachment | undefined {
    const { volume, mode } = this.#options;
    if (this.#closed) throw new GatewayError('volume-closed', `volume ${volume} is being closed`);
    if (this.#locked !== undefined) throw new GatewayError('volume-in-use', `volume ${volume} ${this.#locked}`);
    if (mode === 'exclusive' && this.#others(client).length > 0) return undefined;
    this.#endLeft(client);
    const connections = [...this.#holders.values()].reduce((sum, holder) => sum + holder.connections.size, 0);
    if (connections >= limits.connectionsPerVolumeMax) {
      throw new GatewayError('session-limit', `volume ${volume} has ${connections} connections, the most it can have`);
    }
    const holder = this.#holders.get(client.key) ?? this.#newHolder(client);
    this.#holders.set(client.key, holder);
    holder.connections.add(control);
    return { release: () => this.#remove(holder, control) };
  }

  #endLeft(client: ClientIdentity): void {
    const holder = this.#holders.get(client.key);
    if (holder === undefined) return;
    for (const control of [...holder.connections]) {
      if (!control.peerHasLeft()) continue;
      control.evict('its client gave it up, and comes again');
      this.#remove(holder, control);
    }
  }

  #newHolder(client: ClientIdentity): Holder {
    this.#sessions += 1;
    return { id: `${this.#options.volume}.${this.#sessions}`, client, connections: new Set() };
  }

  #remove(holder: Holder, control: SessionControl): void {
    holder.connections.delete(control);
    // A later holder may have the same key; only this one's own entry goes.
    if (holder.connections.size === 0 && this.#holders.get(holder.client.key) === holder) {
      this.#holders.delete(holder.client.key);
    }
  }

  /** Probes a holder's connections, and evicts them when none answers. */
  async #evictDead(holder: Holder, contender: ClientIdentity): Promise<void> {
    const probed = [...holder.connections];
    const answers = await Promise.all(probed.map((control) => this.#probe(control)));
    if (answers.includes(true)) return;
    for (const control of probed) {
      if (!holder.connections.has(control)) continue;
      control.evict(`its client does not answer, and ${contender.description} wants the volume`);
      this.#remove(holder, control);
      this.#options.log.warn('evicted a connection that does not answer', {
        volume: this.#options.volume,
        client: holder.client.description,
        contender: contender.description,
      });
    }
  }

  #probe(control: SessionControl): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#options.clock.after(limits.holderProbeMsMax, () => resolve(false));
      const settle = (alive: boolean): void => {
        timer.cancel();
        resolve(alive);
      };
      control.probe().then(settle, () => settle(false));
    });
  }
}
