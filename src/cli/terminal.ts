/** Where a command writes: answers on stdout, progress and errors on stderr. */
export interface Terminal {
  /** One line on stdout. */
  print(line: string): void;
  /** One line on stderr. */
  note(line: string): void;
  /** Whether a person watches: then progress is drawn over itself. */
  readonly interactive: boolean;
}

export const processTerminal: Terminal = {
  print: (line) => void process.stdout.write(`${line}\n`),
  note: (line) => void process.stderr.write(`${line}\n`),
  interactive: process.stderr.isTTY,
};
