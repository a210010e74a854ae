import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { limits } from '../../../../src/base/limits.js';
import { defaultParameters, negotiate, rows } from '../../../../src/frontends/iscsi/parameter.js';
import { formatText, parseBinary, parseNumber, parseText } from '../../../../src/frontends/iscsi/text.js';

const normal = { discovery: false, digests: 'offered', leading: true } as const;

describe('negotiation', () => {
  it('never gives a result that neither side could have, whatever is offered', () => {
    const key = fc.constantFrom(...rows.map((row) => row.key));
    const value = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.constantFrom('Yes', 'No', 'None', 'CRC32C', 'CRC32C,None'),
      fc.integer({ min: -5, max: 2 ** 32 }).map(String),
      fc.integer({ min: 0, max: 2 ** 32 }).map((number) => `0x${number.toString(16)}`),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(key, value), { maxLength: 30 }), (offers) => {
        const parameters = defaultParameters();
        for (const [each, offer] of offers) {
          const answer = negotiate(each, offer, parameters, normal);
          assert(answer.length <= 255);
        }
        assert(parameters.burstBytesMax >= 512 && parameters.burstBytesMax <= limits.iscsiBurstBytesMax);
        assert(parameters.firstBurstBytesMax >= 512 && parameters.firstBurstBytesMax <= limits.iscsiFirstBurstBytesMax);
        assert(parameters.sendSegmentBytesMax >= 512 && parameters.sendSegmentBytesMax < 2 ** 24);
        assert(parameters.outstandingR2TMax >= 1 && parameters.outstandingR2TMax <= limits.iscsiOutstandingR2TMax);
      }),
    );
  });

  it('of numbers is symmetric: the answer, offered again, is answered with itself', () => {
    for (const { key } of rows) {
      fc.assert(
        fc.property(fc.integer({ min: 0, max: 2 ** 24 }), (offer) => {
          const answer = negotiate(key, String(offer), defaultParameters(), normal);
          if (!/^\d+$/.test(answer)) return;
          assert.equal(negotiate(key, answer, defaultParameters(), normal), answer);
        }),
        { numRuns: 30 },
      );
    }
  });

  it('leaves a parameter alone when it rejects', () => {
    for (const { key } of rows) {
      const parameters = defaultParameters();
      const answer = negotiate(key, '~', parameters, normal);
      assert.equal(answer, 'Reject', key);
      assert.deepEqual(parameters, defaultParameters());
    }
  });
});

describe('text', () => {
  it('comes back as it was written', () => {
    const key = fc.stringMatching(/^[A-Z][A-Za-z0-9.+@_-]{0,62}$/);
    const value = fc.stringMatching(/^[ -~]{0,255}$/);
    fc.assert(
      fc.property(fc.array(fc.tuple(key, value), { maxLength: 20 }), (items) => {
        const pairs = items.map(([name, given]) => ({ key: name, value: given }));
        assert.deepEqual(parseText(formatText(pairs)), pairs);
      }),
    );
  });

  it('reads numbers and binary values in their forms only', () => {
    assert.deepEqual(['0', '10', '0x1F', '0XfF', '4294967295'].map(parseNumber), [0, 10, 31, 255, 4294967295]);
    for (const wrong of ['', '-1', '1.5', '1e3', ' 1', '0x', '0xg', '12345678901']) {
      assert.equal(parseNumber(wrong), undefined, wrong);
    }
    assert.deepEqual(parseBinary('0x00ff', 2), Buffer.from([0, 255]));
    assert.deepEqual(parseBinary('0bAP8=', 2), Buffer.from([0, 255]));
    for (const wrong of ['00ff', '0x0', '0xzz', '0x000000', '0b****'])
      assert.equal(parseBinary(wrong, 2), undefined, wrong);
  });
});
