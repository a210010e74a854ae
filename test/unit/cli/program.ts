/** The command line as one object, for what is made of it; nothing is run. */
import type { Command } from 'commander';
import { createProgram } from '../../../src/cli/program.js';

export function quietProgram(): Command {
  return createProgram({
    version: '1.2.3',
    terminal: { print: () => undefined, note: () => undefined, interactive: false },
    exit: () => undefined,
  });
}
