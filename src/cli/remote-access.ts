/** The store and the key that a command on a bucket works with: from its flags, else from the configuration. */
import { resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { openStore } from '../gateway/open-store.js';
import { settingsFor } from '../gateway/restore-location.js';
import type { StoreSettings } from '../gateway/restore-location.js';
import { readSecretFile } from '../platform/secret-file.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { parseMasterKey } from '../remote/key.js';
import type { MasterKey } from '../remote/key.js';
import { RetryingStore } from '../remote/store-retry.js';
import type { CommandBudget } from './command-budget.js';

/** How often a request is tried: a person who waits for a list gives up after some seconds of silence. */
const attemptsMaxQuick = 6;
/** What reads a whole volume sits out a few minutes without the store, rather than begin again. */
const attemptsMaxPatient = 14;

export interface StoreFlags {
  readonly config?: string;
  readonly keyFile?: string;
  readonly endpoint?: string;
  readonly region?: string;
  readonly forcePathStyle?: boolean;
}

export interface RemoteAccess {
  readonly store: ObjectStore;
  readonly master: MasterKey;
  /** From where the key was read. */
  readonly keyFile: string;
  readonly settings: StoreSettings;
}

/** What lies in the bucket can be opened with nothing else. */
async function volumesKey(path: string): Promise<MasterKey> {
  try {
    return parseMasterKey(await readSecretFile(path, 'key'), path);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'key-missing') throw error;
    const wanted = 'a copy of the key that the volume was made with, and --key-file FILE that says where it is';
    throw new GatewayError(error.code, `${error.message}; what is needed is ${wanted}`, { cause: error });
  }
}

export async function openRemote(options: {
  readonly url: string;
  readonly flags: StoreFlags;
  readonly configuration: Configuration;
  readonly random: Random;
  readonly clock: Clock;
  /** true: for work that takes long. */
  readonly patient?: boolean;
  /** What is fetched and sent is taken from it. */
  readonly budget?: CommandBudget;
}): Promise<RemoteAccess> {
  const { url, flags, configuration, random, clock, budget } = options;
  const settings = settingsFor(url, flags, configuration.store);
  const keyFile = flags.keyFile === undefined ? configuration.keyFile : resolve(flags.keyFile);
  const master = await volumesKey(keyFile);
  const paces = budget === undefined ? {} : { paces: budget.paces };
  const inner = openStore({ store: settings, create: false, random, ...paces });
  const attemptsMax = options.patient === true ? attemptsMaxPatient : attemptsMaxQuick;
  const counted = budget?.limited(inner) ?? inner;
  return { store: new RetryingStore(counted, { clock, random, attemptsMax }), master, keyFile, settings };
}
