/** `keepgate init [DIR]`: a commented configuration and a key, neither of which ever replaces anything. */
import { join, resolve } from 'node:path';
import { generateMasterKeyText } from '../remote/key.js';
import { createTextFile, ensureWritableDirectory, exists } from '../platform/text-file.js';
import { writeSecretFile } from '../platform/secret-file.js';
import type { Random } from '../ports/random.js';
import { GatewayError } from '../base/errors.js';
import { sampleConfiguration } from './sample-configuration.js';
import type { Terminal } from './terminal.js';

export const backUpKey = (path: string): string =>
  `Back ${path} up now, off this machine: without it nobody, you included, can restore the volumes.`;

export async function init(directory: string, random: Random, terminal: Terminal): Promise<void> {
  const configurationPath = join(directory, 'keepgate.yaml');
  const keyPath = join(directory, 'key');
  await ensureWritableDirectory(directory, 'DIR');
  for (const path of [configurationPath, keyPath]) {
    if (await exists(path)) throw new GatewayError('volume-exists', `${path} exists; nothing was overwritten`);
  }
  await writeSecretFile(keyPath, generateMasterKeyText(random));
  await createTextFile(configurationPath, sampleConfiguration(resolve(keyPath)));
  terminal.print(`wrote ${configurationPath} and ${keyPath}`);
  terminal.print(backUpKey(keyPath));
  terminal.print(`Next: edit store and volumes, then keepgate doctor --config ${configurationPath}`);
}

export async function generateKey(path: string, random: Random, terminal: Terminal): Promise<void> {
  await writeSecretFile(path, generateMasterKeyText(random));
  terminal.print(`wrote ${path}`);
  terminal.print(backUpKey(path));
}
