import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { GatewayError } from '../../../src/base/errors.js';
import { formatReceipt, parseReceipt } from '../../../src/remote/receipt.js';
import { link, uuid } from './sealed-fixture.js';

const receipt = { volume: uuid, epoch: 3, number: 41, link: link(0xab), lsn: 12345, wallMs: 1_700_000_000_123 };

describe('receipt', () => {
  it('is the line of docs/formats.md', () => {
    assert.equal(
      formatReceipt(receipt),
      `{"keepgateReceipt":1,"volume":"${uuid}","epoch":3,"segment":41,"link":"${'ab'.repeat(32)}",` +
        `"lsn":12345,"time":"2023-11-14T22:13:20.123Z","check":"c38cd2cd2e3040e7"}\n`,
    );
  });

  it('comes back as it was, also when JSON tools wrote it anew', () => {
    const text = formatReceipt(receipt);
    for (const written of [text, JSON.stringify(JSON.parse(text), null, 2)]) {
      const parsed = parseReceipt(written, 'r');
      assert.deepEqual({ ...parsed, link: Uint8Array.from(parsed.link) }, receipt);
    }
  });

  it('is refused when a character of it was changed', () => {
    const text = formatReceipt(receipt).trim();
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom('0', '7', 'f', '"', ' '), (at, character) => {
        fc.pre(text[at] !== character && character.trim() !== (text[at] ?? '').trim());
        const changed = text.slice(0, at) + character + text.slice(at + 1);
        refusesText(changed);
      }),
    );
  });

  it('is refused when it is something else', () => {
    for (const text of ['', '{}', 'null', '[]', '"x"', '{"keepgateReceipt":1}']) refusesText(text);
    assert.throws(() => parseReceipt('{"keepgateReceipt":2}', 'r'), { code: 'format-newer' });
  });
});

function refusesText(text: string): void {
  assert.throws(
    () => parseReceipt(text, 'file.json'),
    (error) =>
      error instanceof GatewayError &&
      ['receipt-invalid', 'format-newer'].includes(error.code) &&
      error.message.startsWith('file.json: ') &&
      !error.message.includes('\n'),
    text,
  );
}
