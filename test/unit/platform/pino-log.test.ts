import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { levelOf, logModules, parseLogLevels } from '../../../src/platform/log-levels.js';
import { projectDirectory } from '../docs/page.js';

const moduleUrl = (name: string): string => new URL(`../../../src/platform/${name}.js`, import.meta.url).href;
/** In a process of its own: lines go to its stderr. */
const script = `import { createLog } from ${JSON.stringify(moduleUrl('pino-log'))};
  import { parseLogLevels } from ${JSON.stringify(moduleUrl('log-levels'))};
  const log = createLog(parseLogLevels(process.env.LEVELS));
  log.info('begins', { count: 3 });
  const volume = log.child('volume', { volume: 'disk0' });
  volume.debug('not said');
  volume.warn('is slow');
  const request = volume.child('request');
  request.debug('request', { op: 'read' });
  console.log(JSON.stringify([log.debugs, volume.debugs, request.debugs]));`;

interface Line {
  readonly time: string;
  readonly [name: string]: unknown;
}

function run(levels: string): { lines: Line[]; debugs: unknown } {
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { ...process.env, LEVELS: levels },
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
  const lines = stderr.trim().split('\n');
  return { lines: lines.map((line) => JSON.parse(line) as Line), debugs: JSON.parse(stdout) };
}

describe('the log', () => {
  it('is one JSON line each, with time, level, module and fields, as much of each module as its level says', () => {
    const { lines, debugs } = run('info,request=debug');
    for (const { time } of lines) assert.equal(new Date(time).toISOString(), time);
    assert.deepEqual(
      lines.map((line) => ({ ...line, time: undefined })),
      [
        { time: undefined, level: 'info', count: 3, msg: 'begins' },
        { time: undefined, level: 'warn', module: 'volume', volume: 'disk0', msg: 'is slow' },
        { time: undefined, level: 'debug', module: 'volume.request', volume: 'disk0', op: 'read', msg: 'request' },
      ],
    );
    assert.deepEqual(debugs, [false, false, true]);
    assert.deepEqual(
      run('error,volume=warn').lines.map(({ msg }) => msg),
      ['is slow'],
    );
  });

  it('is for people on a terminal', () => {
    const command = `${process.execPath} --input-type=module -e '${script.replaceAll("'", '"')}'`;
    const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, LEVELS: 'info' },
      encoding: 'utf8',
    });
    assert.match(stdout, /WARN.*: .*volume: is slow/);
    assert.doesNotMatch(stdout, /"msg"/);
  });
});

describe('levels of the log', () => {
  it('are of the innermost module that has one, else the general one', () => {
    const levels = parseLogLevels('warn, volume=error,scrub=debug');
    assert.equal(levelOf(levels, ''), 'warn');
    assert.equal(levelOf(levels, 'nbd'), 'warn');
    assert.equal(levelOf(levels, 'volume'), 'error');
    assert.equal(levelOf(levels, 'volume.scrub'), 'debug');
    assert.equal(levelOf(levels, 'volume.request'), 'error');
    assert.equal(levelOf(parseLogLevels('nbd=debug'), 'api'), 'info');
  });

  it('say what is wrong with them', () => {
    assert.throws(() => parseLogLevels('loud'), /"loud" is no level; write debug, info, warn, error, or MODULE=LEVEL/);
    assert.throws(() => parseLogLevels('info,disk=debug'), /there is no module "disk"; there are api, hydrator/);
    assert.throws(() => parseLogLevels('nbd='), /"" is no level/);
  });

  it('can be given for every module that writes lines, and for no other', () => {
    const sources = readdirSync(join(projectDirectory, 'src'), { recursive: true }).map(String);
    const texts = sources
      .filter((path) => path.endsWith('.ts'))
      .map((path) => readFileSync(join(projectDirectory, 'src', path), 'utf8'));
    const names = texts.flatMap((text) => [...text.matchAll(/\.child\('([\w-]+)'/g)].map(([, name = '']) => name));
    assert.deepEqual([...new Set(names)].sort(), [...logModules].sort());
  });
});
