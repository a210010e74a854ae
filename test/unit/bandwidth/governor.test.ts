import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BandwidthGovernor } from '../../../src/bandwidth/governor.js';
import type { BandwidthPlan, RateLimits } from '../../../src/ports/bandwidth.js';
import { ManualClock } from '../../fake/clock.js';

/** The manual clock begins on Friday, 15 January 2027, at 08:00 UTC. */
const minuteMs = 60_000;
const plan: BandwidthPlan = {
  upload: 1000,
  download: Infinity,
  timezone: 'UTC',
  schedule: [{ days: [5], fromMinute: 482, toMinute: 485, upload: 'auto', download: undefined }],
};

function start(first = plan) {
  const clock = new ManualClock();
  const changes: RateLimits[] = [];
  const governor = new BandwidthGovernor({ clock, plan: first, onChange: (limits) => changes.push(limits) });
  const uploads = (): unknown[] => changes.map(({ upload }) => upload);
  return { clock, governor, changes, uploads };
}

describe('bandwidth governor', () => {
  it('follows the schedule to the minute', () => {
    const { clock, governor, uploads } = start();
    assert.deepEqual(governor.limits, { upload: 1000, download: Infinity });
    clock.advance(2 * minuteMs - 1);
    assert.deepEqual(uploads(), []);
    clock.advance(1);
    assert.deepEqual(uploads(), ['auto']);
    assert.deepEqual([governor.by('upload'), governor.by('download')], ['schedule', 'configuration']);
    clock.advance(3 * minuteMs);
    assert.deepEqual(uploads(), ['auto', 1000]);
    governor.close();
    clock.advance(7 * 1440 * minuteMs);
    assert.deepEqual(uploads(), ['auto', 1000]);
  });

  it('obeys the API above the schedule until null, and a reread plan above the API', () => {
    const { clock, governor, uploads } = start();
    governor.change({ upload: 5 });
    clock.advance(3 * minuteMs);
    assert.deepEqual(uploads(), [5], 'the schedule does not interfere');
    assert.equal(governor.by('upload'), 'api');
    governor.change({ download: 9 });
    assert.deepEqual(governor.limits, { upload: 5, download: 9 });
    governor.change({ upload: null });
    assert.deepEqual(governor.limits, { upload: 'auto', download: 9 });
    governor.setPlan({ ...plan, upload: 2000, schedule: [] });
    assert.deepEqual(governor.limits, { upload: 2000, download: Infinity });
    governor.close();
  });

  it('says nothing where nothing changed', () => {
    const { clock, governor, changes } = start({ ...plan, schedule: [] });
    governor.setPlan({ ...plan, schedule: [] });
    governor.change({ upload: 1000 });
    clock.advance(1440 * minuteMs);
    assert.deepEqual(changes, []);
  });
});
