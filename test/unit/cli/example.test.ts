/** The examples in help and man page: each is taken apart by the program itself, which would refuse what is not so. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { examples } from '../../../src/cli/example.js';
import { leaves } from '../../../src/cli/program-leaf.js';
import { shellWords } from '../../../src/cli/shell-word.js';
import { quietProgram } from './program.js';

/** Which command a line would run. @throws CommanderError where the program refuses it */
async function wouldRun(line: string): Promise<string> {
  const program = quietProgram();
  let ran = 'nothing';
  for (const { words, command } of leaves(program)) {
    command.configureOutput({ writeErr: () => undefined });
    command.action(() => {
      ran = words;
    });
  }
  const typed = /<\((.*)\)/.exec(line)?.[1] ?? line;
  const [ours = ''] = typed.split(/ [|>] /);
  const [name, ...words] = shellWords(ours);
  assert.equal(name, 'keepgate');
  await program.parseAsync(words, { from: 'user' });
  return ran;
}

describe('examples', () => {
  it('are there for every command, and for no other', () => {
    assert.deepEqual(
      Object.keys(examples).sort(),
      leaves(quietProgram())
        .map(({ words }) => words)
        .sort(),
    );
  });

  for (const [words, shown] of Object.entries(examples)) {
    it(`of ${words} are what the program takes`, async () => {
      assert.ok(shown.length > 0);
      for (const { line } of shown) assert.equal(await wouldRun(line), words, line);
    });
  }

  it('would be refused with an option, a choice or an argument that is not there', async () => {
    for (const line of [
      'keepgate drain disk0 --hard',
      'keepgate attach demo --protocol ftp',
      'keepgate receipt',
      'keepgate restore disk0',
    ]) {
      await assert.rejects(wouldRun(line), /commander|error:/, line);
    }
  });

  it('stand in the help of their command', () => {
    for (const { words, command } of leaves(quietProgram())) {
      let help = '';
      command.configureOutput({ writeOut: (text) => (help += text) });
      command.outputHelp();
      for (const { line } of examples[words] ?? []) assert.ok(help.includes(`\n  ${line}\n`), `${words}: ${line}`);
    }
  });
});
