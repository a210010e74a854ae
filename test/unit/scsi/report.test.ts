import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';
import type { Result } from '../../fake/scsi-task.js';

const port = { protocol: 5, targetName: 'iqn.a:b', portName: 'iqn.a:b,t,0x0001', taskFunctions: 0xda00 };
const unit = new LogicalUnit({ device: new MemoryDevice({ sizeBytes: 4096 }), transportVersion: 0, port });
const supported = unit.commands.filter((each) => each.isSupported(unit));
const host = await new ScsiHost(unit).ready();

/** REPORT SUPPORTED OPERATION CODES. */
const opcodes = (options: number, opcode = 0, action = 0, room = 0xffff): Promise<Result> =>
  host.run([0xa3, 0x0c, options, opcode, action >> 8, action & 255, 0, 0, room >> 8, room & 255, 0, 0]);
const hexOf = async (...args: Parameters<typeof opcodes>): Promise<string | undefined> => {
  const result = await opcodes(...args);
  return result.sense ?? result.data.toString('hex');
};

describe('REPORT SUPPORTED OPERATION CODES (SPC-4 6.35)', () => {
  it('lists every command with its service action and the length of its CDB, with time-outs if they are asked for', async () => {
    const all = (await opcodes(0)).data;
    const timed = (await opcodes(0x80)).data;
    assert.equal(all.readUInt32BE(0), all.length - 4);
    assert.equal((all.length - 4) / 8, supported.length);
    assert.equal((timed.length - 4) / 20, supported.length);
    supported.forEach(({ name, usage, serviceAction }, index) => {
      const at = 4 + index * 8;
      const expected = [usage[0], serviceAction ?? 0, serviceAction === undefined ? 0 : 1, usage.length];
      const read = (bytes: Buffer, from: number): number[] => [
        bytes.readUInt8(from),
        bytes.readUInt16BE(from + 2),
        bytes.readUInt8(from + 5),
        bytes.readUInt16BE(from + 6),
      ];
      assert.deepEqual(read(all, at), expected, name);
      const timedAt = 4 + index * 20;
      assert.deepEqual(read(timed, timedAt), [expected[0], expected[1], (expected[2] ?? 0) | 2, expected[3]], name);
      assert.equal(timed.readUInt16BE(timedAt + 8), 0x0a, name);
    });
    assert.equal((await opcodes(0, 0, 0, 6)).data.length, 6);
  });

  it('describes one command by the bits that it evaluates', async () => {
    assert.equal(await hexOf(1, 0x28), '0003000a' + '281affffffff1fffff00');
    assert.equal(await hexOf(0x81, 0x00), '00830006' + '000000000000' + '000a0000' + '00000001' + '0000003c');
    assert.equal(await hexOf(2, 0x9e, 0x10), '00030010' + '9e100000000000000000ffffffff0000');
    assert.equal(await hexOf(3, 0x9e, 0x12), '00030010' + '9e12ffffffffffffffffffffffff0000');
    assert.equal(await hexOf(3, 0x28, 0), '0003000a' + '281affffffff1fffff00');
  });

  it('says which command there is not, and refuses a question that does not fit its opcode', async () => {
    for (const options of [1, 2, 3]) assert.equal(await hexOf(options, 0xff), '00010000', 'an unknown opcode');
    for (const options of [2, 3]) assert.equal(await hexOf(options, 0x9e, 0x11), '00010000', 'an unknown action');
    assert.equal(await hexOf(3, 0x28, 1), '00010000', 'an action of an opcode that has none');
    assert.equal(await hexOf(1, 0x9e), '5/24/00@2.2');
    assert.equal(await hexOf(2, 0x28), '5/24/00@2.2');
    for (const options of [4, 5, 6, 7]) assert.equal(await hexOf(options), '5/24/00@2.2', 'a reserved option');
  });
});

describe('REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36)', () => {
  it('says what the transport can do, and names no time-out', async () => {
    const short = await host.run([0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert.equal(short.data.toString('hex'), 'da000000');
    const long = await host.run([0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert.equal(long.data.toString('hex'), 'da00000c' + '00'.repeat(12));
  });
});

describe('REPORT TARGET PORT GROUPS (SPC-4 6.37)', () => {
  it('has one group with one port, active and optimized, in both formats', async () => {
    const ask = async (format: number): Promise<string | undefined> => {
      const result = await host.run([0xa3, 0x0a | format, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
      return result.sense ?? result.data.toString('hex');
    };
    const group = '0001' + '0001' + '00000001' + '00000001';
    assert.equal(await ask(0x00), '0000000c' + group);
    assert.equal(await ask(0x20), '00000010' + '10000000' + group);
    assert.equal(await ask(0x40), '5/24/00@1.7');
  });
});

describe('LOG SENSE (SPC-4 6.8)', () => {
  const log = async (code: number, subpage = 0, pointer = 0): Promise<string | undefined> => {
    const result = await host.run([0x4d, 0, 0x40 | code, subpage, 0, pointer >> 8, pointer & 255, 0, 255, 0]);
    return result.sense ?? result.data.toString('hex');
  };

  it('lists its pages and their subpages, and says that no exception is pending', async () => {
    assert.equal(await log(0x00), '00000002' + '002f');
    assert.equal(await log(0x00, 0xff), '40ff0006' + '0000' + '00ff' + '2f00');
    assert.equal(await log(0x2f), '2f000008' + '0000' + '0304' + '0000ff00');
  });

  it('refuses pages, subpages and parameters that there are not, and to save', async () => {
    assert.equal(await log(0x0d), '5/24/00@2.5');
    assert.equal(await log(0x2f, 1), '5/24/00@3.7');
    assert.equal(await log(0x2f, 0, 1), '5/24/00@5.7');
    assert.equal((await host.run([0x4d, 1, 0x40, 0, 0, 0, 0, 0, 255, 0])).sense, '5/24/00@1.0');
  });
});

describe('READ DEFECT DATA (SBC-3 5.19, 5.20)', () => {
  it('of 10 bytes gives the lists that are asked for, empty', async () => {
    const { data } = await host.run([0x37, 0, 0x1c, 0, 0, 0, 0, 0, 255, 0]);
    assert.equal(data.toString('hex'), '001c0000');
    assert.equal((await host.run([0x37, 0, 0x1f, 0, 0, 0, 0, 0, 255, 0])).sense, '5/24/00@2.2', 'a reserved format');
  });

  it('of 12 bytes too', async () => {
    const { data } = await host.run([0xb7, 0x08, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0]);
    assert.equal(data.toString('hex'), '0008000000000000');
    assert.equal((await host.run([0xb7, 0x1f, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0])).sense, '5/24/00@1.2');
  });
});
