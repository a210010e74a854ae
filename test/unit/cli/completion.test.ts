/** What can come next on a command line, with names that are made up; test/interop/completion.test.ts has the shells. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { complete } from '../../../src/cli/completion.js';
import type { Names } from '../../../src/cli/completion.js';
import type { Asked } from '../../../src/cli/live-name.js';
import { shellWords } from '../../../src/cli/shell-word.js';
import { quietProgram } from './program.js';

const program = quietProgram();
const asked: Asked[] = [];
const names: Names = {
  volumes: (given) => {
    asked.push(given);
    return Promise.resolve(['disk0', 'disk1', 'logs']);
  },
  snapshots: (_, volume) => Promise.resolve([`${volume}-monday`, `${volume}-tuesday`]),
};

/** `line` up to the cursor. */
async function after(line: string): Promise<string[]> {
  const { kind, candidates } = await complete(program, shellWords(line).slice(1), names);
  return kind === 'words' ? candidates.map(({ word }) => word) : [kind];
}

describe('completion', () => {
  for (const [line, expected] of [
    ['keepgate sn', ['snapshot']],
    ['keepgate snapshot ', ['create', 'list', 'revert', 'delete', 'help']],
    ['keepgate help key r', ['remove', 'rotate']],
    ['keepgate attach --p', ['--protocol']],
    ['keepgate attach --protocol ', ['nbd', 'iscsi']],
    ['keepgate attach --protocol=i', ['--protocol=iscsi']],
    ['keepgate attach --protocol nbd d', ['disk0', 'disk1']],
    ['keepgate drain ', ['disk0', 'disk1', 'logs']],
    ['keepgate drain disk0 ', []],
    ['keepgate drain -- ', ['disk0', 'disk1', 'logs']],
    ['keepgate drain -- --', []],
    ['keepgate key rotate disk0 ', ['disk1', 'logs']],
    ['keepgate snapshot delete disk1 ', ['disk1-monday', 'disk1-tuesday']],
    ['keepgate snapshot create disk1 ', []],
    ['keepgate restore disk0 --snapshot disk0-m', ['disk0-monday']],
    ['keepgate restore disk0 --from ', []],
    ['keepgate restore disk0 --data-dir ', ['directories']],
    ['keepgate restore disk0 --receipt=', ['files']],
    ['keepgate serve --config ', ['files']],
    ['keepgate serve --log-level d', ['debug']],
    ['keepgate init ', ['directories']],
    ['keepgate nbd-watch ', ['files']],
    ['keepgate completion ', ['bash', 'zsh', 'fish']],
    ['keepgate --v', ['--version']],
    ['keepgate nonsense ', []],
    ['keepgate status --nonsense=', []],
    ['keepgate __c', []],
  ] as const) {
    it(`of "${line}" is ${expected.join(', ') || 'nothing'}`, async () => {
      assert.deepEqual(await after(line), expected);
    });
  }

  it('offers each option once, and none that is hidden', async () => {
    const first = await after('keepgate status --');
    assert.deepEqual(first, ['--config', '--api', '--json', '--watch', '--help']);
    assert.deepEqual(
      await after('keepgate status --json --'),
      first.filter((option) => option !== '--json'),
    );
  });

  it('says of a command what it does', async () => {
    const { candidates } = await complete(program, ['dr'], names);
    assert.deepEqual(candidates, [{ word: 'drain', what: 'wait until all that is acknowledged now is replicated' }]);
  });

  it('asks for names where the command line says', async () => {
    await after('keepgate drain --config /etc/gate.yaml --api=unix:/run/gate.sock ');
    assert.deepEqual(asked.at(-1), { config: '/etc/gate.yaml', api: 'unix:/run/gate.sock' });
  });
});

describe('words of a shell', () => {
  for (const [line, expected] of [
    ['', ['']],
    ['a  b', ['a', 'b']],
    ['a b ', ['a', 'b', '']],
    [`a 'b c' "d \\" e"`, ['a', 'b c', 'd " e']],
    ['a\\ b', ['a b']],
    [`'it is not ended`, ['it is not ended']],
    [`a '' `, ['a', '', '']],
    ['--x="y z', ['--x=y z']],
    ['"a\\b"', ['a\\b']],
  ] as const) {
    it(`of <${line}> are ${JSON.stringify(expected)}`, () => {
      assert.deepEqual(shellWords(line), expected);
    });
  }
});
