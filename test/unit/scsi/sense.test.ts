import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { errorCodes, GatewayError } from '../../../src/base/errors.js';
import type { ErrorCode, ErrorContext } from '../../../src/base/errors.js';
import { errorSense } from '../../../src/scsi/error-sense.js';
import {
  invalidFieldInCdb,
  invalidFieldInParameterList,
  sense,
  SENSE_BYTES_MAX,
  writeSense,
} from '../../../src/scsi/sense.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';
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

  it('name the LBA of a medium error that knows its block, where the format has room for it (SBC-3 4.18.1)', async () => {
    const device = new MemoryDevice({ sizeBytes: 1024 * 1024 });
    const unit = new LogicalUnit({ device, transportVersion: 0 });
    const host = await new ScsiHost(unit).ready();
    const { task } = await host.run([0x28, 0, 0, 0, 0, 0x12, 0, 0, 16, 0]);
    const told = (context: ErrorContext): number | undefined => {
      unit.refuse(task, new GatewayError('checksum-mismatch', 'rotten', { context }));
      return task.sense?.information;
    };
    assert.equal(told({ block: 3 }), 24, 'the first of the block');
    assert.equal(told({ block: 2 }), 18, 'not before what was asked for');
    assert.equal(told({}), undefined);
    const far = { ...sense.unrecoveredReadError, information: 2 ** 32 };
    assert.equal(encode(far, false), '70000300000000' + '0a00000000' + '110000000000');
    assert.equal(encode(far, true), '720311000000000c' + '000a8000' + '0000000100000000');
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
