import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { chainOrigin, describePoint, pointAsJson } from '../../../src/remote/segment-point.js';

describe('a recovery point', () => {
  it('is said with its time, and a volume that was never written has none', () => {
    const point = { epoch: 2, number: 7, link: new Uint8Array(32), lsn: 40, wallMs: Date.UTC(2026, 10, 26) };
    assert.equal(describePoint(point), 'recovery point 2-7 of 2026-11-26T00:00:00.000Z');
    assert.deepEqual(pointAsJson(point), { lsn: 40, epoch: 2, segment: 7, time: '2026-11-26T00:00:00.000Z' });
    for (const none of [undefined, chainOrigin]) {
      assert.equal(describePoint(none), 'no recovery point');
      assert.equal(pointAsJson(none), null);
    }
  });
});
