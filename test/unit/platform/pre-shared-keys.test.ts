import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { parsePreSharedKeys } from '../../../src/platform/pre-shared-keys.js';

const key = '0123456789abcdefABCDEF0123456789';

describe('a file of pre-shared keys', () => {
  it('has a user and a key a line, as psktool writes them', () => {
    const keys = parsePreSharedKeys(`alice:${key}\nbob@host.example:${'ff'.repeat(32)}\r\n\n`, 'psk');
    assert.deepEqual([...keys.keys()], ['alice', 'bob@host.example']);
    assert.equal(Buffer.from(keys.get('alice') ?? []).toString('hex'), key.toLowerCase());
  });

  const table: readonly (readonly [what: string, content: string, message: RegExp])[] = [
    ['nothing', '\n', /^psk: there is no key in it; write USER:KEY/],
    ['no colon', `alice:${key}\nbob\n`, /^psk:2: this is not USER:KEY/],
    ['no user', `:${key}`, /^psk:1: this is not USER:KEY/],
    ['a user with a colon', `a:b:${key}`, /^psk:1: this is not USER:KEY/],
    ['a user in hexadecimal, as GnuTLS may have it', `#deadbeef:${key}`, /^psk:1: this is not USER:KEY/],
    ['a user that is too long', `${'a'.repeat(129)}:${key}`, /^psk:1: this is not USER:KEY/],
    ['a key that is no hexadecimal', `alice:${key}zz`, /^psk:1: the key of alice is not hexadecimal$/],
    ['half a byte', `alice:${key}0`, /^psk:1: the key of alice is not hexadecimal$/],
    ['a key that can be guessed', 'alice:0123', /^psk:1: a key has 16 to 256 bytes, that of alice 2$/],
    ['a key without end', `alice:${'00'.repeat(257)}`, /^psk:1: a key has 16 to 256 bytes, that of alice 257$/],
    ['a user twice', `alice:${key}\nalice:${key}`, /^psk:2: alice has a key already, further up$/],
  ];
  for (const [what, content, message] of table) {
    it(`is refused with ${what}, and no key is shown`, () => {
      assert.throws(
        () => parsePreSharedKeys(content, 'psk'),
        (error) => {
          assert(error instanceof GatewayError);
          assert.equal(error.code, 'tls-invalid');
          assert.match(error.message, message);
          assert(!error.message.toLowerCase().includes('0123'));
          return true;
        },
      );
    });
  }
});
