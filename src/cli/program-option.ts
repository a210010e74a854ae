/** What several commands have in common: what they are built with, and options that mean the same everywhere. */
import { InvalidArgumentError, Option } from 'commander';
import type { Command } from 'commander';
import { levelsOf, parseLogLevels } from '../platform/log-levels.js';
import type { LogLevels } from '../platform/log-levels.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

export interface ProgramOptions {
  readonly version: string;
  readonly terminal: Terminal;
  /** Told how the command ended, unless it threw. */
  readonly exit: (code: ExitCode) => void;
}

export const configOption = [
  '--config <file>',
  'the configuration; default: KEEPGATE_CONFIG, else the demonstration',
] as const;

const apiOption = ['--api <url>', 'where the gateway is asked: http://HOST:PORT or unix:/PATH'] as const;

/** Of what asks a running gateway. */
export function addClientOptions(command: Command): Command {
  return command.option(...configOption).option(...apiOption);
}

export function logLevelOption(): Option {
  const parse = (text: string): LogLevels => {
    try {
      return parseLogLevels(text);
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
    }
  };
  return new Option('--log-level <levels>', 'debug, info, warn or error; for one module: info,request=debug')
    .argParser(parse)
    .default(levelsOf('info'), 'info')
    .env('KEEPGATE_LOG_LEVEL');
}

export function addStoreOptions(command: Command): Command {
  return command
    .option(...configOption)
    .option('--key-file <file>', 'the master key; default: keyFile of the configuration')
    .option('--endpoint <url>', 'of a store that is not AWS')
    .option('--region <region>', 'of the bucket')
    .option('--force-path-style', 'http://ENDPOINT/BUCKET instead of http://BUCKET.ENDPOINT');
}
