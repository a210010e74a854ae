/**
 * `npm test`: everything, in one run of node's own test runner, whose closing lines are the last thing printed.
 *
 *   npm test                        check, unit, conformance, native, sim, interop, crash, guest
 *   npm test -- unit interop        only these suites
 *   npm run test:long               the same suites, the longer versions of those that have one (KEEPGATE_TEST_LONG=1)
 *   npm test -- unit --only NAME    only test files whose path contains NAME
 *
 * One file more at a time than there are processors, since clients, stores and guests often wait for one another. Nothing
 * measures time, and everything has its own ports and folders.
 */
import { existsSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { run } from 'node:test';
import { spec as SpecReporter } from 'node:test/reporters';

const project = resolve(import.meta.dirname, '../..');
const built = join(project, 'dist/test');
/** The folders of each suite. `tool` is the check of the sources. */
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
/**
 * Those that take longest, which begin first, so that none is left alone at the end. Those that compute and those that
 * mostly wait come in turn. All others follow by their names.
 */
const longest = [
  'sim/mutation',
  'interop/ceph-gateway',
  'crash/long-outage',
  'tool/check',
  'guest/same-machine',
  'interop/prometheus',
  'sim/simulation',
  'crash/faults',
  'guest/encrypted-disk',
  'sim/ownership',
  'crash/failpoint',
  'guest/nbd-watch',
  'unit/remote/disk-fault',
  'interop/iscsi-conformance',
  'guest/gateway-killed',
  'interop/scrub',
  'sim/trust-mutation',
];
/** Left to the long test: a kernel of its own for what another file shows, in another setting. */
const inLongOnly = ['guest/nbd-watch-tls'];
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

function inOrder(files) {
  const gone = longest.filter((name) => !existsSync(join(project, 'test', `${name}.test.ts`)));
  if (gone.length > 0) throw new Error(`no longer there: ${gone.join(', ')}`);
  const first = longest.map((name) => join('dist/test', `${name}.test.js`)).filter((file) => files.includes(file));
  return [...first, ...files.filter((file) => !first.includes(file))].map((file) => join(project, file));
}

const { wanted, long, only } = parse(process.argv.slice(2));
const files = wanted
  .flatMap((suite) => suites[suite])
  .flatMap((folder) => testFiles(folder))
  .filter((file) => file.includes(only))
  .filter((file) => long || !inLongOnly.some((name) => file.endsWith(`${name}.test.js`)));
if (files.length === 0) usage('no test file matches');

if (wanted.some((suite) => needingClients.has(suite))) {
  const { prepareClients } = await import('../../dist/test/tool/clients.js');
  const missing = await prepareClients((line) => console.log(line));
  for (const line of missing) console.log(`left out: ${line}`);
}

process.chdir(project);
const ending = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => ending.abort());
if (long) process.env.KEEPGATE_TEST_LONG = '1';
run({ files: inOrder(files), concurrency: availableParallelism() + 1, signal: ending.signal })
  .on('test:fail', () => (process.exitCode = 1))
  .compose(new SpecReporter())
  .pipe(process.stdout);
