/** Which configuration a command works with: --config, else KEEPGATE_CONFIG, else none (the demonstration). */
import { dirname, resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { loadConfiguration } from '../config/load-configuration.js';
import type { ConfigurationSources } from '../config/load-configuration.js';
import { readTextFile } from '../platform/text-file.js';

export interface ConfigurationChoice {
  readonly config?: string;
  /** Values given by flags; see ConfigurationSources. */
  readonly flags?: NonNullable<ConfigurationSources['flags']>;
}

/** @throws GatewayError config-invalid and the like, with one line for each problem */
export async function findConfiguration(choice: ConfigurationChoice): Promise<Configuration> {
  const name = choice.config ?? process.env['KEEPGATE_CONFIG'];
  const common = { environment: process.env, workingDirectory: process.cwd(), flags: choice.flags ?? [] };
  if (name === undefined || name === '') return loadConfiguration(common);
  const content = await readTextFile(name);
  if (content === undefined) throw new GatewayError('config-invalid', `${name}: there is no such configuration file`);
  return loadConfiguration({ ...common, file: { name, directory: dirname(resolve(name)), content } });
}
