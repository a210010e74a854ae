import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { InvariantError } from '../../../src/base/assert.js';
import { ByteReader, ByteWriter, equalBytes } from '../../../src/base/bytes.js';
import { GatewayError } from '../../../src/base/errors.js';

describe('bytes', () => {
  it('is little-endian, without padding', () => {
    const writer = new ByteWriter(1);
    writer.u8(0x01);
    writer.u16(0x0203);
    writer.u32(0x04050607);
    writer.u48(0x08090a0b0c0d);
    writer.u64(0x0e0f1011121314);
    writer.text('é');
    writer.zeros(2);
    writer.bytes(Uint8Array.of(0xff));
    assert.equal(
      Buffer.from(writer.finish()).toString('hex'),
      '01' + '0302' + '07060504' + '0d0c0b0a0908' + '14131211100f0e00' + '0200c3a9' + '0000' + 'ff',
    );
  });

  it('reads back every number in range, and refuses to write another', () => {
    const widths = { u8: 2 ** 8, u16: 2 ** 16, u32: 2 ** 32, u48: 2 ** 48, u64: 2 ** 53 } as const;
    for (const [name, limit] of Object.entries(widths) as [keyof typeof widths, number][]) {
      fc.assert(
        fc.property(fc.oneof(fc.maxSafeNat(), fc.constantFrom(0, limit - 1)), (value) => {
          const fitting = value % limit;
          const writer = new ByteWriter();
          writer[name](fitting);
          assert.equal(new ByteReader(writer.finish(), 'x')[name](), fitting);
        }),
        { numRuns: 50 },
      );
      for (const wrong of [-1, 0.5, limit, NaN]) assert.throws(() => new ByteWriter()[name](wrong), InvariantError);
    }
  });

  it('names the object when its bytes end, a number is too large, a text is no UTF-8', () => {
    const failures: [Uint8Array, (reader: ByteReader) => unknown, RegExp][] = [
      [new Uint8Array(7), (reader) => reader.u64(), /^thing: it ends at byte 7, inside a field$/],
      [new Uint8Array(8).fill(0xff), (reader) => reader.u64(), /^thing: the number at byte 0 is too large$/],
      [Uint8Array.of(1, 0, 0xff), (reader) => reader.text(), /^thing: the text at byte 2 is not UTF-8$/],
      [Uint8Array.of(2, 0, 0, 0, 1, 2, 3), (reader) => reader.count(2), /^thing: the count 2 at byte 0 is too large$/],
      [Uint8Array.of(0, 0, 1), (reader) => reader.endOfZeros(), /^thing: unexpected byte at 2$/],
      [new Uint8Array(2), (reader) => reader.bytes(3), /^thing: it ends at byte 2/],
    ];
    for (const [bytes, read, message] of failures) {
      assert.throws(
        () => read(new ByteReader(bytes, 'thing')),
        (error) => error instanceof GatewayError && error.code === 'object-damaged' && message.test(error.message),
      );
    }
    assert.throws(() => new ByteReader(new Uint8Array(0), 'f', 'format-unknown').u8(), { code: 'format-unknown' });
  });

  it('compares bytes by length and content', () => {
    assert.ok(equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2)));
    assert.ok(!equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
    assert.ok(!equalBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2, 3)));
  });
});
