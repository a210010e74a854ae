/** Where a command writes: answers on stdout, progress and errors on stderr. */
export interface Terminal {
  /** One line on stdout. */
  print(line: string): void;
  /** One line on stderr. */
  note(line: string): void;
  /** Whether a person watches: then progress is drawn over itself. */
  readonly interactive: boolean;
  /** Whether what is printed for people is coloured. */
  readonly coloured: boolean;
  /** stdout, where it is a terminal: then what is repeated is drawn over itself. */
  readonly screen: Screen | undefined;
}

export interface Screen {
  readonly rows: number;
  /** As it is, escape sequences included. */
  write(text: string): void;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** NO_COLOR (no-color.org) before FORCE_COLOR before what stdout is; commander does the same with its help. */
export function wantsColours(environment: Environment, isTerminal: boolean): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = environment;
  if (NO_COLOR !== undefined && NO_COLOR !== '') return false;
  if (FORCE_COLOR === '0' || FORCE_COLOR === 'false') return false;
  if (FORCE_COLOR !== undefined) return true;
  return isTerminal && TERM !== 'dumb';
}

const screen: Screen = {
  get rows() {
    return process.stdout.rows;
  },
  write: (text) => void process.stdout.write(text),
};

export const processTerminal: Terminal = {
  print: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
  interactive: process.stderr.isTTY,
  coloured: wantsColours(process.env, process.stdout.isTTY),
  screen: process.stdout.isTTY && process.env['TERM'] !== 'dumb' ? screen : undefined,
};
