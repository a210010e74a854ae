/**
 * The restore that runs into this gateway, from the request to the volume that is served.
 *
 * Invariants: one at a time; what it has claimed of the roster's names is free again once its volume has entered, or will
 * not. The restore itself is online-restore.ts, loaded when one is asked for.
 */
import type { RestoreRequest } from '../api/gateway-view.js';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import type { Log } from '../ports/log.js';
import type { SystemPorts } from './system-ports.js';
import { identityAt } from './volume-home.js';
import type { VolumeRoster } from './volume-roster.js';

export interface RestoreTurnOptions {
  readonly configuration: Configuration;
  readonly ports: SystemPorts;
  readonly log: Log;
  /** The gateway stops: what is not served by then leaves nothing. */
  readonly stopping: AbortSignal;
  readonly roster: VolumeRoster;
}

type Progress = (doneBytes: number, totalBytes: number) => void;

export class RestoreTurn {
  readonly #options: RestoreTurnOptions;
  /** Settles with its end. */
  #running: Promise<unknown> | undefined;

  constructor(options: RestoreTurnOptions) {
    this.#options = options;
  }

  /** invalid-request */
  requireFree(): void {
    if (this.#running !== undefined)
      throw new GatewayError('invalid-request', 'another restore runs; begin this one after it');
  }

  /** Resolves once none runs. */
  async idle(): Promise<void> {
    await this.#running?.catch(() => undefined);
  }

  /** While it is free. The volume is served once this resolves, with a line that says what it is. */
  run(request: RestoreRequest, progress: Progress): Promise<string> {
    const running = this.#restore(request, progress).finally(() => (this.#running = undefined));
    this.#running = running;
    return running;
  }

  async #restore(request: RestoreRequest, progress: Progress): Promise<string> {
    const { configuration, ports, log, roster, stopping: signal } = this.#options;
    const claimed: string[] = [];
    const { restoreOnline } = await import('./online-restore.js');
    const restored = await restoreOnline(request, {
      configuration,
      ports,
      log,
      signal,
      volumeOf: (uuid) => this.#volumeOf(uuid),
      has: (name) => roster.find(name) !== undefined,
      claim: (name) => {
        roster.claim(name);
        claimed.push(name);
      },
    })
      .then(async (done) => ({ ...done, volume: await roster.enter(done.volume) }))
      .finally(() => claimed.forEach((name) => roster.unclaim(name)));
    const { volume } = restored;
    await volume.open();
    if (signal.aborted) {
      throw new GatewayError('volume-closed', 'the gateway is stopping; the volume is served after its next start');
    }
    if (request.full === true) await volume.hydrated(progress, signal);
    return restored.summary;
  }

  /** Whether it could be opened or not. */
  async #volumeOf(uuid: string): Promise<string | undefined> {
    const { configuration, ports, roster } = this.#options;
    for (const { name } of roster.volumes) {
      const identity = await identityAt(ports, configuration.dataDir, name);
      if (identity?.uuid === uuid) return name;
    }
    return undefined;
  }
}
