/**
 * Builds the addon: `node native/build.mjs [--if-changed | --sanitize]`.
 *
 *   (nothing)      build/Release/keepgate.node, by node-gyp (npm runs this at installation)
 *   --if-changed   the same, unless it is newer than every source and was built for this Node
 *   --sanitize     native/core with its C++ tests, under the address and undefined-behaviour sanitizers and then under the
 *                  thread sanitizer, and runs them; then the addon with the first two, and runs its tests
 *
 * Needs no network, no configuration and no home directory: Node's headers are looked for beside Node itself, node-gyp is
 * the one that npm carries. Quiet on success; one line says what is missing.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const addonPath = join(root, 'build', 'Release', 'keepgate.node');
const stampPath = join(root, 'build', 'Release', 'keepgate.stamp');
/** What a build is good for. */
const stamp = `${process.version} ${process.versions.modules} ${process.platform} ${process.arch}\n`;

class MissingError extends Error {}

/** The first of the candidates for which `accept` holds. */
function firstOf(candidates, accept) {
  return candidates.find((candidate) => candidate !== undefined && candidate !== '' && accept(candidate));
}

function onPath(program) {
  const directories = (process.env.PATH ?? '').split(delimiter).filter((directory) => directory !== '');
  return firstOf(
    directories.map((directory) => join(directory, program)),
    (path) => existsSync(path) && statSync(path).isFile(),
  );
}

/** A directory that has include/node/ with headers of this Node's very ABI. */
function findHeaders() {
  const executable = realpathSync(process.execPath);
  const candidates = [
    process.env.npm_config_nodedir,
    join(dirname(executable), '..'),
    process.config.variables.node_prefix,
    '/usr',
    '/usr/local',
    '/usr/include/nodejs',
  ];
  const found = firstOf(candidates, (directory) => {
    const versionFile = join(directory, 'include', 'node', 'node_version.h');
    if (!existsSync(join(directory, 'include', 'node', 'node_api.h')) || !existsSync(versionFile)) return false;
    const abi = /#define NODE_MODULE_VERSION (\d+)/.exec(readFileSync(versionFile, 'utf8'));
    return abi?.[1] === process.versions.modules;
  });
  if (found !== undefined) return realpathSync(found);
  throw new MissingError(
    `the headers of Node ${process.version} (include/node/node_api.h): install Node from nodejs.org or NodeSource, or Debian's libnode-dev`,
  );
}

/** node-gyp's script: the one that npm names, else the one beside npm, else one on the path. */
function findNodeGyp() {
  const beside = (script) => {
    try {
      return createRequire(realpathSync(script)).resolve('node-gyp/bin/node-gyp.js');
    } catch {
      return undefined;
    }
  };
  const npmScripts = [
    process.env.npm_execpath,
    join(dirname(realpathSync(process.execPath)), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    onPath('npm'),
  ].filter((script) => script !== undefined && existsSync(script));
  const found = firstOf([process.env.npm_config_node_gyp, ...npmScripts.map(beside), onPath('node-gyp')], existsSync);
  if (found !== undefined) return found;
  throw new MissingError('node-gyp: install npm, which carries it');
}

function requireTools() {
  const compiler = process.env.CXX ?? 'g++';
  if (compiler === 'g++' && onPath('g++') === undefined) throw new MissingError('a C++ compiler: apt-get install g++');
  if (onPath('make') === undefined) throw new MissingError('make: apt-get install make');
  if (process.env.npm_config_python === undefined && onPath('python3') === undefined) {
    throw new MissingError('Python 3: apt-get install python3');
  }
  if (!existsSync(join(root, 'node_modules', 'node-addon-api'))) {
    throw new MissingError('node-addon-api: run `npm ci`');
  }
}

/** Runs to the end; its output is shown only when it fails. */
function run(program, parameters) {
  const result = spawnSync(program, parameters, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  if (result.error) throw new MissingError(`${program}: ${result.error.message}`);
  if (result.status === 0) return;
  process.stderr.write(`${result.stdout}${result.stderr}`);
  throw new Error(`${program} ended with ${result.status ?? result.signal}; its output is above`);
}

function sourcesIn(directory) {
  return readdirSync(join(root, directory), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

function isFresh() {
  if (!existsSync(addonPath) || !existsSync(stampPath) || readFileSync(stampPath, 'utf8') !== stamp) return false;
  const builtMs = statSync(stampPath).mtimeMs;
  const sources = [...sourcesIn('native/core'), ...sourcesIn('native/binding'), join(root, 'binding.gyp')];
  return sources.every((source) => statSync(source).mtimeMs < builtMs);
}

function build() {
  requireTools();
  const began = new Date();
  const parameters = [findNodeGyp(), '--loglevel=error', `--nodedir=${findHeaders()}`, '--jobs=max'];
  // Leftovers of another Node would be linked in; node-gyp builds only what changed otherwise.
  const sameNode = existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp;
  run(process.execPath, [...parameters, ...(sameNode ? ['configure', 'build'] : ['rebuild'])]);
  writeFileSync(stampPath, stamp);
  // What is saved while the compiler runs may not be in the build.
  utimesSync(stampPath, began, began);
}

const strict = ['-std=c++17', '-g', '-Wall', '-Wextra', '-Werror', '-D_GNU_SOURCE', '-pthread'];
const addressSanitizer = [
  '-O1',
  '-fno-omit-frame-pointer',
  '-fsanitize=address,undefined',
  '-fno-sanitize-recover=all',
];
const threadSanitizer = ['-O1', '-fsanitize=thread'];
const ccFiles = (directory) => sourcesIn(directory).filter((path) => path.endsWith('.cc'));

function sanitizeCore(compiler, output, name, flags) {
  const program = join(output, `core-test-${name}`);
  const sources = [...ccFiles('native/core'), ...ccFiles('test/native')];
  run(compiler, [...strict, ...flags, '-I', root, ...sources, '-o', program]);
  const result = spawnSync(program, { cwd: output, stdio: 'inherit' });
  if (result.status !== 0) throw new Error(`the C++ tests failed under the ${name} sanitizer`);
}

/** The addon's own tests, in an ordinary Node that loads the sanitizer first. */
function sanitizeAddon(compiler, output) {
  const addon = join(output, 'keepgate.node');
  const includes = [join(findHeaders(), 'include', 'node'), join(root, 'node_modules', 'node-addon-api')];
  run(compiler, [
    ...strict,
    ...addressSanitizer,
    ...['-fPIC', '-shared', '-fvisibility=hidden', '-Wl,-z,nodelete'],
    ...['-DNAPI_VERSION=8', '-DNAPI_DISABLE_CPP_EXCEPTIONS'],
    ...includes.flatMap((directory) => ['-isystem', directory]),
    ...[...ccFiles('native/core'), ...ccFiles('native/binding')],
    ...['-o', addon],
  ]);
  const tests = ['addon', 'checksum', 'frame-cipher', 'native-disk', 'nbd-dialer', 'new-file', 'process-rights']
    .map((name) => join(root, 'dist', 'test', 'unit', 'platform', `${name}.test.js`))
    .filter(existsSync);
  if (tests.length === 0) throw new MissingError('the compiled tests: run `npm run build` first');
  const runtime = spawnSync(compiler, ['-print-file-name=libasan.so'], { encoding: 'utf8' }).stdout.trim();
  const environment = {
    KEEPGATE_ADDON: addon,
    LD_PRELOAD: runtime,
    // Node itself leaves memory to the end of the process. The quarantine would count as memory in use.
    ASAN_OPTIONS: 'detect_leaks=0:quarantine_size_mb=1',
  };
  const result = spawnSync(process.execPath, ['--test', ...tests], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...environment },
  });
  if (result.status !== 0) throw new Error('the addon failed its tests under the address sanitizer');
}

function sanitize() {
  requireTools();
  const compiler = process.env.CXX ?? 'g++';
  const output = join(root, 'build', 'sanitize');
  mkdirSync(output, { recursive: true });
  sanitizeCore(compiler, output, 'address', addressSanitizer);
  sanitizeCore(compiler, output, 'thread', threadSanitizer);
  sanitizeAddon(compiler, output);
}

try {
  const [option, ...rest] = process.argv.slice(2);
  if (rest.length > 0 || !['--if-changed', '--sanitize', undefined].includes(option)) {
    throw new Error('usage: node native/build.mjs [--if-changed | --sanitize]');
  }
  if (option === '--sanitize') sanitize();
  else if (option === undefined || !isFresh()) build();
} catch (error) {
  const reason = error instanceof MissingError ? `this is missing: ${error.message}` : error.message;
  console.error(`keepgate: the native addon cannot be built: ${reason}`);
  process.exitCode = 1;
}
