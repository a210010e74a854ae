import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { FillRate } from '../../../src/gateway/fill-rate.js';

describe('time to full', () => {
  it('is never while nothing is known, or the buffer empties', () => {
    const rate = new FillRate();
    assert.equal(rate.timeToFullSeconds(0, 50, 100), Infinity);
    assert.equal(rate.timeToFullSeconds(1000, 40, 100), Infinity);
  });

  it('follows the growth of the last half minute', () => {
    const rate = new FillRate();
    rate.timeToFullSeconds(0, 0, 1000);
    assert.equal(rate.timeToFullSeconds(10_000, 100, 1000), 90);
    assert.equal(rate.timeToFullSeconds(35_000, 100, 1000), Infinity);
    assert.equal(rate.timeToFullSeconds(40_000, 1000, 1000), 0);
  });
});
