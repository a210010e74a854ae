import assert from 'node:assert/strict';
import { createDecipheriv, createHash, createHmac, hkdfSync } from 'node:crypto';
import { describe, it } from 'node:test';
import { ObjectSealer } from '../../../src/remote/seal.js';
import type { ObjectIdentity } from '../../../src/remote/seal.js';
import { FRAME_PLAIN_BYTES, FRAME_SEALED_BYTES, HEADER_BYTES } from '../../../src/remote/seal-header.js';
import { fixedRandom, hex, refuses, refusesDamage, testSealer, uuid, volumeKey } from './sealed-fixture.js';

const identity: ObjectIdentity = { kind: 'mapShard', name: 'the shard', epoch: 3, number: 5, part: 7 };
const index = new TextEncoder().encode('what the index says');
const body = Uint8Array.from({ length: FRAME_PLAIN_BYTES + 1000 }, (_, at) => at % 251);

describe('sealed objects', () => {
  it('have the bytes of docs/formats.md', () => {
    const { bytes, link } = testSealer().seal(identity, index, body);
    assert.equal(
      hex(bytes.subarray(0, HEADER_BYTES)),
      '4b45455047415445' + // KEEPGATE
        '0100' + // format version
        '07' + // kind: map shard
        '00' +
        '10020000' + // 512 bytes of index and a tag
        '6006040000000000' + // length of the object
        '31815df97442e03296463b1edf94bd3b' + // key id
        'afa0793947a537bd0393b2487cd89f2a361a8df3925cd6880c94d8a2bb8cf9d1', // salt
    );
    assert.equal(hex(link), '8d577b325a64867ac59c054e17f47d94e0c95eeb13dcd441f6a9ebd13b702d6f');
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '1765bb021134f2d4c3d8e521eaeffab5bbd441798ddebaac11c71bafbca44864',
    );
  });

  it('open with nothing but the page: AES-256-GCM, HKDF, HMAC, done by hand', () => {
    const { bytes, link } = testSealer().seal(identity, index, body);
    const header = bytes.subarray(0, HEADER_BYTES);
    const keyId = createHmac('sha256', volumeKey).update('keepgate key id').digest().subarray(0, 16);
    assert.equal(hex(header.subarray(24, 40)), hex(keyId));
    const padded = Buffer.concat([index, Buffer.alloc(512 - index.length)]);
    const salt = createHmac('sha256', volumeKey).update(Buffer.alloc(32, 0x5a)).update(padded).digest();
    assert.equal(hex(header.subarray(40, 72)), hex(salt));
    const uuidBytes = Buffer.from(uuid.replaceAll('-', ''), 'hex');
    const info = Buffer.concat([Buffer.from('keepgate object'), uuidBytes, Buffer.from([7, 1, 0])]);
    const key = Buffer.from(hkdfSync('sha256', volumeKey, salt, info, 32));
    const open = (frame: number, last: boolean, sealed: Uint8Array): Buffer => {
      const nonce = Buffer.alloc(12);
      nonce.writeUInt32LE(frame);
      const numbers = Buffer.alloc(24);
      numbers.writeBigUInt64LE(3n, 0);
      numbers.writeBigUInt64LE(5n, 8);
      numbers.writeUInt32LE(7, 16);
      numbers.writeUInt32LE(frame, 20);
      const headerHash = createHash('sha256').update(header).digest();
      const decipher = createDecipheriv('aes-256-gcm', key, nonce);
      decipher.setAAD(Buffer.concat([uuidBytes, Buffer.from([7, last ? 1 : 0]), numbers, headerHash]));
      decipher.setAuthTag(sealed.subarray(-16));
      return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
    };
    const bodyStart = HEADER_BYTES + 512 + 16;
    assert.deepEqual(open(0, false, bytes.subarray(HEADER_BYTES, bodyStart)), padded);
    const first = open(1, false, bytes.subarray(bodyStart, bodyStart + FRAME_SEALED_BYTES));
    const second = open(2, true, bytes.subarray(bodyStart + FRAME_SEALED_BYTES));
    assert.deepEqual(Buffer.concat([first, second]), Buffer.from(body));
    assert.equal(hex(link), hex(createHash('sha256').update(bytes.subarray(0, bodyStart)).digest()));
  });

  it('give back index and body, whole or frame by frame', () => {
    const sealer = testSealer();
    for (const lengthBytes of [0, 1, FRAME_PLAIN_BYTES - 1, FRAME_PLAIN_BYTES, body.length]) {
      const part = body.subarray(0, lengthBytes);
      const { bytes, header } = sealer.seal(identity, index, part);
      const opened = sealer.openWhole(identity, bytes);
      assert.deepEqual(Buffer.from(opened.body), Buffer.from(part));
      assert.equal(Buffer.from(opened.index).subarray(0, index.length).toString(), 'what the index says');
      const frames = sealer.frames(identity, header);
      assert.equal(frames.count, Math.ceil(lengthBytes / FRAME_PLAIN_BYTES));
      for (let frame = 0; frame < frames.count; frame++) {
        const { start, lengthBytes: sealedBytes } = frames.range(frame);
        const plain = frames.open(frame, bytes.subarray(start, start + sealedBytes));
        const expected = part.subarray(frame * FRAME_PLAIN_BYTES, (frame + 1) * FRAME_PLAIN_BYTES);
        assert.deepEqual(Buffer.from(plain), Buffer.from(expected));
      }
    }
  });

  it('differ in key when the random bytes repeat but the index does not', () => {
    const sealer = testSealer();
    const one = sealer.seal(identity, index, body);
    const other = sealer.seal(identity, new TextEncoder().encode('something else'), body);
    assert.notEqual(hex(one.header.salt), hex(other.header.salt));
    const bodyStart = HEADER_BYTES + one.header.indexSealedBytes;
    assert.notEqual(
      hex(one.bytes.subarray(bodyStart, bodyStart + 64)),
      hex(other.bytes.subarray(bodyStart, bodyStart + 64)),
    );
  });

  it('are refused when any byte changed or is missing', () => {
    const sealer = testSealer();
    const { bytes } = sealer.seal(identity, index, body.subarray(0, 900));
    refusesDamage(identity.name, bytes, (changed) => sealer.openWhole(identity, changed));
  });

  it('are refused under another name, number, part or kind, or for another volume or key', () => {
    const sealer = testSealer();
    const { bytes } = sealer.seal(identity, index, body);
    const others: Partial<ObjectIdentity>[] = [{ epoch: 4 }, { number: 6 }, { part: 8 }, { kind: 'tableShard' }];
    for (const other of others) {
      refuses(() => sealer.open({ ...identity, ...other }, bytes), identity.name, 'object-damaged');
    }
    const otherVolume = new ObjectSealer({ key: volumeKey, uuid: uuid.replace('00', '01'), random: fixedRandom });
    refuses(() => otherVolume.open(identity, bytes), identity.name, 'object-damaged');
    const otherKey = new ObjectSealer({ key: volumeKey.toReversed(), uuid, random: fixedRandom });
    refuses(() => otherKey.open(identity, bytes), identity.name, 'object-damaged');
  });

  it('do not let frames be swapped, cut off, or taken from another object', () => {
    const sealer = testSealer();
    const threeFrames = Buffer.concat([body, body]);
    const { bytes, header } = sealer.seal(identity, index, threeFrames);
    const frames = sealer.frames(identity, header);
    const sealed = (frame: number): Uint8Array => {
      const { start, lengthBytes } = frames.range(frame);
      return bytes.subarray(start, start + lengthBytes);
    };
    refuses(() => frames.open(0, sealed(1)), identity.name, 'object-damaged');
    refuses(() => frames.open(3, sealed(2)), identity.name, 'object-damaged');
    refuses(() => frames.open(2, sealed(2).subarray(1)), identity.name, 'object-damaged');
    const other = sealer.seal(identity, new TextEncoder().encode('other'), threeFrames);
    const start = frames.range(0).start;
    refuses(
      () => frames.open(0, other.bytes.subarray(start, start + FRAME_SEALED_BYTES)),
      identity.name,
      'object-damaged',
    );
    // A provider that drops the last frames and adapts the lengths is found by the header's hash.
    const cut = Buffer.from(bytes.subarray(0, frames.range(1).start));
    cut.writeBigUInt64LE(BigInt(cut.length), 16);
    refuses(() => sealer.openWhole(identity, cut), identity.name, 'object-damaged');
  });

  it('of a newer format are refused as such', () => {
    const sealer = testSealer();
    const { bytes } = sealer.seal(identity, index);
    bytes[8] = 2;
    refuses(() => sealer.open(identity, bytes), identity.name, 'format-newer');
  });

  it('show nothing of what they hold', () => {
    const { bytes } = testSealer().seal(identity, index, body);
    assert.equal(Buffer.from(bytes).indexOf(Buffer.from('index')), -1);
    for (let at = 0; at + 16 <= body.length; at += 251) {
      assert.equal(Buffer.from(bytes).indexOf(body.subarray(at, at + 16)), -1);
    }
  });
});
