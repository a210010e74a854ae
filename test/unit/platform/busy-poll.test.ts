import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { BusyPoll } from '../../../src/platform/busy-poll.js';

const close = limits.busyPollUs / 2;

async function turns(count = 5): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
}

describe('the event loop between requests', () => {
  it('stays awake where they follow closely, for a moment behind the last', async () => {
    let nowUs = 1000;
    const poll = new BusyPoll(() => nowUs);
    poll.answered();
    assert.equal(poll.isAwake, false, 'one request says nothing of the next');
    nowUs += close;
    poll.answered();
    await turns();
    assert.equal(poll.isAwake, true);
    nowUs += close;
    poll.answered();
    nowUs += limits.busyPollUs - 1;
    await turns();
    assert.equal(poll.isAwake, true, 'the moment begins anew with each request');
    nowUs += 1;
    await turns();
    assert.equal(poll.isAwake, false);
  });

  it('sleeps where they come now and then', async () => {
    let nowUs = 0;
    const poll = new BusyPoll(() => nowUs);
    for (let request = 0; request < 10; request++) {
      poll.answered();
      assert.equal(poll.isAwake, false);
      nowUs += limits.busyPollUs + 1;
    }
    poll.answered();
    await turns();
    assert.equal(poll.isAwake, false);
  });
});
