/** `npm run check` as a test: types, native warnings, lint, format, layering. */
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { it } from 'node:test';
import { attempt } from './process.js';

it('types, native warnings, lint, format and layering are clean', async () => {
  const project = resolve(import.meta.dirname, '../../..');
  const check = await attempt(process.execPath, ['test/tool/check.mjs'], { cwd: project, timeoutMs: 600_000 });
  assert.equal(check.status, 0, `${check.stdout}${check.stderr}`);
});
