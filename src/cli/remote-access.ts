/** The store and the key that a command on a bucket works with: from its flags, else from the configuration. */
import { resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { openStore } from '../gateway/open-store.js';
import { readSecretFile } from '../platform/secret-file.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { parseMasterKey } from '../remote/key.js';
import type { MasterKey } from '../remote/key.js';
import { RetryingStore } from '../remote/store-retry.js';

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
}

export async function openRemote(options: {
  readonly url: string;
  readonly flags: StoreFlags;
  readonly configuration: Configuration;
  readonly random: Random;
  readonly clock: Clock;
  /** true: for work that takes long. */
  readonly patient?: boolean;
}): Promise<RemoteAccess> {
  const { url, flags, configuration, random, clock } = options;
  if (!/^s3:\/\/[^/]+|^file:\/\/\//.test(url)) {
    throw new GatewayError('config-invalid', `"${url}" is not a store; write s3://BUCKET/PREFIX or file:///DIRECTORY`);
  }
  const keyFile = flags.keyFile === undefined ? configuration.keyFile : resolve(flags.keyFile);
  const master = parseMasterKey(await readSecretFile(keyFile, 'key'), keyFile);
  const inner = openStore({
    store: {
      // How the store is reached; whose bucket it is and how objects are stored hold for the configured one alone.
      ...(configuration.store?.url === url
        ? configuration.store
        : { caFile: configuration.store?.caFile, proxy: configuration.store?.proxy }),
      url,
      endpoint: flags.endpoint ?? configuration.store?.endpoint,
      region: flags.region ?? configuration.store?.region ?? 'us-east-1',
      forcePathStyle: flags.forcePathStyle ?? configuration.store?.forcePathStyle ?? false,
    },
    create: false,
    random,
  });
  const attemptsMax = options.patient === true ? attemptsMaxPatient : attemptsMaxQuick;
  return { store: new RetryingStore(inner, { clock, random, attemptsMax }), master };
}
