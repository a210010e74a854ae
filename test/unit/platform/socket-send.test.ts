import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadAddon } from '../../../src/platform/addon.js';

describe('sending past Node', () => {
  const addon = loadAddon();
  const bytes = Buffer.alloc(8);
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };

  it('sends nothing that lies outside of the bytes', () => {
    for (const bad of [-1, 0.5, 9, NaN, 2 ** 53]) {
      assert.throws(() => addon.sendNow(0, bytes, 0, bad), range);
      assert.throws(() => addon.sendNow(0, bytes, bad, 8), range);
    }
    assert.throws(() => addon.sendNow(0, bytes, 5, 4), range);
    assert.throws(() => addon.sendNow(-1, bytes, 0, 8), range);
    assert.throws(() => addon.sendNow(0, 'text' as never, 0, 1), { name: 'TypeError' });
  });

  it('says what is wrong with the descriptor', () => {
    const nobody = 0x7fff_ffff;
    assert.equal(addon.errorText(-addon.sendNow(nobody, bytes, 0, 8)), 'Bad file descriptor');
  });
});
