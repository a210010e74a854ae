import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errorCodes } from '../../../src/base/errors.js';
import type { ErrorCode } from '../../../src/base/errors.js';
import { errorSense } from '../../../src/scsi/error-sense.js';
import {
  invalidFieldInCdb,
  invalidFieldInParameterList,
  sense,
  SENSE_BYTES_MAX,
  writeSense,
} from '../../../src/scsi/sense.js';
import type { Sense } from '../../../src/scsi/sense.js';

function encode(what: Sense, descriptorFormat: boolean): string {
  const bytes = new Uint8Array(4 + SENSE_BYTES_MAX).fill(0xee);
  const length = writeSense(bytes, 2, what, descriptorFormat);
  assert.equal(bytes[1], 0xee);
  assert.equal(bytes[2 + SENSE_BYTES_MAX], 0xee);
  return Buffer.from(bytes.subarray(2, 2 + length)).toString('hex');
}

describe('sense data', () => {
  it('are laid out as SPC-4 says', () => {
    assert.equal(encode(sense.lbaOutOfRange, false), '70000500000000' + '0a00000000' + '210000000000');
    assert.equal(encode(sense.powerOn, false), '70000600000000' + '0a00000000' + '290000000000');
    assert.equal(encode(sense.lbaOutOfRange, true), '7205210000000000');
    assert.equal(encode(invalidFieldInCdb(7, 3), false), '70000500000000' + '0a00000000' + '240000' + 'cb0007');
    assert.equal(
      encode(invalidFieldInParameterList(0x102, 7), false),
      '70000500000000' + '0a00000000' + '260000' + '8f0102',
    );
    assert.equal(encode(invalidFieldInCdb(7, 3), true), '7205240000000008' + '02060000' + 'cb000700');
  });

  it('exist for every error code', () => {
    assert.deepEqual(Object.keys(errorSense).sort(), Object.keys(errorCodes).sort());
  });

  it('say what initiators act on', () => {
    const table: readonly (readonly [ErrorCode, number, number, number, number])[] = [
      ['checksum-mismatch', 2, 3, 0x11, 0x00],
      ['read-only', 2, 7, 0x27, 0x00],
      ['fenced', 2, 7, 0x27, 0x00],
      ['disk-full', 2, 7, 0x27, 0x07],
      ['buffer-full', 2, 7, 0x27, 0x07],
      ['out-of-range', 2, 5, 0x21, 0x00],
      ['disk-failed', 2, 4, 0x44, 0x00],
      ['volume-closed', 8, 0, 0, 0],
      ['volume-in-use', 0x18, 0, 0, 0],
    ];
    for (const [code, status, key, asc, ascq] of table) {
      assert.deepEqual(errorSense[code], { status, key, asc, ascq }, code);
    }
  });
});
