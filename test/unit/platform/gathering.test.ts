import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { limits } from '../../../src/base/limits.js';
import { Gathering } from '../../../src/platform/gathering.js';

/** One wake-up of a peer that has `underWay` sends on their way. Returns how many were received together, and whether one was awaited in vain. */
function wakeUp(gathering: Gathering, underWay: number): { arrivals: number; inVain: boolean } {
  gathering.begin();
  while (gathering.wantsMore && gathering.arrivals < underWay) gathering.arrived();
  const inVain = gathering.wantsMore;
  gathering.end();
  return { arrivals: gathering.arrivals, inVain };
}

/** The wake-ups up to the next trial, and that one. */
function untilTried(gathering: Gathering, underWay: number): { arrivals: number; inVain: boolean }[] {
  return Array.from({ length: limits.gatherTrialEvery }, () => wakeUp(gathering, underWay));
}

describe('gathering what a peer sends', () => {
  it('takes a part of what a peer with many requests has under way, which a trial tells', () => {
    const gathering = new Gathering();
    const before = untilTried(gathering, limits.gatherTrialMax);
    assert.deepEqual(new Set(before.slice(0, -1).map(({ arrivals }) => arrivals)), new Set([1]));
    assert.equal(before.at(-1)?.arrivals, limits.gatherTrialMax);
    const after = untilTried(gathering, limits.gatherTrialMax).slice(0, -1);
    const share = limits.gatherTrialMax / limits.gatherShare;
    assert.deepEqual(new Set(after.map(({ arrivals }) => arrivals)), new Set([share]));
    assert(after.every(({ inVain }) => !inVain));
  });

  it('waits for a peer with one request at a time in trials alone', () => {
    const gathering = new Gathering();
    for (let round = 0; round < 3; round++) {
      const waited = untilTried(gathering, 1).filter(({ inVain }) => inVain);
      assert.equal(waited.length, 1);
    }
  });

  it('waits once, and tries again, where a peer has fewer under way than it had', () => {
    const gathering = new Gathering();
    untilTried(gathering, limits.gatherTrialMax);
    const waited = untilTried(gathering, 1).filter(({ inVain }) => inVain);
    assert.equal(waited.length, 2);
  });
});
