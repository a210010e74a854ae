import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ProtocolError } from '../../../../src/base/errors.js';
import { PduReader } from '../../../../src/frontends/iscsi/pdu-reader.js';
import type { PduSink } from '../../../../src/frontends/iscsi/pdu-reader.js';
import { plainChecksums } from '../../../fake/checksums.js';
import { pattern } from '../../../fake/iscsi-client.js';

interface Seen {
  readonly header: string;
  readonly data: string;
}

class Collector implements PduSink {
  ready = true;
  readonly seen: Seen[] = [];
  damagedCount = 0;
  #header = '';
  #data: Buffer[] = [];

  pdu(header: Uint8Array, at: number, data: Uint8Array, start: number, end: number): void {
    this.begin(header, at);
    this.piece(data, start, end);
    this.end();
  }

  begin(header: Uint8Array, at: number): void {
    this.#header = Buffer.from(header.subarray(at, at + 48)).toString('hex');
    this.#data = [];
  }

  piece(data: Uint8Array, start: number, end: number): void {
    this.#data.push(Buffer.from(data.subarray(start, end)));
  }

  end(): void {
    this.seen.push({ header: this.#header, data: Buffer.concat(this.#data).toString('hex') });
  }

  damaged(): void {
    this.damagedCount++;
  }
}

interface Form {
  readonly ahsWords: number;
  readonly headerDigest: boolean;
  readonly dataDigest: boolean;
}

function crc(bytes: Uint8Array): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(plainChecksums.crc32c(0, bytes, 0, bytes.length));
  return out;
}

function encode(seed: number, data: Buffer, form: Form): Buffer {
  const header = Buffer.concat([pattern(48, seed), pattern(form.ahsWords * 4, seed + 1)]);
  header[4] = form.ahsWords;
  header.writeUIntBE(data.length, 5, 3);
  const padded = Buffer.concat([data, Buffer.alloc(-data.length & 3)]);
  return Buffer.concat([
    header,
    form.headerDigest ? crc(header) : Buffer.alloc(0),
    padded,
    form.dataDigest && data.length > 0 ? crc(padded) : Buffer.alloc(0),
  ]);
}

function reader(form: Form): [PduReader, Collector] {
  const sink = new Collector();
  const made = new PduReader({ checksums: plainChecksums, sink, dataBytesMax: 1024 });
  made.headerDigest = form.headerDigest;
  made.dataDigest = form.dataDigest;
  return [made, sink];
}

const forms: readonly Form[] = [0, 3].flatMap((ahsWords) =>
  [true, false].flatMap((headerDigest) => [true, false].map((dataDigest) => ({ ahsWords, headerDigest, dataDigest }))),
);

describe('PDU framing', () => {
  it('finds the same PDUs wherever the stream is cut', () => {
    for (const form of forms) {
      const data = [0, 1, 4, 7].map((lengthBytes, index) => pattern(lengthBytes, 40 + index));
      const pdus = data.map((each, index) => encode(index, each, form));
      const bytes = Buffer.concat(pdus);
      const expected = pdus.map((pdu, index) => ({
        header: pdu.toString('hex', 0, 48),
        data: data[index]!.toString('hex'),
      }));
      for (let cut = 0; cut <= bytes.length; cut++) {
        const [made, sink] = reader(form);
        assert.equal(made.receive(bytes, 0, cut), cut);
        assert.equal(made.receive(bytes, cut, bytes.length), bytes.length - cut);
        assert.deepEqual(sink.seen, expected, `cut at ${cut}, ${JSON.stringify(form)}`);
      }
      const [made, sink] = reader(form);
      for (let at = 0; at < bytes.length; at++) assert.equal(made.receive(bytes, at, at + 1), 1);
      assert.deepEqual(sink.seen, expected, 'byte by byte');
    }
  });

  it('sees every single bit that changes in a PDU with digests', () => {
    const form = { ahsWords: 1, headerDigest: true, dataDigest: true };
    const whole = encode(1, pattern(6), form);
    for (let at = 0; at < whole.length; at++) {
      // A length that changes moves what is taken for digests, or exceeds the limit: also an error, or not yet whole.
      if (at >= 4 && at < 8) continue;
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1 << (at % 8);
      for (const cut of [0, 30, 60]) {
        const [made, sink] = reader(form);
        assert.throws(() => {
          made.receive(bytes, 0, cut);
          made.receive(bytes, cut, bytes.length);
        }, ProtocolError);
        assert.deepEqual(sink.seen, []);
        assert.equal(sink.damagedCount, at >= 56 ? 1 : 0, 'damaged data are reported');
      }
    }
  });

  it('refuses a data segment longer than agreed on', () => {
    const form = { ahsWords: 0, headerDigest: false, dataDigest: false };
    const bytes = encode(1, Buffer.alloc(1025), form);
    assert.throws(() => reader(form)[0].receive(bytes, 0, 48), ProtocolError);
    assert.throws(() => reader(form)[0].receive(bytes, 0, bytes.length), ProtocolError);
  });

  it('stops between PDUs while its sink is not ready, without using up a byte of the next', () => {
    const form = { ahsWords: 0, headerDigest: false, dataDigest: false };
    const bytes = Buffer.concat([encode(1, pattern(8), form), encode(2, pattern(4), form)]);
    const [made, sink] = reader(form);
    sink.end = () => {
      Collector.prototype.end.call(sink);
      sink.ready = false;
    };
    assert.equal(made.receive(bytes, 0, bytes.length), 56);
    assert.equal(made.receive(bytes, 56, bytes.length), 0);
    sink.ready = true;
    assert.equal(made.receive(bytes, 56, bytes.length), 52);
    assert.equal(sink.seen.length, 2);
  });
});
