import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { formatNbdUri, parseNbdUri } from '../../../src/nbd-client/uri.js';

function isRefused(text: string, reason: RegExp, form: string): void {
  assert.throws(
    () => parseNbdUri(text),
    (error) =>
      error instanceof GatewayError &&
      error.code === 'config-invalid' &&
      reason.test(error.message) &&
      error.message.includes(form),
  );
}

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
      assert.deepEqual(parseNbdUri(text), { address, exportName, tls: undefined });
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
    it(`${text} is refused with the reason and the right form`, () => isRefused(text, reason, 'nbd://HOST'));
  }

  it('with TLS says by what both sides prove who they are', () => {
    const byCertificates = parseNbdUri('nbds://gate.example:1/disk0?tls-certificates=/etc/tls');
    assert.deepEqual(byCertificates, {
      address: { kind: 'tcp', host: 'gate.example', port: 1 },
      exportName: 'disk0',
      tls: { proof: { kind: 'certificates', directory: '/etc/tls' }, hostname: 'gate.example' },
    });
    const byKey = parseNbdUri('nbds://a%20b@[::1]/disk0?tls-psk-file=/etc/keys.psk&tls-hostname=gate');
    assert.deepEqual(byKey, {
      address: { kind: 'tcp', host: '::1', port: 10809 },
      exportName: 'disk0',
      tls: { proof: { kind: 'pre-shared key', file: '/etc/keys.psk', user: 'a b' }, hostname: 'gate' },
    });
  });

  for (const [text, reason] of [
    ['nbds://gate/disk0', /\?tls-certificates= or \?tls-psk-file= is missing/],
    ['nbds://gate/disk0?tls-psk-file=/keys', /whose key/],
    ['nbds://alice@gate/disk0?tls-psk-file=keys', /absolute/],
    ['nbds://alice:secret@gate/disk0?tls-psk-file=/keys', /stand in a file/],
    ['nbds://gate/disk0?tls-certificates=here', /absolute/],
    ['nbds://alice@gate/disk0?tls-certificates=/tls', /goes with \?tls-psk-file=/],
    ['nbds://gate/disk0?tls-certificates=/tls&tls-psk-file=/keys', /one proof/],
  ] as const) {
    it(`${text} is refused with the reason and the right form`, () => isRefused(text, reason, 'nbds://HOST'));
  }

  it('with TLS over a Unix socket is refused: the kernel has none there', () => {
    assert.throws(
      () => parseNbdUri('nbds+unix:///disk0?socket=/s'),
      (error) => error instanceof GatewayError && error.code === 'not-supported',
    );
  });

  it('is written so that it is read as the same', () => {
    for (const address of [
      { kind: 'tcp', host: 'gate', port: 10809 },
      { kind: 'tcp', host: '::1', port: 7 },
      { kind: 'unix', path: '/run/nbd.sock' },
    ] as const) {
      assert.deepEqual(parseNbdUri(formatNbdUri(address, 'disk0')), { address, exportName: 'disk0', tls: undefined });
    }
    assert.equal(formatNbdUri({ kind: 'tcp', host: 'gate', port: 10809 }, 'disk0'), 'nbd://gate/disk0');
  });
});
