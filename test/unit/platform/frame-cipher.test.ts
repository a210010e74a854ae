import assert from 'node:assert/strict';
import { createDecipheriv } from 'node:crypto';
import { describe, it } from 'node:test';
import { nativeFrameCipher } from '../../../src/platform/frame-cipher.js';
import { plainFrameCipher } from '../../../src/remote/plain-frame-cipher.js';
import { ObjectSealer } from '../../../src/remote/seal.js';
import type { FrameCipher } from '../../../src/ports/frame-cipher.js';
import { fixedRandom, uuid, volumeKey } from '../remote/sealed-fixture.js';

const BLOCK = 4096;
const TAG = 16;
const key = Uint8Array.from({ length: 32 }, (_, at) => 7 * at + 1);
const nonce = Uint8Array.from({ length: 12 }, (_, at) => at);
const associated = new TextEncoder().encode('which frame of which object');
const sample = (lengthBytes: number): Uint8Array =>
  Uint8Array.from({ length: lengthBytes }, (_, at) => (at * 31 + (at >> 12) * 17) & 0xff);

// Node always brings its OpenSSL in the builds that the project supports.
const native = nativeFrameCipher();
const ciphers: readonly (readonly [string, FrameCipher | undefined])[] = [
  ['the addon', native],
  ['node:crypto', plainFrameCipher],
];

for (const [name, cipher] of ciphers) {
  describe(`frames that ${name} seals`, () => {
    assert.ok(cipher !== undefined, 'Node’s OpenSSL is missing');

    const open = (sealed: Uint8Array): Buffer => {
      const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(associated);
      decipher.setAuthTag(sealed.subarray(-TAG));
      return Buffer.concat([decipher.update(sealed.subarray(0, -TAG)), decipher.final()]);
    };

    for (const lengthBytes of [0, 1, 15, 16, 17, 4095, 65_537, 262_144, 1_000_003]) {
      it(`hold ${lengthBytes} bytes and a tag, and nothing around them changes`, () => {
        const plain = sample(lengthBytes);
        const target = new Uint8Array(lengthBytes + TAG + 20).fill(0xee);
        cipher.sealFrame(key, nonce, associated, plain, undefined, target, 9);
        assert.ok(open(target.subarray(9, 9 + lengthBytes + TAG)).equals(plain));
        assert.ok(target.subarray(0, 9).every((byte) => byte === 0xee));
        assert.ok(target.subarray(9 + lengthBytes + TAG).every((byte) => byte === 0xee));
      });
    }

    it('gather blocks in the order that is asked for', () => {
      const plain = sample(40 * BLOCK);
      for (const order of [
        [],
        [0],
        [39],
        [5, 6, 7],
        [7, 6, 5],
        [3, 3, 39, 0, 1, 2, 38, 39],
        [...plain.keys()].slice(0, 40),
      ]) {
        const target = new Uint8Array(order.length * BLOCK + TAG);
        cipher.sealFrame(key, nonce, associated, plain, Uint32Array.from(order), target, 0);
        const gathered = order.map((block) => plain.subarray(block * BLOCK, (block + 1) * BLOCK));
        assert.ok(open(target).equals(Buffer.concat(gathered)), order.join());
      }
    });

    it('forget the key, nonce and associated data of the frame before', () => {
      const other = new Uint8Array(100 + TAG);
      cipher.sealFrame(
        key.map((byte) => byte ^ 1),
        nonce.map((byte) => byte ^ 1),
        sample(500),
        sample(100),
        undefined,
        other,
        0,
      );
      const target = new Uint8Array(100 + TAG);
      cipher.sealFrame(key, nonce, associated, sample(100), undefined, target, 0);
      assert.ok(open(target).equals(sample(100)));
    });
  });
}

describe('objects', () => {
  it('are the same bytes whichever cipher seals them', () => {
    const sealers = ciphers.map(
      ([, cipher]) => new ObjectSealer({ key: volumeKey, uuid, random: fixedRandom, cipher }),
    );
    const identity = { kind: 'segment', name: 'it', epoch: 3, number: 5, part: 0 } as const;
    const plain = sample(130 * BLOCK);
    const blocks = Uint32Array.from({ length: 129 }, (_, at) => (at * 37) % 130);
    for (const options of [{}, { blocks }]) {
      const [left, right] = sealers.map((sealer) => sealer.seal(identity, sample(700), plain, options).bytes);
      assert.ok(left !== undefined && right !== undefined && Buffer.from(left).equals(right));
    }
    const gathered = Buffer.concat([...blocks].map((block) => plain.subarray(block * BLOCK, (block + 1) * BLOCK)));
    const [sealer] = sealers;
    assert.ok(sealer !== undefined);
    const sealed = sealer.seal(identity, sample(700), plain, { blocks }).bytes;
    assert.ok(Buffer.from(sealer.openWhole(identity, sealed).body).equals(gathered));
  });
});

describe('the addon’s cipher', () => {
  it('refuses what it cannot do, and touches nothing then', () => {
    assert.ok(native !== undefined);
    const plain = sample(2 * BLOCK);
    const target = new Uint8Array(2 * BLOCK + TAG);
    const seal = (change: Readonly<Record<number, unknown>>): void => {
      const all: unknown[] = [key, nonce, associated, plain, undefined, target, 0];
      for (const [index, value] of Object.entries(change)) all[Number(index)] = value;
      native.sealFrame(...(all as Parameters<FrameCipher['sealFrame']>));
    };
    const outside: readonly Readonly<Record<number, unknown>>[] = [
      { 0: key.subarray(1) },
      { 1: nonce.subarray(1) },
      { 4: Uint32Array.of(0, 2) },
      { 4: Uint32Array.of(0xffff_ffff) },
      { 4: Uint32Array.of(0, 1, 0) },
      { 5: target.subarray(1) },
      { 5: new Uint8Array(0) },
      { 6: 1 },
      { 6: Number.MAX_SAFE_INTEGER },
      { 6: -1 },
      { 3: target.subarray(0, 2 * BLOCK) },
    ];
    for (const change of outside) assert.throws(() => seal(change), RangeError, JSON.stringify(Object.keys(change)));
    for (const index of [0, 1, 2, 3, 5]) assert.throws(() => seal({ [index]: 'text' }), TypeError);
    assert.throws(() => seal({ 4: [0] }), TypeError);
    assert.ok(target.every((byte) => byte === 0));
    seal({});
  });
});
