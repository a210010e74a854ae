/**
 * The keys of a gateway: its own, read once, and those that may open a bucket that one of its volumes was restored from.
 * They stay in this process; what of them a replicator needs it is handed.
 */
import type { Configuration } from '../config/configuration.js';
import type { Random } from '../ports/random.js';
import type { MasterKey } from '../remote/key.js';
import { loadMasterKey } from './identity.js';

export class KeyRing {
  readonly #configuration: Pick<Configuration, 'keyFile' | 'demonstration'>;
  readonly #random: Random;
  #master: Promise<MasterKey> | undefined;

  constructor(configuration: Pick<Configuration, 'keyFile' | 'demonstration'>, random: Random) {
    this.#configuration = configuration;
    this.#random = random;
  }

  /** Read once; where that fails, again at the next call. Only the demonstration makes one by itself. */
  master(): Promise<MasterKey> {
    const { keyFile, demonstration } = this.#configuration;
    this.#master ??= loadMasterKey(keyFile, demonstration, this.#random).catch((error: unknown) => {
      this.#master = undefined;
      throw error;
    });
    return this.#master;
  }

  /** Those that may open the bucket that a volume was restored from: the one of the restore, and this gateway's own. */
  async openers(location: Readonly<Record<string, string>>): Promise<MasterKey[]> {
    const { keyFile } = this.#configuration;
    const paths = new Set([location['keyFile'] ?? keyFile, keyFile]);
    const found = await Promise.allSettled([...paths].map((path) => loadMasterKey(path, false, this.#random)));
    const keys = found.filter((outcome) => outcome.status === 'fulfilled').map(({ value }) => value);
    if (keys.length === 0 && found[0]?.status === 'rejected') throw found[0].reason;
    return keys;
  }
}
