/** The command line as one object, for what is made of it; nothing is run. */
import type { Command } from 'commander';
import { RecordedTerminal } from './recorded-terminal.js';
import { createProgram } from '../../../src/cli/program.js';

export function quietProgram(): Command {
  return createProgram({
    version: '1.2.3',
    terminal: new RecordedTerminal(),
    exit: () => undefined,
  });
}
