/**
 * `npm run check`: types, native warnings, lint, format, layering. Quiet where all is well; prints what fails.
 *
 * Every step runs even when an earlier one failed. A step whose tool is missing is named as left out; with CI=true that
 * is a failure.
 */
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';

const project = resolve(import.meta.dirname, '../..');
const bin = (name) => join(project, 'node_modules/.bin', name);
/** Only what changed is looked at again; a clean clone, as in CI, looks at everything. */
// Not where prettier itself looks: without --cache it wants a folder there, and removes what is in it.
const cached = (name) => ['--cache', '--cache-strategy', 'content', '--cache-location', `node_modules/.cache/${name}`];
let failed = 0;

async function step(name, program, args, env = {}) {
  const startedMs = performance.now();
  const { error, output } = await execute(program, args, env);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (error === null) {
    console.log(`ok      ${name} (${seconds} s)`);
    return;
  }
  failed += 1;
  console.log(`FAILED  ${name} (${seconds} s)`);
  console.log(output.trimEnd() || error.message);
}

function execute(program, args, env) {
  const options = { cwd: project, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 };
  return new Promise((resolve) => {
    execFile(program, args, options, (error, stdout, stderr) => resolve({ error, output: `${stdout}${stderr}` }));
  });
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

/** What needs the compiled tests' own tools, and whatever is short; beside the lint, which takes longest. */
async function others() {
  // The addon is compiled with -Wall -Wextra -Werror: it exists only when there was no warning.
  await step('native warnings', process.execPath, ['native/build.mjs', '--if-changed']);
  await step('format', bin('prettier'), ['--check', '--log-level', 'warn', ...cached('prettier-check'), '.']);
  await step('types of the page', bin('tsc'), ['-p', 'src/page/tsconfig.json']);
  await step('layering', bin('depcruise'), ['--config', '.dependency-cruiser.cjs', '--output-type', 'err', 'src']);

  const { tool, prepareClients } = await import('../../dist/test/tool/clients.js');
  if (typeof tool('clang-format') === 'string') await prepareClients(() => undefined);
  const clangFormat = tool('clang-format');
  if (typeof clangFormat === 'string') leftOut('native format', clangFormat);
  else await step('native format', clangFormat.path, ['--dry-run', '-Werror', ...nativeSources()], clangFormat.env);
}

await step('types', bin('tsc'), ['-p', 'tsconfig.json']);
await Promise.all([step('lint', bin('eslint'), ['.', '--max-warnings', '0', ...cached('eslint')]), others()]);

process.exitCode = failed === 0 ? 0 : 1;
