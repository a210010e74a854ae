/** docs/errors.md and the registry say the same. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { it } from 'node:test';
import { errorCodes } from '../../../src/base/errors.js';

const page = resolve(import.meta.dirname, '../../../../docs/errors.md');

it('docs/errors.md lists every code with what to do, and no other', async () => {
  const rows = (await readFile(page, 'utf8')).split('\n').filter((line) => line.startsWith('| `'));
  const expected = Object.entries(errorCodes).map(
    ([code, { retryable, action }]) => `| \`${code}\` | ${retryable ? 'yes' : 'no'} | ${action} |`,
  );
  assert.deepEqual(rows, expected);
});
