import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { GatewayError } from '../../../src/base/errors.js';
import { formatReceipt, issueReceipt, missingText, parseReceipt, verifyReceipt } from '../../../src/remote/receipt.js';
import { ObjectSealer } from '../../../src/remote/seal.js';
import { fixedRandom, link, testSealer, uuid, volumeKey } from './sealed-fixture.js';

const point = { epoch: 3, number: 41, link: link(0xab), lsn: 12345, wallMs: 1_700_000_000_123 };
const receipt = issueReceipt(testSealer(), point);

describe('receipt', () => {
  it('is the line of docs/formats.md', () => {
    assert.equal(
      formatReceipt(receipt),
      `{"keepgateReceipt":2,"volume":"${uuid}","epoch":3,"segment":41,"link":"${'ab'.repeat(32)}",` +
        `"lsn":12345,"time":"2023-11-14T22:13:20.123Z",` +
        `"mac":"30a4592dfa1452ab81482e66a25b7a9d6cd9c86dbe8443f510e40a9a24de56a6"}\n`,
    );
  });

  it('comes back as it was, also when JSON tools wrote it anew', () => {
    const text = formatReceipt(receipt);
    for (const written of [text, JSON.stringify(JSON.parse(text), null, 2)]) {
      const parsed = parseReceipt(written, 'r');
      assert.deepEqual(
        { ...parsed, mac: Uint8Array.from(parsed.mac) },
        { ...receipt, mac: Uint8Array.from(receipt.mac) },
      );
      verifyReceipt(testSealer(), parsed);
    }
  });

  it('is refused when a character of it was changed', () => {
    const text = formatReceipt(receipt).trim();
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom('0', '7', 'f', '"', ' '), (at, character) => {
        fc.pre(text[at] !== character && character.trim() !== (text[at] ?? '').trim());
        refusesText(text.slice(0, at) + character + text.slice(at + 1));
      }),
    );
  });

  it('is refused when it is something else, or was made without the volume’s key', () => {
    for (const text of ['', '{}', 'null', '[]', '"x"', '{"keepgateReceipt":2}', '{"keepgateReceipt":1}'])
      refusesText(text);
    assert.throws(() => parseReceipt('{"keepgateReceipt":3}', 'r'), { code: 'format-newer' });
    const stranger = new ObjectSealer({ key: volumeKey.map((byte) => byte ^ 1), uuid, random: fixedRandom });
    assert.throws(() => verifyReceipt(stranger, receipt), { code: 'receipt-invalid' });
    const other = new ObjectSealer({ key: volumeKey, uuid: uuid.replace('0', 'f'), random: fixedRandom });
    assert.throws(() => verifyReceipt(other, receipt), { code: 'receipt-unmet' });
  });

  it('says how much is missing', () => {
    const end = { ...point, number: 30, lsn: 12000, wallMs: point.wallMs - 3 * 86_400_000 };
    assert.match(missingText(end, receipt), /at least 11 segments \(345 LSNs, 3 days\) are missing/);
    const nothing = { epoch: 0, number: 0, link: link(0), lsn: 0, wallMs: 0 };
    assert.match(missingText(nothing, receipt), /at least 41 segments \(12345 LSNs\) are missing: nothing is left/);
  });
});

function refusesText(text: string): void {
  assert.throws(
    () => verifyReceipt(testSealer(), parseReceipt(text, 'file.json')),
    (error) =>
      error instanceof GatewayError &&
      ['receipt-invalid', 'receipt-unmet', 'format-newer'].includes(error.code) &&
      !error.message.includes('\n'),
    text,
  );
}
