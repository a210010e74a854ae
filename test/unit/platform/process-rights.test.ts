import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { notifyServiceManager } from '../../../src/platform/notify.js';
import { readBootId } from '../../../src/platform/process-rights.js';
import type { ProcessRight } from '../../../src/platform/process-rights.js';

const moduleUrl = new URL('../../../src/platform/process-rights.js', import.meta.url).href;
/** In a process of its own, since the rights stay taken. */
const script = `import { readdirSync, readFileSync } from 'node:fs';
  import { takeProcessRights } from ${JSON.stringify(moduleUrl)};
  import { stat } from 'node:fs/promises';
  await Promise.all(Array.from({ length: 8 }, () => stat('/'))); // the thread pool is there
  const rights = takeProcessRights();
  // proc(5): the kernel's flags of a thread are the seventh field behind its name. PF_MEMALLOC_NOIO is 0x80000.
  const threads = readdirSync('/proc/self/task').map((id) => readFileSync('/proc/self/task/' + id + '/stat', 'utf8'));
  const flushers = threads.filter((line) => (Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[6]) & 0x80000) !== 0);
  const lockedKib = Number(/VmLck:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
  console.log(JSON.stringify({ rights, lockedKib, threads: threads.length, flushers: flushers.length, score: Number(readFileSync('/proc/self/oom_score_adj', 'utf8')) }));`;

interface Taken {
  readonly rights: ProcessRight[];
  readonly lockedKib: number;
  readonly threads: number;
  readonly flushers: number;
  readonly score: number;
}

function take(prefix: string[]): Taken {
  const command = [...prefix, process.execPath, '--input-type=module', '-e', script];
  const result = spawnSync('env', command, { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
  return JSON.parse(result.stdout) as Taken;
}

function granted(taken: Taken, name: ProcessRight['name']): boolean {
  const found = taken.rights.find((right) => right.name === name);
  assert.ok(found !== undefined && found.detail !== '' && !found.detail.includes('\n'));
  return found.granted;
}

describe('process rights', () => {
  it('are what they are said to be', () => {
    const taken = take([]);
    // Node's own thread for SIGUSR1 takes no signals.
    if (granted(taken, 'io-flusher')) assert.ok(taken.flushers >= taken.threads - 1);
    else assert.equal(taken.flushers, 0);
    assert.equal(granted(taken, 'locked-memory'), taken.lockedKib > 0);
    assert.equal(granted(taken, 'oom-score'), taken.score <= -900);
    assert.equal(taken.rights.length, 3);
  });

  it('are done without, and named, where the process may not have them', (context) => {
    if (process.getuid?.() !== 0) return context.skip('giving up capabilities needs root');
    const drop = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', 'sh', '-c', 'ulimit -l 64; exec "$0" "$@"'];
    const taken = take(drop);
    assert.deepEqual(
      taken.rights.map((right) => [right.name, right.granted, right.detail.split(',')[0]]),
      [
        ['io-flusher', false, 'needs CAP_SYS_RESOURCE'],
        ['locked-memory', false, 'needs CAP_IPC_LOCK'],
        ['oom-score', false, 'needs CAP_SYS_RESOURCE'],
      ],
    );
    assert.equal(taken.lockedKib, 0);
  });
});

describe('the boot', () => {
  it('has one id', () => {
    assert.match(readBootId(), /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.equal(readBootId(), readBootId());
  });
});

describe('the service manager', () => {
  it('is not needed', () => {
    const before = process.env.NOTIFY_SOCKET;
    delete process.env.NOTIFY_SOCKET;
    assert.equal(notifyServiceManager('READY=1'), false);
    process.env.NOTIFY_SOCKET = '/nonexistent/notify';
    assert.equal(notifyServiceManager('READY=1'), false);
    if (before === undefined) delete process.env.NOTIFY_SOCKET;
    else process.env.NOTIFY_SOCKET = before;
  });
});
