import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bandwidthSchedule } from '../../../src/config/bandwidth-schedule.js';

const window = { days: ['mon', 'fri'], from: '08:00', to: '18:00', upload: '5Mbit/s' };

describe('the bandwidth schedule of a configuration', () => {
  it('becomes days, minutes and bytes per second', () => {
    assert.deepEqual(bandwidthSchedule([window, { from: '22:30', to: '06:00', download: 'auto' }]), [
      { days: [1, 5], fromMinute: 480, toMinute: 1080, upload: 625_000, download: undefined },
      { days: [0, 1, 2, 3, 4, 5, 6], fromMinute: 1350, toMinute: 360, upload: undefined, download: 'auto' },
    ]);
    assert.equal(bandwidthSchedule([{ ...window, from: '00:00', to: '24:00' }])[0]?.toMinute, 1440);
    assert.deepEqual(bandwidthSchedule(null), []);
  });

  const refused: readonly (readonly [unknown, RegExp])[] = [
    ['mon', /is not a list of windows/],
    [['mon'], /^window 1: "mon" is not a window/],
    [[window, { ...window, upload: undefined }], /^window 2: sets nothing/],
    [[{ ...window, colour: 'red' }], /colour: unknown key; known here are days, from, to, upload, download/],
    [[{ ...window, from: '8:00' }], /from: "8:00" is not a time of day/],
    [[{ ...window, from: 480 }], /from: 480 is not a time of day/],
    [[{ ...window, to: '24:01' }], /to: "24:01" is not/],
    [[{ ...window, to: '12:60' }], /to: "12:60" is not/],
    [[{ ...window, from: '24:00' }], /"24:00" is no beginning/],
    [[{ ...window, from: '18:00' }], /from and to are equal/],
    [[{ ...window, days: ['monday'] }], /days: "monday" is not one of sun, mon/],
    [[{ ...window, days: [] }], /days: \[\] is not a list/],
    [[{ ...window, upload: 5 }], /upload: 5 is not a rate/],
  ];
  for (const [raw, message] of refused) {
    it(`refuses ${JSON.stringify(raw)}`, () =>
      assert.throws(() => bandwidthSchedule(raw), { name: 'WrongValue', message }));
  }
});
