/** The bar of long work, in a terminal of its own: with rate and time left, in one line of a small terminal. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { it } from 'node:test';
import { requiredTool } from '../tool/clients.js';
import { run } from '../tool/process.js';
import { suite } from '../tool/suite.js';

const source = resolve(import.meta.dirname, '../../src');
const work = `
import { Progress } from '${source}/cli/progress.js';
import { processTerminal } from '${source}/cli/terminal.js';
import { SystemClock } from '${source}/platform/system-clock.js';
const clock = new SystemClock();
const progress = new Progress({ title: 'draining disk0', terminal: processTerminal, clock });
progress.update(0, 2 ** 30);
await clock.sleep(400);
progress.update(2 ** 29, 2 ** 30);
await clock.sleep(400);
progress.update(2 ** 30, 2 ** 30);
progress.end();
`;

suite('the progress bar', ['script'], () => {
  for (const columns of [80, 132]) {
    it(`has rate and time left in ${columns} columns`, async () => {
      const line = `stty cols ${columns}; '${process.execPath}' --input-type=module -e "$WORK"`;
      const shown = await run(requiredTool('script'), ['-qfec', line, '/dev/null'], {
        env: { WORK: work, TERM: 'xterm' },
      });
      // Each drawing begins with an escape sequence that leads to the line's begin.
      const drawn = shown.split('\u001b').map((part) => part.replace(/^\[[\d?;]*[a-zA-Z]/, ''));
      const half = drawn.find((part) => part.includes(' 50% ')) ?? '';
      const shape = /^draining disk0 \[(\S+)\] 50% \| 512 MiB of 1 GiB \| [\d.]+ [KMG]iB\/s \| \S+( \S+)? left/;
      assert.match(half, shape, shown);
      assert.ok(half.trimEnd().length <= columns, half);
      assert.ok((shape.exec(half)?.[1] ?? '').length >= 5);
    });
  }
});
