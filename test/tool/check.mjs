/**
 * `npm run check`: types, native warnings, lint, format, layering. Quiet where all is well; prints what fails.
 *
 * Every step runs even when an earlier one failed. A step whose tool is missing is named as left out; with CI=true that
 * is a failure.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';

const project = resolve(import.meta.dirname, '../..');
const bin = (name) => join(project, 'node_modules/.bin', name);
let failed = 0;

function step(name, program, args, env = {}) {
  const startedMs = performance.now();
  const run = spawnSync(program, args, { cwd: project, encoding: 'utf8', env: { ...process.env, ...env } });
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (run.status === 0) {
    console.log(`ok      ${name} (${seconds} s)`);
    return true;
  }
  failed += 1;
  console.log(`FAILED  ${name} (${seconds} s)`);
  console.log(run.error ? run.error.message : `${run.stdout}${run.stderr}`.trimEnd());
  return false;
}

function leftOut(name, reason) {
  const fatal = process.env.CI === 'true';
  if (fatal) failed += 1;
  console.log(`${fatal ? 'FAILED ' : 'left out'} ${name}: ${reason}`);
}

function nativeSources() {
  return ['native/core', 'native/binding']
    .filter((folder) => existsSync(join(project, folder)))
    .flatMap((folder) => readdirSync(join(project, folder)).map((file) => join(folder, file)))
    .filter((file) => /\.(h|cc)$/.test(file));
}

step('types', bin('tsc'), ['-p', 'tsconfig.json']);
// The addon is compiled with -Wall -Wextra -Werror: it exists only when there was no warning.
step('native warnings', process.execPath, ['native/build.mjs', '--if-changed']);
step('lint', bin('eslint'), ['.', '--max-warnings', '0']);
step('format', bin('prettier'), ['--check', '--log-level', 'warn', '.']);
step('layering', bin('depcruise'), ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', 'src']);

const { tool, prepareClients } = await import('../../dist/test/tool/clients.js');
if (typeof tool('clang-format') === 'string') await prepareClients(() => undefined);
const clangFormat = tool('clang-format');
if (typeof clangFormat === 'string') leftOut('native format', clangFormat);
else step('native format', clangFormat.path, ['--dry-run', '-Werror', ...nativeSources()], clangFormat.env);

process.exitCode = failed === 0 ? 0 : 1;
