import assert from 'node:assert/strict';
import { it } from 'node:test';
import { storePatience } from '../../../src/cli/store-patience.js';
import type { Clock } from '../../../src/ports/clock.js';

it('the patience with a store ends after so many seconds that came, however much later each of them did', () => {
  let nowMs = 0;
  let due: (() => void) | undefined;
  const clock: Pick<Clock, 'after' | 'nowMs'> = {
    nowMs: () => nowMs,
    after: (delayMs, callback) => {
      assert.equal(delayMs, 1000);
      due = callback;
      return { cancel: () => undefined };
    },
  };
  const signal = storePatience(clock as Clock, 3);
  for (const expected of [false, false, true]) {
    // As after SIGSTOP: the timer comes, but an hour late.
    nowMs += 3_600_000;
    const callback = due;
    due = undefined;
    callback?.();
    assert.equal(signal.aborted, expected);
  }
  assert.equal(due, undefined);
});
