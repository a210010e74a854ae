import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { formatKey, parseKey } from '../../../src/config/key.js';

const key = new Uint8Array(32).map((_, index) => index * 7);

describe('the key file', () => {
  it('is read as it was written', () => {
    assert.deepEqual(parseKey(formatKey(key), 'k'), key);
  });
  const wrong: readonly (readonly [string, string, string])[] = [
    ['too short', formatKey(key.subarray(1)), '/k: the key has 31 bytes, not 32; restore the file from its backup'],
    ['no base64', 'hello world', '/k: this is not a key; a key is 32 bytes in base64'],
    ['empty', '', '/k: this is not a key; a key is 32 bytes in base64'],
  ];
  for (const [what, content, message] of wrong) {
    it(`is refused when ${what}, without showing it`, () => {
      assert.throws(() => parseKey(content, '/k'), { code: 'key-invalid', message });
    });
  }
});
