/** The commands that do something, out of the tree that the command line is. */
import type { Command } from 'commander';

export interface Leaf {
  /** "snapshot create" */
  readonly words: string;
  readonly command: Command;
}

/** In the order of the help; hidden ones and `help` are left out. */
export function leaves(command: Command, words: readonly string[] = []): Leaf[] {
  const children = command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.name() !== 'help');
  if (children.length === 0) return [{ words: words.join(' '), command }];
  return children.flatMap((child) => leaves(child, [...words, child.name()]));
}
