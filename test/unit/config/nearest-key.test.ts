import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { editDistance, nearestKey } from '../../../src/config/nearest-key.js';

describe('the nearest key', () => {
  it('counts a swap of neighbours as one edit', () => {
    assert.equal(editDistance('listne', 'listen'), 1);
    assert.equal(editDistance('kitten', 'sitting'), 3);
    assert.equal(editDistance('', 'abc'), 3);
  });
  it('ignores case', () => assert.equal(nearestKey('DATADIR', ['dataDir', 'keyFile']), 'dataDir'));
  it('does not guess wildly', () => assert.equal(nearestKey('zzzzzz', ['dataDir', 'keyFile']), undefined));
});
