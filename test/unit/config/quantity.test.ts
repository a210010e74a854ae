import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { formatBytes, formatDuration, parseDuration, parseRateLimit, parseSize } from '../../../src/config/quantity.js';

describe('sizes', () => {
  const accepted: readonly (readonly [unknown, number])[] = [
    ['100GiB', 107_374_182_400],
    ['1.5 MiB', 1_572_864],
    ['4096', 4096],
    [4096, 4096],
    ['1tb', 1e12],
    ['512B', 512],
  ];
  for (const [raw, bytes] of accepted) it(`reads ${String(raw)}`, () => assert.equal(parseSize(raw), bytes));
  for (const raw of ['', 'GiB', '-1MiB', '1XiB', '0.3B', '1e3', null, {}, 1.5, -1, '9999999TiB']) {
    it(`refuses ${JSON.stringify(raw)}`, () => assert.throws(() => parseSize(raw), { name: 'WrongValue' }));
  }
});

describe('rates', () => {
  const accepted: readonly (readonly [string, number | string])[] = [
    ['unlimited', Infinity],
    ['auto', 'auto'],
    ['20MB/s', 20e6],
    ['5Mbit/s', 625_000],
    ['1 GiB / s', 1_073_741_824],
  ];
  for (const [raw, rate] of accepted) it(`reads ${raw}`, () => assert.equal(parseRateLimit(raw), rate));
  for (const raw of ['20', 20, '20MB', '0MB/s', '5Mbit/h', 'fast']) {
    it(`refuses ${JSON.stringify(raw)}`, () => assert.throws(() => parseRateLimit(raw), { name: 'WrongValue' }));
  }
});

describe('durations', () => {
  const accepted: readonly (readonly [string, number])[] = [
    ['500ms', 500],
    ['10s', 10_000],
    ['5min', 300_000],
    ['24h', 86_400_000],
  ];
  for (const [raw, durationMs] of accepted) it(`reads ${raw}`, () => assert.equal(parseDuration(raw), durationMs));
  for (const raw of ['10', 10, '10 apples', '-1s']) {
    it(`refuses ${JSON.stringify(raw)}`, () => assert.throws(() => parseDuration(raw), { name: 'WrongValue' }));
  }
});

describe('quantities as they are shown', () => {
  it('shows bytes in binary units', () => {
    assert.deepEqual([0, 1023, 1024, 1.5 * 1024 ** 2, 1024 ** 4].map(formatBytes), [
      '0 B',
      '1023 B',
      '1 KiB',
      '1.5 MiB',
      '1 TiB',
    ]);
  });
  it('shows durations in two units', () => {
    assert.deepEqual([5, 1000, 65_000, 3_600_000, 90_061_000].map(formatDuration), [
      '5ms',
      '1s',
      '1min 5s',
      '1h',
      '1d 1h',
    ]);
  });
});
