/** Names for completion, from the running gateway, else from the configuration; where neither answers there are none. */
import type { Configuration } from '../config/configuration.js';
import { ApiClient } from './api-client.js';
import { findConfiguration } from './find-configuration.js';

/** A person waits for it at the keyboard. */
const timeoutMs = 1000;

/** What the command line says of the gateway. */
export interface Asked {
  readonly config?: string;
  readonly api?: string;
  readonly dataDir?: string;
}

export async function volumeNames(asked: Asked): Promise<readonly string[]> {
  const configuration = await configurationOf(asked);
  const live = await namesAt('/v1/volumes', configuration, asked);
  return live ?? configuration?.volumes.map(({ name }) => name) ?? [];
}

export async function snapshotNames(asked: Asked, volume: string): Promise<readonly string[]> {
  const path = `/v1/volumes/${encodeURIComponent(volume)}/snapshots`;
  return (await namesAt(path, await configurationOf(asked), asked)) ?? [];
}

async function configurationOf({ config, dataDir }: Asked): Promise<Configuration | undefined> {
  const flags = dataDir === undefined ? [] : [{ key: 'dataDir', flag: '--data-dir', value: dataDir }];
  return findConfiguration({ ...(config === undefined ? {} : { config }), flags }).catch(() => undefined);
}

/** The names in a list of the API; undefined: nobody answered. */
async function namesAt(
  path: string,
  configuration: Configuration | undefined,
  { api }: Asked,
): Promise<readonly string[] | undefined> {
  if (configuration === undefined) return undefined;
  try {
    const client = await ApiClient.open(configuration, api);
    return ((await client.get(path, { timeoutMs })) as { readonly name: string }[]).map(({ name }) => name);
  } catch {
    return undefined;
  }
}
