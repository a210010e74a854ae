import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { BusyPoll } from '../../../src/platform/busy-poll.js';

describe('the event loop between requests', () => {
  it('stays awake for a moment where they follow closely', () => {
    let nowUs = 1000;
    const poll = new BusyPoll(() => nowUs);
    assert.equal(poll.answered(), 0, 'one request says nothing of the next');
    for (let request = 0; request < 10; request++) {
      nowUs += limits.busyPollUs;
      assert.equal(poll.answered(), limits.busyPollUs);
    }
  });

  it('sleeps where they come now and then', () => {
    let nowUs = 0;
    const poll = new BusyPoll(() => nowUs);
    for (let request = 0; request < 10; request++) {
      assert.equal(poll.answered(), 0);
      nowUs += limits.busyPollUs + 1;
    }
  });
});
