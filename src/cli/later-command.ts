/** Commands that are documented and not built yet: each exists, and refuses with what to do instead. */
import type { Command } from 'commander';
import { GatewayError } from '../base/errors.js';

const laterCommands: readonly (readonly [string, string, string])[] = [
  ['completion', 'shell completion', 'see `keepgate help`'],
];

export function refuseLater(what: string, instead: string): never {
  throw new GatewayError('not-supported', `${what} is not supported by this version; ${instead}`);
}

export function addLaterCommands(program: Command): void {
  for (const [name, description, instead] of laterCommands) {
    program
      .command(`${name} [arguments...]`)
      .description(`${description} (not supported by this version)`)
      .allowUnknownOption()
      .action(() => refuseLater(`keepgate ${name}`, instead));
  }
}
