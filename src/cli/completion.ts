/**
 * What can come next on a command line. The scripts of completion-script.ts ask at each Tab, by `keepgate __complete`, and
 * get lines: what kind of answer it is, the word as it was typed so far, then each candidate with a tab and what it is.
 *
 * Commands, options and choices are the commander program's own. What stands for a value is told by its name in the
 * usage: <file>, <dir>, <volume>, <snapshot>.
 */
import type { Command, Option } from 'commander';
import { volumeNames, snapshotNames } from './live-name.js';
import type { Asked } from './live-name.js';
import { shellWords } from './shell-word.js';

interface Candidate {
  readonly word: string;
  readonly what: string;
}

export interface Answer {
  /** Files and directories are the shell's to find. */
  readonly kind: 'words' | 'files' | 'directories';
  readonly candidates: readonly Candidate[];
}

/** Names that are asked for where they are needed; never fails. */
export interface Names {
  volumes(asked: Asked): Promise<readonly string[]>;
  snapshots(asked: Asked, volume: string): Promise<readonly string[]>;
}

/** What was typed before the word that is completed. */
interface Typed {
  readonly command: Command;
  readonly positionals: readonly string[];
  readonly values: Readonly<Record<string, string>>;
  readonly used: ReadonlySet<Option>;
  /** The option whose value comes next. */
  readonly open: Option | undefined;
  /** After `--` there are no options. */
  readonly ended: boolean;
}

const nothing: Answer = { kind: 'words', candidates: [] };
const levels = ['debug', 'info', 'warn', 'error'];

/** `words`: of bash the line up to the cursor; of the others what stands before the cursor, without the program. */
export async function answerShell(program: Command, shell: string, words: readonly string[]): Promise<string[]> {
  const typed = shell === 'bash' ? shellWords(words[0] ?? '').slice(1) : words;
  const { kind, candidates } = await complete(program, typed, { volumes: volumeNames, snapshots: snapshotNames });
  return [kind, typed.at(-1) ?? '', ...candidates.map(({ word, what }) => `${word}\t${what}`)];
}

/** `words`: without the program; the last one is what is being typed, perhaps nothing yet. */
export async function complete(program: Command, words: readonly string[], names: Names): Promise<Answer> {
  const current = words.at(-1) ?? '';
  const typed = read(program, words.slice(0, -1));
  if (typed === undefined) return nothing;
  const { command, open, positionals, ended } = typed;
  if (open !== undefined) return beginning(current, await valuesOf(open, typed, names));
  const [long = '', value] = split(current);
  if (!ended && value !== undefined) {
    const option = optionOf(command, long);
    if (option === undefined) return nothing;
    const { kind, candidates } = beginning(value, await valuesOf(option, typed, names));
    return { kind, candidates: candidates.map(({ word, what }) => ({ word: `${long}=${word}`, what })) };
  }
  if (!ended && current.startsWith('-')) return beginning(current, { kind: 'words', candidates: optionsOf(typed) });
  const children = childrenOf(command);
  if (children.length > 0) return beginning(current, { kind: 'words', candidates: children });
  const at = Math.min(positionals.length, command.registeredArguments.length - 1);
  const argument = command.registeredArguments[at];
  if (argument === undefined || (positionals.length > at && !argument.variadic)) return nothing;
  const { argChoices } = argument;
  const found = argChoices === undefined ? await named(argument.name(), typed, names) : plainly(argChoices);
  return beginning(current, found);
}

/** undefined: a word before is no command. */
function read(program: Command, words: readonly string[]): Typed | undefined {
  let command = program;
  let ended = false;
  let open: Option | undefined;
  const positionals: string[] = [];
  const values: Record<string, string> = {};
  const used = new Set<Option>();
  for (const word of words) {
    if (open !== undefined) {
      values[open.attributeName()] = word;
      open = undefined;
    } else if (!ended && word === '--') {
      ended = true;
    } else if (!ended && word.startsWith('-')) {
      const [long = '', value] = split(word);
      const option = optionOf(command, long);
      if (option === undefined) continue;
      used.add(option);
      if (value !== undefined) values[option.attributeName()] = value;
      else if (option.required) open = option;
    } else if (command.commands.length > 0) {
      const child = command.commands.find((candidate) => candidate.name() === word);
      // `help` names commands in turn, as the command line itself does.
      if (child === undefined && !(command === program && word === 'help')) return undefined;
      command = child ?? command;
    } else {
      positionals.push(word);
    }
  }
  return { command, positionals, values, used, open, ended };
}

/** "--rate=20MB/s" is the option and its value; anything else is one thing. */
function split(word: string): readonly string[] {
  const at = word.startsWith('--') ? word.indexOf('=') : -1;
  return at < 0 ? [word] : [word.slice(0, at), word.slice(at + 1)];
}

function visibleOptions(command: Command): readonly Option[] {
  return command.createHelp().visibleOptions(command);
}

function optionOf(command: Command, name: string): Option | undefined {
  return visibleOptions(command).find(({ long, short }) => long === name || short === name);
}

function optionsOf({ command, used }: Typed): Candidate[] {
  return visibleOptions(command)
    .filter((option) => !used.has(option))
    .map(({ long, short, description }) => ({ word: long ?? short ?? '', what: description }));
}

function childrenOf(command: Command): Candidate[] {
  return command
    .createHelp()
    .visibleCommands(command)
    .map((child) => ({ word: child.name(), what: child.description() }));
}

async function valuesOf(option: Option, typed: Typed, names: Names): Promise<Answer> {
  if (option.argChoices !== undefined) return plainly(option.argChoices);
  return named(/<([\w-]+)>/.exec(option.flags)?.[1] ?? '', typed, names);
}

/** What a name in the usage stands for. */
async function named(name: string, typed: Typed, names: Names): Promise<Answer> {
  const { values, positionals } = typed;
  switch (name) {
    case 'file':
    case 'device':
      return { kind: 'files', candidates: [] };
    case 'dir':
      return { kind: 'directories', candidates: [] };
    case 'levels':
      return plainly(levels);
    case 'volume':
    case 'volumes':
      return plainly((await names.volumes(values)).filter((volume) => !positionals.includes(volume)));
    case 'snapshot':
      return plainly(positionals[0] === undefined ? [] : await names.snapshots(values, positionals[0]));
    default:
      return nothing;
  }
}

function plainly(words: readonly string[]): Answer {
  return { kind: 'words', candidates: words.map((word) => ({ word, what: '' })) };
}

function beginning(current: string, { kind, candidates }: Answer): Answer {
  return { kind, candidates: candidates.filter(({ word }) => word.startsWith(current)) };
}
