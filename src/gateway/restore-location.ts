/**
 * How the bucket that a volume was restored from is opened again after a restart: the part of the store's settings that its
 * restore record keeps (ports/hydration.ts, RestoreSource.store), and the file of the key. No secret is among them.
 */
import { GatewayError } from '../base/errors.js';
import type { StoreConfiguration } from '../config/configuration.js';

/** Settings of a store, as far as they are given. */
export type StoreSettings = Pick<StoreConfiguration, 'url'> & Partial<StoreConfiguration>;

/** What a request says of a bucket besides its address. */
export interface StoreFlags {
  readonly endpoint?: string;
  readonly region?: string;
  readonly forcePathStyle?: boolean;
}

/** How the store at `url` is reached. @throws GatewayError config-invalid */
export function settingsFor(url: string, flags: StoreFlags, configured: StoreConfiguration | undefined): StoreSettings {
  if (!/^s3:\/\/[^/]+|^file:\/\/\//.test(url)) {
    throw new GatewayError('config-invalid', `"${url}" is not a store; write s3://BUCKET/PREFIX or file:///DIRECTORY`);
  }
  return {
    // How the store is reached; whose bucket it is and how objects are stored hold for the configured one alone.
    ...(configured?.url === url ? configured : { caFile: configured?.caFile, proxy: configured?.proxy }),
    url,
    endpoint: flags.endpoint ?? configured?.endpoint,
    region: flags.region ?? configured?.region ?? 'us-east-1',
    forcePathStyle: flags.forcePathStyle ?? configured?.forcePathStyle ?? false,
  };
}

const texts = ['endpoint', 'region', 'caFile', 'proxy', 'expectedBucketOwner'] as const;

export function locationOf(store: StoreSettings, keyFile: string): Record<string, string> {
  const location: Record<string, string> = { url: store.url, keyFile };
  for (const key of texts) {
    const value = store[key];
    if (value !== undefined) location[key] = value;
  }
  if (store.forcePathStyle === true) location['forcePathStyle'] = 'true';
  if (store.requestPayer !== undefined) location['requestPayer'] = store.requestPayer;
  return location;
}

/** What the configuration says of that store now comes first. */
export function storeAt(
  location: Readonly<Record<string, string>>,
  configured: StoreConfiguration | undefined,
): StoreSettings {
  const url = location['url'] ?? '';
  if (configured?.url === url) return configured;
  const store: Record<string, unknown> = { url, forcePathStyle: location['forcePathStyle'] === 'true' };
  for (const key of texts) if (location[key] !== undefined) store[key] = location[key];
  if (location['requestPayer'] === 'requester') store['requestPayer'] = 'requester';
  return store as unknown as StoreSettings;
}
