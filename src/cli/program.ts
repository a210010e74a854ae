/**
 * The whole command line, as one commander program: help, completion and the man page are all made of it. What needs
 * much code is loaded when it is called, so that `keepgate status` answers at once.
 */
import { Argument, Command } from 'commander';
import { SystemClock } from '../platform/system-clock.js';
import { addKeyCommands, addRemoteCommands, addRestore } from './bucket-command.js';
import { examples } from './example.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { addGatewayCommands } from './gateway-command.js';
import { addLocalCommands, addNbdWatch, addServe } from './machine-command.js';
import { leaves } from './program-leaf.js';
import type { ProgramOptions } from './program-option.js';

export type { ProgramOptions } from './program-option.js';

export function createProgram(options: ProgramOptions): Command {
  const { version } = options;
  const program = new Command('keepgate')
    .description('A block-storage gateway: a disk over NBD and iSCSI, replicated encrypted to any S3 bucket.')
    .version(version)
    .showHelpAfterError('(keepgate help COMMAND says more)')
    .exitOverride();
  addServe(program, options);
  addGatewayCommands(program, options);
  addLocalCommands(program, options);
  addKeyCommands(program, options);
  addRemoteCommands(program, options);
  addRestore(program, options);
  addNbdWatch(program, options);
  addShellCommands(program, options);
  for (const { words, command } of leaves(program)) showExamples(command, words);
  return program;
}

/** What shells and `man` are told of the commands above. */
function addShellCommands(program: Command, { version, terminal, exit }: ProgramOptions): void {
  program
    .command('completion')
    .description('print what makes a shell complete commands, options, files, and names of volumes and snapshots')
    .addArgument(new Argument('<shell>', 'the shell that reads it').choices(['bash', 'zsh', 'fish']))
    .action(async (shell: 'bash' | 'zsh' | 'fish') => {
      const { completionScripts } = await import('./completion-script.js');
      terminal.print(completionScripts[shell]);
      exit(exitCodes.done);
    });
  // Asked by what `completion` prints, at each Tab.
  program
    .command('__complete <shell> [words...]', { hidden: true })
    .helpOption(false)
    .action(async (shell: string, words: readonly string[]) => {
      const { answerShell } = await import('./completion.js');
      for (const line of await answerShell(program, shell, words)) terminal.print(line);
      exit(exitCodes.done);
    });
  program
    .command('man')
    .description('print the manual page, as roff: keepgate man | man -l -')
    .action(async () => {
      const { manPage } = await import('./man-page.js');
      terminal.print(manPage(program, { version, wallMs: new SystemClock().wallMs() }));
      exit(exitCodes.done);
    });
}

function showExamples(command: Command, words: string): void {
  const lines = (examples[words] ?? []).flatMap(({ why, line }) => ['', `  # ${why}`, `  ${line}`]);
  if (lines.length > 0) command.addHelpText('after', ['', 'Examples:', ...lines.slice(1)].join('\n'));
}

/** Commander's own refusals are usage errors; its help and version are none. */
export function exitCodeOfUsage(code: string): ExitCode {
  return code === 'commander.helpDisplayed' || code === 'commander.version' || code === 'commander.help'
    ? exitCodes.done
    : exitCodes.usage;
}
