/**
 * The schedule over a whole year in several time zones. The judge knows wall-clock time another way than the program:
 * from Date's own getters, with TZ set.
 */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { holds, limitsAt, WallClock } from '../../../src/bandwidth/schedule.js';
import type { BandwidthWindow } from '../../../src/ports/bandwidth.js';

const year = 2026;
const minuteMs = 60_000;
const yearStartMs = Date.UTC(year, 0, 1);
const yearMinutes = 365 * 1440;
/** A window begins, ends and is shifted at whole ones of these. */
const stepMinutes = process.env['KEEPGATE_TEST_LONG'] === '1' ? 1 : 5;
/** Half-hour changes, changes at midnight, southern summers, odd offsets, and zones without changes. */
const zones = [
  'UTC',
  'Europe/Paris',
  'America/New_York',
  'Australia/Lord_Howe',
  'Asia/Kathmandu',
  'America/Santiago',
  'Africa/Cairo',
  'Pacific/Chatham',
  'Asia/Tokyo',
];
const ownZone = process.env['TZ'];

/** The judge's own reading of the clock on the wall. */
function wall(zone: string, atMs: number): { day: number; minute: number } {
  process.env['TZ'] = zone;
  const date = new Date(atMs);
  return { day: date.getDay(), minute: date.getHours() * 60 + date.getMinutes() };
}

/** Moments around each change of the zone's offset, and the shift in minutes (+60: clocks go forward). */
function changesOf(zone: string): { atMs: number; shiftMinutes: number }[] {
  process.env['TZ'] = zone;
  const changes = [];
  let offset = new Date(yearStartMs).getTimezoneOffset();
  for (let minute = 0; minute < yearMinutes; minute += 30) {
    const atMs = yearStartMs + minute * minuteMs;
    const found = new Date(atMs).getTimezoneOffset();
    if (found !== offset) changes.push({ atMs, shiftMinutes: offset - found });
    offset = found;
  }
  return changes;
}

const windows = fc
  .record({
    days: fc.uniqueArray(fc.integer({ min: 0, max: 6 }), { minLength: 1 }),
    fromMinute: fc.integer({ min: 0, max: 1439 }),
    toMinute: fc.integer({ min: 1, max: 1440 }),
  })
  .filter(({ fromMinute, toMinute }) => fromMinute !== toMinute)
  .map((window): BandwidthWindow => ({ ...window, upload: 1000, download: undefined }));

/** Spelt out day by day: whether some day's window covers this moment of the wall clock. */
function covered({ days, fromMinute, toMinute }: BandwidthWindow, { day, minute }: { day: number; minute: number }) {
  const length = toMinute > fromMinute ? toMinute - fromMinute : 1440 - fromMinute + toMinute;
  return days.some((begin) => {
    const sinceBegin = (day * 1440 + minute - (begin * 1440 + fromMinute) + 7 * 1440) % (7 * 1440);
    return sinceBegin < length;
  });
}

describe('the weekly schedule', () => {
  after(() => {
    if (ownZone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = ownZone;
  });

  for (const zone of zones) {
    it(`agrees with the wall clock all year in ${zone}, and most of all where it changes`, () => {
      const clock = new WallClock(zone);
      const changes = changesOf(zone);
      const anywhere = fc.integer({ min: 0, max: yearMinutes - 1 }).map((minute) => yearStartMs + minute * minuteMs);
      const nearChange =
        changes.length === 0
          ? anywhere
          : fc
              .tuple(fc.constantFrom(...changes), fc.integer({ min: -1500, max: 1500 }))
              .map(([change, minute]) => change.atMs + minute * minuteMs);
      fc.assert(
        fc.property(windows, fc.oneof(anywhere, nearChange), fc.nat(minuteMs - 1), (window, atMs, extraMs) => {
          const expected = wall(zone, atMs);
          assert.deepEqual(clock.at(atMs + extraMs), expected);
          assert.equal(holds(window, clock.at(atMs)), covered(window, expected));
        }),
        { numRuns: 400 },
      );
    });
  }

  it('gives every day of the year the minutes that it has, less or more where clocks change inside the window', () => {
    const night: BandwidthWindow = {
      days: [0, 1, 2, 3, 4, 5, 6],
      fromMinute: 22 * 60,
      toMinute: 6 * 60,
      upload: 1,
      download: undefined,
    };
    for (const zone of ['Europe/Paris', 'America/New_York', 'Australia/Lord_Howe']) {
      const clock = new WallClock(zone);
      const nights: number[] = [];
      let run = 0;
      for (let minute = 0; minute < yearMinutes; minute += stepMinutes) {
        if (holds(night, clock.at(yearStartMs + minute * minuteMs))) run += stepMinutes;
        else if (run > 0) {
          nights.push(run);
          run = 0;
        }
      }
      const ordinary = 1440 - night.fromMinute + night.toMinute;
      const unusual = nights.slice(1).filter((minutes) => minutes !== ordinary);
      const shift = zone === 'Australia/Lord_Howe' ? 30 : 60;
      assert.deepEqual(
        unusual.sort((left, right) => left - right),
        [ordinary - shift, ordinary + shift],
        zone,
      );
      assert.ok(nights.length === 365 || nights.length === 366, `${nights.length} nights`);
    }
  });

  it('holds twice in the hour that is repeated, and never in the one that is left out', () => {
    const clock = new WallClock('Europe/Paris');
    const early: BandwidthWindow = { days: [0], fromMinute: 150, toMinute: 165, upload: 1, download: undefined };
    const minutesOf = (dayMs: number): number => {
      let count = 0;
      for (let minute = -180; minute < 1440; minute++) {
        if (holds(early, clock.at(dayMs + minute * minuteMs))) count++;
      }
      return count;
    };
    assert.equal(minutesOf(Date.UTC(year, 9, 25)), 30);
    assert.equal(minutesOf(Date.UTC(year, 2, 29)), 0);
    assert.equal(minutesOf(Date.UTC(year, 5, 28)), 15);
  });

  it('lets the first window that holds decide, and the plan where it says nothing', () => {
    const plan = {
      upload: 7,
      download: 8,
      timezone: 'UTC',
      schedule: [
        { days: [1], fromMinute: 600, toMinute: 660, upload: 1, download: undefined },
        { days: [1], fromMinute: 0, toMinute: 1440, upload: 2, download: 3 },
      ],
    };
    const at = (minute: number, day = 1) => {
      const { upload, download } = limitsAt(plan, { day, minute });
      return [upload, download];
    };
    assert.deepEqual(at(599), [2, 3]);
    assert.deepEqual(at(600), [1, 8]);
    assert.deepEqual(at(660), [2, 3]);
    assert.deepEqual(at(600, 2), [7, 8]);
  });
});
