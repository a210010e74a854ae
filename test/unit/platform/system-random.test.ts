import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SystemRandom } from '../../../src/platform/system-random.js';

const random = new SystemRandom();

describe('the system randomness', () => {
  it('gives as many bytes as asked for, never the same', () => {
    assert.equal(random.bytes(0).length, 0);
    assert.equal(random.bytes(33).length, 33);
    assert.notDeepEqual(random.bytes(16), random.bytes(16));
  });

  it('gives fractions from all over [0, 1)', () => {
    const fractions = Array.from({ length: 1000 }, () => random.fraction());
    assert.ok(fractions.every((fraction) => fraction >= 0 && fraction < 1));
    // The chance that a thousand of them miss a tenth altogether is below 10^-44.
    for (let tenth = 0; tenth < 10; tenth++) {
      assert.ok(fractions.some((fraction) => Math.floor(fraction * 10) === tenth));
    }
  });

  it('gives version 4 UUIDs', () => {
    const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
    assert.match(random.uuid(), uuid);
    assert.notEqual(random.uuid(), random.uuid());
  });
});
