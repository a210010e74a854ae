/**
 * keepgate(1), made of the commander program, its examples, and the keys of the configuration: roff with the man(7)
 * macros alone, for man-db and mandoc.
 */
import type { Command, Option } from 'commander';
import { gatewaySettings, volumeSettings } from '../config/schema.js';
import { isSetting } from '../config/setting.js';
import type { Setting, SettingGroup } from '../config/setting.js';
import { examples } from './example.js';
import type { Example } from './example.js';
import { leaves } from './program-leaf.js';
import type { Leaf } from './program-leaf.js';

/** Options that so many commands have are explained once. */
const commonMin = 4;

const states = `
0|done
1|something was found or is wrong, or the command failed
2|the command line, the configuration, a key or a directory has to be mended first
3|no gateway answers`;

const files = `
/etc/keepgate/keepgate.yaml|where the packaged unit looks for the configuration; everywhere else it is named by --config
/etc/keepgate/key|the master key, as keepgate init writes it: 32 bytes in base64, mode 0600
DATADIR/volumes/|the volumes: image, log and state
DATADIR/volumes.d/|entries of volumes that the API or keepgate volume add added
DATADIR/run.json|where the running gateway listens
DATADIR/api-token|what changes over the API need, mode 0600
/etc/keepgate/nbd/nbdN|the client's side: URI and options of keepgate-nbd@nbdN.service`;

const environment = `
KEEPGATE_CONFIG|the configuration, where --config is not given
KEEPGATE_LOG_LEVEL|as --log-level
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, …|credentials of the store, as the AWS SDK finds them
NO_COLOR|no colours
FORCE_COLOR|colours also where the output is no terminal; 0: none`;

export interface ManPageOptions {
  readonly version: string;
  /** When it was made. */
  readonly wallMs: number;
}

export function manPage(program: Command, { version, wallMs }: ManPageOptions): string {
  const commands = leaves(program);
  const common = commonOptions(commands);
  const date = new Date(wallMs).toISOString().slice(0, 10);
  return [
    `.TH KEEPGATE 1 ${date} "keepgate ${version}" "User Commands"`,
    '.SH NAME',
    `keepgate \\- ${text('a block-storage gateway: NBD and iSCSI disks, replicated encrypted to S3')}`,
    '.SH SYNOPSIS',
    '.B keepgate',
    '.I command',
    '.RI [ arguments ]',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    text(program.description()),
    'Each disk has a full copy in the data directory of the gateway and is replicated to the bucket in the background.',
    '.PP',
    text(
      '`keepgate serve` is the gateway; the other commands ask a running one, work on a bucket, or print what to do.',
    ),
    text('Long work shows a bar on a terminal and a line now and then elsewhere.'),
    '.SH COMMANDS',
    ...commands.flatMap((leaf) => commandLines(leaf, common)),
    '.SH COMMON OPTIONS',
    ...common.flatMap((option) => optionLines(option)),
    '.SH CONFIGURATION',
    text('YAML 1.2; unknown keys are refused. `keepgate init` writes a file that explains each key.'),
    text('Each key is also an environment variable, lists with commas; volumes as JSON in KEEPGATE_VOLUMES.'),
    ...keyLines(gatewaySettings),
    '.PP',
    'An entry of volumes has a name, a size, and these:',
    ...keyLines(volumeSettings),
    '.SH ENVIRONMENT',
    ...pairLines(environment),
    '.SH FILES',
    ...pairLines(files),
    '.SH EXIT STATUS',
    ...pairLines(states),
    '.SH EXAMPLES',
    text('From nothing to a disk, and back from its bucket; COMMANDS has more.'),
    ...exampleLines(
      ['serve', 'attach', 'status', 'drain', 'init', 'doctor', 'remote ls', 'restore'].flatMap(
        (words) => examples[words]?.slice(0, 1) ?? [],
      ),
    ),
    '.SH SEE ALSO',
    '.BR nbd\\-client (8),',
    '.BR iscsiadm (8),',
    '.BR cryptsetup (8)',
    '.PP',
    'The pages in the folder docs of the project: operations, errors, durability, threat model.',
  ].join('\n');
}

function commonOptions(commands: readonly Leaf[]): Option[] {
  const seen = new Map<string, Option[]>();
  for (const { command } of commands) {
    for (const option of command.options) {
      const name = `${option.flags} ${option.description}`;
      seen.set(name, [...(seen.get(name) ?? []), option]);
    }
  }
  return [...seen.values()].flatMap((same) => (same.length < commonMin ? [] : same.slice(0, 1)));
}

function commandLines({ words, command }: Leaf, common: readonly Option[]): string[] {
  const isCommon = (option: Option): boolean =>
    common.some(({ flags, description }) => flags === option.flags && description === option.description);
  const also = command.options.filter(isCommon).map(({ long }) => `\`${long ?? ''}\``);
  return [
    `.SS "${text(words)}"`,
    `.B ${text(`keepgate ${words}`)}`,
    ...command.registeredArguments.map((argument) => {
      const name = `${text(argument.name())}${argument.variadic ? ' ...' : ''}`;
      return argument.required ? `.I ${name}` : `.RI [ "${name}" ]`;
    }),
    ...command.options.filter(({ mandatory }) => mandatory).map((option) => termOf(option)),
    `.RI [ options ]`,
    '.PP',
    sentence(command.description()),
    ...command.options.filter((option) => !isCommon(option)).flatMap((option) => optionLines(option)),
    ...(also.length === 0 ? [] : ['.PP', text(`Further options: ${also.join(', ')}.`)]),
    ...exampleLines(examples[words] ?? []),
  ];
}

function exampleLines(shown: readonly Example[]): string[] {
  return shown.flatMap(({ why, line }) => ['.PP', sentence(why, ':'), '.PP', '.RS 4', '.EX', text(line), '.EE', '.RE']);
}

function optionLines(option: Option): string[] {
  const { argChoices, defaultValueDescription } = option;
  const defaultValue: unknown = option.defaultValue;
  const standing = defaultValueDescription ?? (typeof defaultValue === 'string' ? defaultValue : undefined);
  const further = [
    argChoices === undefined ? '' : `One of ${argChoices.join(', ')}.`,
    standing === undefined ? '' : `Default: ${standing}.`,
    option.envVar === undefined ? '' : `Also ${option.envVar}.`,
  ];
  const parts = [sentence(option.description), ...further.map(text)].filter((part) => part !== '');
  return ['.TP', termOf(option), ...parts];
}

/** ".BI --api " url" */
function termOf({ flags }: Option): string {
  const [name = '', value] = flags.split(/ (?=[<[])/);
  return value === undefined ? `.B ${text(name)}` : `.BI "${text(name)} " ${text(value.replaceAll(/[<>]/g, ''))}`;
}

function keyLines(group: SettingGroup): string[] {
  return settingsOf(group, []).flatMap(([key, setting]) => [
    '.TP',
    `.B ${text(key)}`,
    `${text(defaultOf(setting))}${setting.env === undefined ? '' : `; ${text(setting.env)}`}`,
  ]);
}

function settingsOf(group: SettingGroup, path: readonly string[]): (readonly [string, Setting<unknown>])[] {
  return Object.entries(group).flatMap(([key, node]) =>
    isSetting(node) ? [[[...path, key].join('.'), node] as const] : settingsOf(node, [...path, key]),
  );
}

function defaultOf(setting: Setting<unknown>): string {
  const { default: value } = setting;
  if (value === null) return 'no default';
  return `default: ${typeof value === 'string' ? value : JSON.stringify(value)}`;
}

function pairLines(pairs: string): string[] {
  return pairs
    .trim()
    .split('\n')
    .flatMap((pair) => {
      const [term = '', what = ''] = pair.split('|');
      return ['.TP', `.B ${text(term)}`, sentence(what)];
    });
}

/** Half a sentence, as commander's descriptions are, as a whole one; what begins with a name keeps it as it is. */
function sentence(words: string, end = '.'): string {
  const whole = words.replace(/^[a-z]+(?=[ ;:]|$)/, (first) => first.charAt(0).toUpperCase() + first.slice(1));
  return words === '' ? '' : text(/[.:]$/.test(whole) ? whole : whole + end);
}

/** Nothing in it is taken for roff; `code` becomes bold. */
function text(words: string): string {
  const escaped = words
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('’', '\\(cq')
    .replaceAll('…', '...')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll('"', '\\(dq')
    .replaceAll(/`([^`]*)`/g, '\\fB$1\\fR')
    .replaceAll('`', '\\(ga');
  return escaped.startsWith('.') ? `\\&${escaped}` : escaped;
}
