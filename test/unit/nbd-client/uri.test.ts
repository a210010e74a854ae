import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { formatNbdUri, parseNbdUri } from '../../../src/nbd-client/uri.js';

describe('an NBD URI', () => {
  for (const [text, address, exportName] of [
    ['nbd://gate/disk0', { kind: 'tcp', host: 'gate', port: 10809 }, 'disk0'],
    ['nbd://10.0.2.2:10810/disk0', { kind: 'tcp', host: '10.0.2.2', port: 10810 }, 'disk0'],
    ['nbd://[2001:db8::7]:1/disk0', { kind: 'tcp', host: '2001:db8::7', port: 1 }, 'disk0'],
    ['nbd://gate', { kind: 'tcp', host: 'gate', port: 10809 }, ''],
    ['nbd://gate/a%20b%2Fc', { kind: 'tcp', host: 'gate', port: 10809 }, 'a b/c'],
    ['nbd+unix:///disk0?socket=/run/keepgate/nbd.sock', { kind: 'unix', path: '/run/keepgate/nbd.sock' }, 'disk0'],
  ] as const) {
    it(`${text} is read`, () => {
      assert.deepEqual(parseNbdUri(text), { address, exportName });
    });
  }

  for (const [text, reason] of [
    ['disk0', /cannot be read/],
    ['http://gate/disk0', /another protocol/],
    ['nbd:///disk0', /host is missing/],
    ['nbd://user@gate/disk0', /nobody is logged in/],
    ['nbd://gate/%zz', /hexadecimal/],
    ['nbd+unix:///disk0', /\?socket=/],
    ['nbd+unix:///disk0?socket=relative', /\?socket=/],
    ['nbd+unix://gate/disk0?socket=/s', /three slashes/],
  ] as const) {
    it(`${text} is refused with the reason and the right form`, () => {
      assert.throws(
        () => parseNbdUri(text),
        (error) =>
          error instanceof GatewayError &&
          error.code === 'config-invalid' &&
          reason.test(error.message) &&
          error.message.includes('nbd://HOST'),
      );
    });
  }

  it('with TLS is refused, since the kernel has none', () => {
    for (const text of ['nbds://gate/disk0', 'nbds+unix:///disk0?socket=/s']) {
      assert.throws(() => parseNbdUri(text), (error) => error instanceof GatewayError && error.code === 'not-supported'); // prettier-ignore
    }
  });

  it('is written so that it is read as the same', () => {
    for (const address of [
      { kind: 'tcp', host: 'gate', port: 10809 },
      { kind: 'tcp', host: '::1', port: 7 },
      { kind: 'unix', path: '/run/nbd.sock' },
    ] as const) {
      assert.deepEqual(parseNbdUri(formatNbdUri(address, 'disk0')), { address, exportName: 'disk0' });
    }
    assert.equal(formatNbdUri({ kind: 'tcp', host: 'gate', port: 10809 }, 'disk0'), 'nbd://gate/disk0');
  });
});
