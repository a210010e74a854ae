/** Which configuration a command works with: --config, else KEEPGATE_CONFIG, else none (the demonstration). */
import { dirname, join, resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { ADDED_DIRECTORY } from '../config/added-volume.js';
import type { AddedVolume } from '../config/added-volume.js';
import type { Configuration } from '../config/configuration.js';
import { loadConfiguration } from '../config/load-configuration.js';
import type { ConfigurationSources } from '../config/load-configuration.js';
import { listDirectory, readTextFile } from '../platform/text-file.js';

export interface ConfigurationChoice {
  readonly config?: string;
  /** Values given by flags; see ConfigurationSources. */
  readonly flags?: NonNullable<ConfigurationSources['flags']>;
}

/** @throws GatewayError config-invalid and the like, with one line for each problem */
export async function findConfiguration(choice: ConfigurationChoice): Promise<Configuration> {
  const name = choice.config ?? process.env['KEEPGATE_CONFIG'];
  const common = { environment: process.env, workingDirectory: process.cwd(), flags: choice.flags ?? [] };
  if (name === undefined || name === '') return withAdded(common);
  const content = await readTextFile(name);
  if (content === undefined) throw new GatewayError('config-invalid', `${name}: there is no such configuration file`);
  return withAdded({ ...common, file: { name, directory: dirname(resolve(name)), content } });
}

/** With the volumes of the data directory that it names. */
async function withAdded(sources: ConfigurationSources): Promise<Configuration> {
  const configuration = loadConfiguration(sources);
  const directory = join(configuration.dataDir, ADDED_DIRECTORY);
  const added: AddedVolume[] = [];
  for (const file of [...(await listDirectory(directory))].sort()) {
    if (!file.endsWith('.json')) continue;
    const path = join(directory, file);
    added.push({ name: path, content: (await readTextFile(path)) ?? '' });
  }
  return added.length === 0 ? configuration : loadConfiguration({ ...sources, added });
}
