#!/usr/bin/env node
/** The command: parses, runs, and turns whatever was thrown into lines on stderr and an exit code. No stack traces. */
import { CommanderError } from 'commander';
import { errorLines, exitCodeOf, exitCodes } from './exit-code.js';
import { createProgram, exitCodeOfUsage } from './program.js';
import { processTerminal } from './terminal.js';
import { version } from './version.js';

async function main(): Promise<void> {
  const program = createProgram({
    version,
    terminal: processTerminal,
    exit: (code) => {
      process.exitCode = code;
    },
  });
  try {
    if (process.argv.length <= 2) {
      program.outputHelp();
      process.exitCode = exitCodes.usage;
      return;
    }
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = exitCodeOfUsage(error.code);
      return;
    }
    process.stderr.write(`${errorLines(error)}\n`);
    // Threads and sockets of a start that failed must not keep the process.
    process.exit(exitCodeOf(error));
  }
}

// A reader that closes early (head, less) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(exitCodes.done);
  throw error;
});

await main();
