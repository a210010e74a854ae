/**
 * The volumes of a running gateway, and how they become more and fewer while it runs: by the API, by a restore, and by a
 * configuration that is read again.
 *
 * One change at a time. Invariants, whenever the process ends:
 *   - an added volume is one as long as its entry is there (added-entry.ts). It is written before the volume's directory is
 *     made, and nobody has the volume before both are; it is removed, durably, before the directory is touched: an entry
 *     without a directory would become an empty volume of that name at the next start (P9)
 *   - a directory that was there before is never taken for a new volume, nor removed with one that failed
 *   - what is removed was closed first, here and in the replication thread, while nobody had it and nobody could get it
 *   - a configuration that is read again removes no directory: what it no longer names is not served, and lies as it is
 */
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { ByteLength } from '../base/units.js';
import type { Configuration, VolumeConfiguration } from '../config/configuration.js';
import { volumeConfiguration } from '../config/load-configuration.js';
import { formatBytes } from '../config/quantity.js';
import { exists, listDirectory, moveDirectory, removeTree } from '../platform/text-file.js';
import type { Log } from '../ports/log.js';
import { hasEntry, removeEntry, writeEntry } from './added-entry.js';
import type { GatewayVolume } from './gateway-volume.js';
import type { SystemPorts } from './system-ports.js';

/** DATADIR/volumes/.removed-UUID: on its way out. No volume has such a name. */
const REMOVED_PREFIX = '.removed-';

/** What a removal that was killed has left. Under the data directory's lock. */
export async function clearRemoved(dataDir: string): Promise<void> {
  const volumes = join(dataDir, 'volumes');
  for (const name of await listDirectory(volumes)) {
    if (name.startsWith(REMOVED_PREFIX)) await removeTree(join(volumes, name));
  }
}

export interface VolumeRosterOptions {
  readonly configuration: Configuration;
  readonly ports: SystemPorts;
  readonly log: Log;
  /** The gateway stops: no change begins any more. */
  readonly stopping: AbortSignal;
  /** Makes a volume's object and an empty directory where there is none; opens nothing yet. */
  readonly create: (volume: VolumeConfiguration) => Promise<GatewayVolume>;
  /** Resolves once no other thread does anything with a closed volume. */
  readonly release: (name: string) => Promise<void>;
  /** The kind of an operation that runs on a volume. */
  readonly operationOn: (name: string) => string | undefined;
}

export interface Removal {
  /** The name again, typed by whoever wants it. */
  readonly confirm: string | undefined;
  /** What the bucket lacks may be lost. */
  readonly acceptLoss: boolean;
}

export class VolumeRoster {
  readonly volumes: GatewayVolume[] = [];
  readonly #options: VolumeRosterOptions;
  /** As each of them is served. */
  readonly #settings = new Map<string, VolumeConfiguration>();
  /** Names that are promised to volumes which are still being made. */
  readonly #claims = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(options: VolumeRosterOptions) {
    this.#options = options;
  }

  find(name: string): GatewayVolume | undefined {
    return this.volumes.find((volume) => volume.name === name);
  }

  /** How the volumes are configured, in their order. */
  settings(): readonly VolumeConfiguration[] {
    return this.volumes.map(({ name }) => this.#settings.get(name)).filter((found) => found !== undefined);
  }

  /** Resolves once no change is under way. */
  async idle(): Promise<void> {
    await this.#turn;
  }

  /** A volume of this gateway from now on, whether it opens or not; it is not open yet. */
  async enter(volume: VolumeConfiguration): Promise<GatewayVolume> {
    const made = await this.#options.create(volume);
    this.volumes.push(made);
    this.#settings.set(volume.name, volume);
    return made;
  }

  /** Keeps a name for a volume that is being made, until `unclaim`. volume-exists */
  claim(name: string): void {
    if (this.#claims.has(name)) throw new GatewayError('volume-exists', `a volume ${name} is just being made`);
    this.#claims.add(name);
  }

  unclaim(name: string): void {
    this.#claims.delete(name);
  }

  /** Adds what an entry of `volumes` says; it is served once it resolves, or as soon as its store answers. */
  add(written: Readonly<Record<string, unknown>>): Promise<string> {
    return this.#inTurn(async () => {
      const { configuration, ports, log } = this.#options;
      const { dataDir } = configuration;
      const volume = volumeConfiguration(written, configuration);
      const { name } = volume;
      if (this.find(name) !== undefined) throw new GatewayError('volume-exists', `there is a volume ${name} already`);
      this.claim(name);
      try {
        const directory = join(dataDir, 'volumes', name);
        if (await exists(directory)) {
          throw new GatewayError(
            'volume-exists',
            `${directory} exists; nothing was overwritten. To serve what it holds write it into the configuration's volumes and send SIGHUP, else move it away`,
          );
        }
        await writeEntry(ports, dataDir, name, written);
        try {
          await (await this.enter(volume)).open();
        } catch (error) {
          await this.#takeBack(name);
          throw error;
        }
        log.info('volume added', { volume: name });
        return name;
      } finally {
        this.unclaim(name);
      }
    });
  }

  /** Nobody was served, and nothing was there before. */
  async #takeBack(name: string): Promise<void> {
    const { configuration, ports, release } = this.#options;
    await this.find(name)
      ?.close()
      .catch(() => undefined);
    await release(name);
    this.#drop(name);
    await removeEntry(ports, configuration.dataDir, name);
    await removeTree(join(configuration.dataDir, 'volumes', name));
  }

  /** Removes an added volume with its directory; its bucket stays as it is. */
  remove(name: string, { confirm, acceptLoss }: Removal): Promise<void> {
    return this.#inTurn(async () => {
      const { configuration, ports, log } = this.#options;
      const { dataDir } = configuration;
      const volume = this.find(name);
      if (volume === undefined) throw new GatewayError('not-found', `there is no volume "${name}"`);
      if (confirm !== name) {
        throw new GatewayError('invalid-request', `confirm: write the name of the volume again, ${name}`);
      }
      if (this.#settings.get(name)?.added !== true) {
        throw new GatewayError(
          'invalid-request',
          `volume ${name} stands in the configuration: take it out there and send SIGHUP, then delete ${join(dataDir, 'volumes', name)}`,
        );
      }
      if (this.volumes.length === 1) {
        throw new GatewayError('invalid-request', `volume ${name} is the only one, and a gateway serves at least one`);
      }
      await this.#retire(volume, acceptLoss);
      await removeEntry(ports, dataDir, name);
      log.info('volume removed', { volume: name });
      const directory = join(dataDir, 'volumes', name);
      // One that never heard of its bucket went when it was closed.
      if (!(await exists(directory))) return;
      const removed = join(dataDir, 'volumes', `${REMOVED_PREFIX}${ports.random.uuid()}`);
      await moveDirectory(directory, removed);
      // A large image takes its time; what is left of it at the end of the process goes with the next start.
      removeTree(removed).catch((error: unknown) => {
        log.warn(`${removed} could not be removed: ${error instanceof Error ? error.message : String(error)}`);
      });
    });
  }

  /**
   * Serves what the configuration names now and did not before, and no longer what it does not name any more; grows what
   * it says is larger. Says of each what it did, and why not.
   */
  reload(fresh: Configuration): Promise<void> {
    return this.#inTurn(async () => {
      const named = new Map(fresh.volumes.map((volume) => [volume.name, volume]));
      for (const volume of [...this.volumes]) if (!named.has(volume.name)) await this.#leave(volume);
      for (const volume of fresh.volumes) {
        const served = this.find(volume.name);
        if (served === undefined) await this.#join(volume);
        else await this.#grow(served, volume.sizeBytes);
      }
    });
  }

  /** To the least size that the configuration says now. A larger one stands, which is worth a line when it was just written. */
  async #grow(volume: GatewayVolume, sizeBytes: ByteLength): Promise<void> {
    const { log } = this.#options;
    const { name } = volume;
    const settings = this.#settings.get(name);
    const recordedBytes = volume.status().sizeBytes;
    try {
      if (sizeBytes > recordedBytes) await volume.resize(sizeBytes);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`volume ${name} does not grow to ${formatBytes(sizeBytes)}: ${error.message}`, { code: error.code });
      return;
    }
    if (settings === undefined || settings.sizeBytes === sizeBytes) return;
    this.#settings.set(name, { ...settings, sizeBytes });
    if (sizeBytes < recordedBytes) {
      const [size, recorded] = [formatBytes(sizeBytes), formatBytes(recordedBytes)];
      log.warn(
        `volume ${name} has ${recorded} and keeps them: a volume never shrinks, and size: ${size} is the least it has`,
      );
    }
  }

  async #leave(volume: GatewayVolume): Promise<void> {
    const { configuration, log } = this.#options;
    const { name } = volume;
    // What was added since the configuration was read.
    if (this.#settings.get(name)?.added === true && (await hasEntry(configuration.dataDir, name))) return;
    try {
      await this.#retire(volume, true);
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.warn(`volume ${name} is not in the configuration any more, and is served on: ${error.message}`);
      return;
    }
    const directory = join(configuration.dataDir, 'volumes', name);
    log.info(`volume ${name} is not served any more; ${directory} stays as it is`, { volume: name });
  }

  async #join(volume: VolumeConfiguration): Promise<void> {
    const { configuration, log } = this.#options;
    const { name } = volume;
    // What is being made, or was removed since the configuration was read.
    if (this.#claims.has(name)) return;
    if (volume.added === true && !(await hasEntry(configuration.dataDir, name))) return;
    try {
      await (await this.enter(volume)).open();
      log.info('volume added', { volume: name });
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error;
      log.error(error.message, { volume: name, code: error.code });
    }
  }

  /** Whether it could be closed or not, it is none of the gateway's any more from then on. */
  async #retire(volume: GatewayVolume, acceptLoss: boolean): Promise<void> {
    const { name } = volume;
    const { release, operationOn, stopping } = this.#options;
    const operation = operationOn(name);
    if (operation !== undefined) {
      throw new GatewayError('invalid-request', `a ${operation} of volume ${name} is under way; wait for its end`);
    }
    await volume.retire(acceptLoss);
    try {
      await volume.close();
      // A store that hangs must not keep the gateway from stopping.
      const stopped = new Promise<void>((resolve) =>
        stopping.addEventListener('abort', () => resolve(), { once: true }),
      );
      await Promise.race([release(name), stopped]);
      if (stopping.aborted) throw closing();
    } finally {
      this.#drop(name);
    }
  }

  #drop(name: string): void {
    const at = this.volumes.findIndex((volume) => volume.name === name);
    if (at >= 0) this.volumes.splice(at, 1);
    this.#settings.delete(name);
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (this.#options.stopping.aborted) throw closing();
      return change();
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }
}

function closing(): GatewayError {
  return new GatewayError('volume-closed', 'the gateway is stopping');
}
