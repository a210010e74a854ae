/**
 * Volumes that were added while the gateway ran, each in a file of its own, DATADIR/volumes.d/NAME.json, which says what an
 * entry of `volumes` in the configuration would (JSON is YAML). The configuration comes first: it may take one over.
 */
import { parseSource } from './source-text.js';

export const ADDED_DIRECTORY = 'volumes.d';

export interface AddedVolume {
  /** As it is named in messages. */
  readonly name: string;
  readonly content: string;
}

export interface AddedEntries {
  readonly values: readonly Readonly<Record<string, unknown>>[];
  /** Where a key of an entry stands: "volumes[3].size" with `first` 3 is the first entry's size. */
  where(path: string): string | undefined;
}

/** Those that the configuration does not name itself; `first`: how many it has. @throws GatewayError config-invalid */
export function readAdded(added: readonly AddedVolume[], named: ReadonlySet<unknown>, first: number): AddedEntries {
  const sources = added
    .map(({ name, content }) => parseSource(name, content))
    .filter(({ value }) => !named.has(value['name']));
  return {
    values: sources.map(({ value }) => value),
    where: (path) => {
      const match = /^volumes\[(\d+)\]\.?(.*)$/.exec(path);
      return sources[Number(match?.[1]) - first]?.where(match?.[2] ?? '');
    },
  };
}
