/** A terminal, or a pipe, that keeps what a command wrote. */
import type { Screen, Terminal } from '../../../src/cli/terminal.js';

/** With each ESC as ␛, which regular expressions may name. */
export const visible = (text: string): string => text.replaceAll('\u001b', '␛');

export class RecordedTerminal implements Terminal {
  readonly printed: string[] = [];
  readonly noted: string[] = [];
  /** Each write to the screen. */
  readonly drawn: string[] = [];
  readonly interactive: boolean;
  readonly coloured: boolean;
  readonly screen: Screen | undefined;

  constructor({ coloured = false, rows }: { readonly coloured?: boolean; readonly rows?: number } = {}) {
    this.coloured = coloured;
    this.interactive = rows !== undefined;
    this.screen = rows === undefined ? undefined : { rows, write: (text) => void this.drawn.push(text) };
  }

  print(line: string): void {
    this.printed.push(line);
  }

  note(line: string): void {
    this.noted.push(line);
  }
}
