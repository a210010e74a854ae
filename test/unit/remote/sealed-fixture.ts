/** What the format tests share: fixed keys and randomness, and the ways to damage an object. */
import assert from 'node:assert/strict';
import { GatewayError } from '../../../src/base/errors.js';
import type { ErrorCode } from '../../../src/base/errors.js';
import type { Random } from '../../../src/ports/random.js';
import { ObjectSealer } from '../../../src/remote/seal.js';

export const uuid = '00112233-4455-6677-8899-aabbccddeeff';
export const volumeKey = Uint8Array.from({ length: 32 }, (_, at) => at);

/** Returns 0x5a bytes: what is sealed with it is the same in every run. */
export const fixedRandom: Random = {
  bytes: (count) => new Uint8Array(count).fill(0x5a),
  fraction: () => 0.5,
  uuid: () => 'ffffffff-ffff-4fff-bfff-ffffffffffff',
};

export function testSealer(): ObjectSealer {
  return new ObjectSealer({ key: volumeKey, uuid, random: fixedRandom });
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** 32 bytes of one value. */
export function link(value: number): Uint8Array {
  return new Uint8Array(32).fill(value);
}

/** `run` fails with one of the codes, in one line that names the object. */
export function refuses(run: () => unknown, name: string, ...codes: ErrorCode[]): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof GatewayError, String(error));
    assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
    assert.ok(error.message.startsWith(`${name}: `), error.message);
    assert.ok(!error.message.includes('\n'));
    return true;
  });
}

/**
 * Flips a bit of every byte of the header, of every `step`th byte behind it, and of the last; cuts the object at as many
 * places; and appends a byte: `open` must refuse each. Only the two bytes of the format version may say format-newer.
 */
export function refusesDamage(name: string, bytes: Uint8Array, open: (bytes: Uint8Array) => unknown, step = 13): void {
  assert.doesNotThrow(() => open(bytes), 'the undamaged object opens');
  for (let at = 0; at < bytes.length; at += at < 100 ? 1 : step) damageAt(at);
  damageAt(bytes.length - 1);
  refuses(() => open(Buffer.concat([bytes, new Uint8Array(1)])), name, 'object-damaged');

  function damageAt(at: number): void {
    const changed = Uint8Array.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    const allowed: ErrorCode[] = at === 8 || at === 9 ? ['object-damaged', 'format-newer'] : ['object-damaged'];
    refuses(() => open(changed), name, ...allowed);
    refuses(() => open(bytes.subarray(0, at)), name, 'object-damaged');
  }
}
