import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { SystemClock } from '../../../src/platform/system-clock.js';

const clock = new SystemClock();

describe('the system clock', () => {
  it('goes on, in milliseconds with a fraction, beside the time of day', async () => {
    const before = clock.nowMs();
    const wall = clock.wallMs();
    await clock.sleep(5);
    assert.ok(clock.nowMs() - before >= 4);
    assert.ok(clock.wallMs() >= wall);
    assert.ok(wall > Date.UTC(2024, 0));
  });

  it('calls back once, and not when cancelled', async () => {
    const calls: string[] = [];
    clock.after(0, () => calls.push('kept'));
    clock.after(0, () => calls.push('cancelled')).cancel();
    await clock.sleep(10);
    assert.deepEqual(calls, ['kept']);
  });

  it('ends a sleep that is aborted, before or meanwhile', async () => {
    const abort = new AbortController();
    const sleep = clock.sleep(60_000, abort.signal);
    abort.abort(new Error('stop'));
    await assert.rejects(sleep);
    await assert.rejects(clock.sleep(60_000, abort.signal));
  });

  it('does not keep the process alive with a timer', () => {
    const module = new URL('../../../src/platform/system-clock.js', import.meta.url).href;
    const code = `import { SystemClock } from ${JSON.stringify(module)}; new SystemClock().after(600000, () => {});`;
    const result = spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 60_000 });
    assert.equal(result.status, 0);
  });
});
