import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { commands } from '../../../src/scsi/command-table.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { sense } from '../../../src/scsi/sense.js';
import { step } from '../../../src/scsi/task.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';
import type { Result } from '../../fake/scsi-task.js';

const BLOCKS = 2048;

async function host(
  options: { readOnly?: boolean } = {},
): Promise<{ host: ScsiHost; device: MemoryDevice; unit: LogicalUnit }> {
  const device = new MemoryDevice({ sizeBytes: BLOCKS * 512, ...options });
  const unit = new LogicalUnit({ device, transportVersion: 0x0960 });
  return { host: await new ScsiHost(unit).ready(), device, unit };
}

function u32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

const u64 = (value: number): number[] => [...u32(Math.floor(value / 2 ** 32)), ...u32(value % 2 ** 32)];

/** READ and WRITE in every length: how a CDB is made of LBA, blocks and flags. */
const transfers: Readonly<Record<string, (lba: number, blocks: number, flags?: number) => number[]>> = {
  'READ(6)': (lba, blocks) => [0x08, lba >> 16, (lba >> 8) & 255, lba & 255, blocks & 255, 0],
  'READ(10)': (lba, blocks, flags = 0) => [0x28, flags, ...u32(lba), 0, blocks >> 8, blocks & 255, 0],
  'READ(12)': (lba, blocks, flags = 0) => [0xa8, flags, ...u32(lba), ...u32(blocks), 0, 0],
  'READ(16)': (lba, blocks, flags = 0) => [0x88, flags, ...u64(lba), ...u32(blocks), 0, 0],
  'WRITE(6)': (lba, blocks) => [0x0a, lba >> 16, (lba >> 8) & 255, lba & 255, blocks & 255, 0],
  'WRITE(10)': (lba, blocks, flags = 0) => [0x2a, flags, ...u32(lba), 0, blocks >> 8, blocks & 255, 0],
  'WRITE(12)': (lba, blocks, flags = 0) => [0xaa, flags, ...u32(lba), ...u32(blocks), 0, 0],
  'WRITE(16)': (lba, blocks, flags = 0) => [0x8a, flags, ...u64(lba), ...u32(blocks), 0, 0],
};

describe('READ and WRITE', () => {
  it('ask the transport for their range', async () => {
    const { host: made } = await host();
    for (const [name, cdb] of Object.entries(transfers)) {
      const expected = name.startsWith('READ') ? step.readMedium : step.writeMedium;
      for (const [lba, blocks] of [
        [0, 1],
        [7, 255],
        [BLOCKS - 3, 3],
      ] as const) {
        const result = await made.run(cdb(lba, blocks));
        assert.deepEqual(
          [result.step, result.task.offset, result.task.lengthBytes],
          [expected, lba * 512, blocks * 512],
          `${name} ${lba} ${blocks}`,
        );
      }
    }
  });

  it('end at the end of the medium', async () => {
    const { host: made } = await host();
    for (const [name, cdb] of Object.entries(transfers)) {
      assert.equal((await made.run(cdb(BLOCKS, 1))).sense, '5/21/00', name);
      assert.equal((await made.run(cdb(BLOCKS - 1, 2))).sense, '5/21/00', name);
    }
    for (const name of ['READ(16)', 'WRITE(16)']) {
      for (const lba of [2 ** 32, 2 ** 53 - 1, 2 ** 63, 2 ** 64 - 2048]) {
        assert.equal((await made.run(transfers[name]!(lba, 1))).sense, '5/21/00', `${name} at ${lba}`);
      }
    }
  });

  it('of no blocks do nothing, but of 6 bytes mean 256', async () => {
    const { host: made } = await host();
    for (const [name, cdb] of Object.entries(transfers)) {
      const result = await made.run(cdb(0, 0));
      if (name.endsWith('(6)')) assert.equal(result.task.lengthBytes, 256 * 512);
      else assert.deepEqual([result.step, result.status], [step.finished, 0], name);
    }
  });

  it('refuse more than the transfer limit, protection information and reserved bits, naming the field', async () => {
    const device = new MemoryDevice({ sizeBytes: 40 * 1024 * 1024, keepHistory: false });
    const made = await new ScsiHost(new LogicalUnit({ device, transportVersion: 0 })).ready();
    assert.equal((await made.run(transfers['READ(16)']!(0, 65_536))).step, step.readMedium);
    assert.equal((await made.run(transfers['READ(16)']!(0, 65_537))).sense, '5/24/00@10.7');
    assert.equal((await made.run(transfers['WRITE(12)']!(0, 65_537))).sense, '5/24/00@6.7');
    for (const protect of [0x20, 0x40, 0x80, 0xe0]) {
      const { sense: told } = await made.run(transfers['READ(10)']!(0, 1, protect));
      assert.equal(told, `5/24/00@1.${31 - Math.clz32(protect)}`);
    }
    assert.equal((await made.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0x04])).sense, '5/24/00@9.2', 'NACA');
  });

  it('take FUA from the command, and every write when the cache is off', async () => {
    const { host: made } = await host();
    const fua = async (cdb: number[]): Promise<boolean> => (await made.run(cdb)).task.forceUnitAccess;
    assert.equal(await fua(transfers['WRITE(10)']!(0, 1, 0x08)), true);
    assert.equal(await fua(transfers['WRITE(16)']!(0, 1, 0x10)), false, 'DPO alone');
    await made.run([0x15, 0x10, 0, 0, 24, 0], caching(0));
    assert.equal(await fua(transfers['WRITE(10)']!(0, 1)), true);
    assert.equal(await fua(transfers['WRITE(6)']!(0, 1)), true);
  });

  it('are refused on a volume that may not be written, by its own word or by SWP', async () => {
    const { host: readOnly } = await host({ readOnly: true });
    for (const [name, cdb] of Object.entries(transfers)) {
      const expected = name.startsWith('READ') ? undefined : '7/27/00';
      assert.equal((await readOnly.run(cdb(0, 1))).sense, expected, name);
    }
    assert.equal((await readOnly.run([0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0])).sense, '7/27/00');
    assert.equal((await readOnly.run([0x1a, 0, 0x3f, 0, 255, 0])).data[2], 0x90, 'WP in the mode parameter header');
    const { host: protectedByMode } = await host();
    const control = Buffer.alloc(16);
    control.set([0x0a, 0x0a, 0x02, 0x10, 0x08, 0, 0, 0, 0xff, 0xff], 4);
    assert.equal((await protectedByMode.run([0x15, 0x10, 0, 0, 16, 0], control)).sense, undefined);
    assert.equal((await protectedByMode.run(transfers['WRITE(10)']!(0, 1))).sense, '7/27/02');
  });
});

function caching(writeCache: number): Buffer {
  const list = Buffer.alloc(24);
  list.set([0x08, 0x12, writeCache], 4);
  return list;
}

describe('the command table', () => {
  it('answers every opcode that it does not have', async () => {
    const { host: made } = await host();
    const known = new Set(commands.map(({ usage }) => usage[0]));
    for (let opcode = 0; opcode < 256; opcode++) {
      if (known.has(opcode)) continue;
      assert.equal((await made.run([opcode])).sense, '5/20/00', opcode.toString(16));
    }
    assert.equal((await made.run([0x9e, 0x11])).sense, '5/24/00@1.4', 'an unknown service action');
  });

  it('has CDBs of the length that their opcode says, and refuses every bit that it does not evaluate', async () => {
    const { host: made } = await host();
    const lengths: Readonly<Record<number, number>> = { 0: 6, 1: 10, 2: 10, 4: 16, 5: 12 };
    for (const { name, usage, serviceAction } of commands) {
      assert.equal(usage.length, lengths[usage[0]! >> 5], name);
      for (let bit = 8; bit < usage.length * 8; bit++) {
        const byte = bit >> 3;
        if ((usage[byte]! & (1 << (bit & 7))) !== 0) continue;
        const cdb = new Array<number>(usage.length).fill(0);
        cdb[0] = usage[0]!;
        cdb[1] = serviceAction ?? 0;
        cdb[byte]! |= 1 << (bit & 7);
        assert.equal((await made.run(cdb)).sense, `5/24/00@${byte}.${bit & 7}`, `${name} byte ${byte}`);
      }
    }
  });
});

describe('SYNCHRONIZE CACHE', () => {
  it('flushes, whatever range it names, as long as there is one', async () => {
    const { host: made, device } = await host();
    for (const cdb of [
      [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [0x35, 0x02, ...u32(8), 0, 0, 8, 0],
      [0x91, 0, ...u64(BLOCKS - 1), ...u32(1), 0, 0],
    ]) {
      device.history.length = 0;
      assert.equal((await made.run(cdb)).status, 0);
      assert.deepEqual(
        device.history.map(({ op }) => op),
        ['flush'],
      );
    }
    assert.equal((await made.run([0x35, 0, ...u32(BLOCKS), 0, 0, 1, 0])).sense, '5/21/00');
    device.failNext('flush', new GatewayError('disk-failed', 'broken'));
    assert.equal((await made.run([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])).sense, '4/44/00');
  });
});

describe('READ CAPACITY', () => {
  it('tells size, block length, physical block and provisioning', async () => {
    const { host: made } = await host();
    assert.equal((await made.run([0x25])).data.toString('hex'), '000007ff' + '00000200');
    const long = await made.run([0x9e, 0x10, ...u64(0), ...u32(32), 0, 0]);
    assert.equal(long.data.toString('hex'), '00000000000007ff' + '00000200' + '0003c000' + '00'.repeat(16));
    assert.equal((await made.run([0x9e, 0x10, ...u64(0), ...u32(12), 0, 0])).data.length, 12);
  });

  it('tells of blocks of 512 bytes only where that is wanted', async () => {
    const device = new MemoryDevice({ sizeBytes: 4096 });
    const unit = new LogicalUnit({ device, transportVersion: 0, physicalBlockBytes: 512 });
    const long = await (await new ScsiHost(unit).ready()).run([0x9e, 0x10, ...u64(0), ...u32(32), 0, 0]);
    assert.equal(long.data.toString('hex', 12, 16), '0000c000');
  });

  it('of 10 bytes says when it cannot tell', async () => {
    const device = new MemoryDevice({ sizeBytes: 4096 });
    Object.defineProperty(device, 'sizeBytes', { value: 4 * 2 ** 40 });
    const made = await new ScsiHost(new LogicalUnit({ device, transportVersion: 0 })).ready();
    assert.equal((await made.run([0x25])).data.toString('hex'), 'ffffffff' + '00000200');
    const long = await made.run([0x9e, 0x10, ...u64(0), ...u32(32), 0, 0]);
    assert.equal(long.data.toString('hex', 0, 8), '00000001ffffffff');
  });
});

describe('unit attentions', () => {
  it('are told once, by the first command that is not INQUIRY, REPORT LUNS or REQUEST SENSE', async () => {
    const { unit } = await host();
    const made = new ScsiHost(unit);
    assert.equal((await made.run([0x12, 0, 0, 0, 96, 0])).status, 0);
    assert.equal((await made.run([0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0])).status, 0);
    assert.equal((await made.run([0xff])).sense, '6/29/00', 'even of one that it does not know');
    assert.equal((await made.run([0])).sense, undefined);
  });

  it('are given out by REQUEST SENSE, in the format it asks for', async () => {
    const { unit } = await host();
    const made = new ScsiHost(unit);
    const fixed = await made.run([0x03, 0, 0, 0, 252, 0]);
    assert.deepEqual([fixed.status, fixed.data[0], fixed.data[2], fixed.data[12]], [0, 0x70, 6, 0x29]);
    const none = await made.run([0x03, 1, 0, 0, 252, 0]);
    assert.equal(none.data.toString('hex'), '7200000000000000');
    assert.equal((await made.run([0x03, 0, 0, 0, 4, 0])).data.length, 4);
  });

  it('tell of a capacity that grew, and a reset makes older ones moot', async () => {
    const { host: made, device, unit } = await host();
    device.grow(BLOCKS * 1024);
    assert.equal((await made.run([0])).sense, '6/2a/09');
    assert.equal((await made.run([0])).sense, undefined);
    made.nexus.establish(sense.modeParametersChanged);
    unit.reset(sense.logicalUnitReset);
    assert.equal((await made.run([0])).sense, '6/29/03');
    assert.equal((await made.run([0])).sense, undefined);
  });
});

describe('START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL', () => {
  it('succeed, and a stop makes everything durable', async () => {
    const { host: made, device } = await host();
    const ops = async (cdb: number[]): Promise<[Result['sense'], number]> => {
      device.history.length = 0;
      const { sense: told } = await made.run(cdb);
      return [told, device.history.length];
    };
    assert.deepEqual(await ops([0x1b, 0, 0, 0, 0x01, 0]), [undefined, 0]);
    assert.deepEqual(await ops([0x1b, 0, 0, 0, 0x00, 0]), [undefined, 1]);
    assert.deepEqual(await ops([0x1b, 0, 0, 0, 0x04, 0]), [undefined, 0], 'NO_FLUSH');
    assert.deepEqual(await ops([0x1b, 0, 0, 0, 0x02, 0]), ['5/24/00@4.1', 0], 'there is nothing to eject');
    assert.deepEqual(await ops([0x1b, 0, 0, 0, 0x40, 0]), ['5/24/00@4.7', 0]);
    assert.deepEqual(await ops([0x1e, 0, 0, 0, 1, 0]), [undefined, 0]);
  });
});

describe('SEND DIAGNOSTIC (SPC-4 6.42)', () => {
  it('passes the default self-test once everything is durable', async () => {
    const { host: made, device } = await host();
    // DEVOFFL, UNITOFFL and PF ask for nothing more.
    for (const flags of [0x04, 0x07, 0x14]) {
      device.history.length = 0;
      assert.equal((await made.run([0x1d, flags, 0, 0, 0, 0])).status, 0);
      assert.deepEqual(
        device.history.map(({ op }) => op),
        ['flush'],
      );
    }
  });

  it('fails it where the disk does', async () => {
    const { host: made, device } = await host();
    device.failNext('flush', new GatewayError('disk-failed', 'the disk is broken'));
    assert.equal((await made.run([0x1d, 0x04, 0, 0, 0, 0])).sense, '4/44/00');
  });

  it('does nothing where nothing is asked for, and refuses what there is not', async () => {
    const { host: made, device } = await host();
    device.history.length = 0;
    for (const flags of [0x00, 0x10]) assert.equal((await made.run([0x1d, flags, 0, 0, 0, 0])).status, 0);
    for (const code of [1, 2, 4, 5, 6]) {
      for (const flags of [code << 5, (code << 5) | 0x04]) {
        assert.equal((await made.run([0x1d, flags, 0, 0, 0, 0])).sense, '5/24/00@1.7', `self-test code ${code}`);
      }
    }
    for (const flags of [0x00, 0x10, 0x04]) {
      assert.equal((await made.run([0x1d, flags, 0, 0, 4, 0], Buffer.alloc(4))).sense, '5/24/00@3.7');
    }
    assert.equal((await made.run([0x1d, 0x0c, 0, 0, 0, 0])).sense, '5/24/00@1.3', 'a reserved bit');
    assert.equal(device.history.length, 0);
  });
});

describe('FORMAT UNIT (SBC-3 5.3)', () => {
  it('is no command of this unit, which has one format', async () => {
    const { host: made, device } = await host();
    device.history.length = 0;
    assert.equal((await made.run([0x04, 0, 0, 0, 0, 0])).sense, '5/20/00');
    const report = await made.run([0xa3, 0x0c, 0x01, 0x04, 0, 0, 0, 0, 0, 64, 0, 0]);
    assert.equal(report.data[1], 0x01, 'and is reported as none');
    assert.equal(device.history.length, 0);
  });
});
