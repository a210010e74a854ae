/**
 * `npm test`: everything, in one run of node's own test runner, whose closing lines are the last thing printed.
 *
 *   npm test                        check, unit, conformance, native, sim, interop, crash, guest
 *   npm test -- unit interop        only these suites
 *   npm run test:long               the same suites, the longer versions of those that have one (KEEPGATE_TEST_LONG=1)
 *   npm test -- unit --only NAME    only test files whose path contains NAME
 *
 * As many files at a time as there are processors: nothing measures time, and everything has its own ports and folders.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';

const project = resolve(import.meta.dirname, '../..');
const built = join(project, 'dist/test');
/** The folders of each suite; the runner sorts the files itself. `tool` is the check of the sources. */
const suites = {
  unit: ['unit'],
  conformance: ['conformance'],
  check: ['tool'],
  native: ['native'],
  sim: ['sim'],
  scale: ['scale'],
  fuzz: ['fuzz'],
  interop: ['interop'],
  crash: ['crash'],
  guest: ['guest'],
};
const needingClients = new Set(['conformance', 'interop', 'crash', 'guest', 'check']);

function usage(message) {
  console.error(`${message}; write npm test -- [long] [${Object.keys(suites).join('|')}]... [--only PART_OF_PATH]`);
  process.exit(2);
}

function parse(args) {
  const wanted = [];
  let long = false;
  let only = '';
  for (let at = 0; at < args.length; at += 1) {
    const argument = args[at];
    if (argument === 'long') long = true;
    else if (argument === '--only') only = args[(at += 1)] ?? usage('--only wants a part of a path');
    else if (argument in suites) wanted.push(argument);
    else usage(`there is no suite ${argument}`);
  }
  return { wanted: wanted.length > 0 ? wanted : Object.keys(suites), long, only };
}

function testFiles(folder) {
  const path = join(built, folder);
  if (!existsSync(path)) return [];
  const names = readdirSync(path, { recursive: true }).map(String);
  // A compiled test whose source is gone would be run for ever.
  return names
    .filter((name) => name.endsWith('.test.js'))
    .filter((name) => existsSync(join(project, 'test', folder, name.replace(/\.js$/, '.ts'))))
    .map((name) => relative(project, join(path, name)))
    .sort();
}

const { wanted, long, only } = parse(process.argv.slice(2));
const files = wanted
  .flatMap((suite) => suites[suite])
  .flatMap((folder) => testFiles(folder))
  .filter((file) => file.includes(only));
if (files.length === 0) usage('no test file matches');

if (wanted.some((suite) => needingClients.has(suite))) {
  const { prepareClients } = await import('../../dist/test/tool/clients.js');
  const missing = await prepareClients((line) => console.log(line));
  for (const line of missing) console.log(`left out: ${line}`);
}

const child = spawn(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${availableParallelism()}`,
    '--test-reporter=spec',
    '--test-reporter-destination=stdout',
    ...files,
  ],
  {
    cwd: project,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...(long ? { KEEPGATE_TEST_LONG: '1' } : {}) },
  },
);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('close', (status) => {
  process.exitCode = status ?? 1;
});
