import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';
import { settled } from '../../fake/memory-stream.js';

const BLOCKS = 16_384;
const ZEROS = Buffer.alloc(512);

async function host(): Promise<{ host: ScsiHost; device: MemoryDevice }> {
  const device = new MemoryDevice({ sizeBytes: BLOCKS * 512 });
  device.image.fill(0xff);
  const made = await new ScsiHost(new LogicalUnit({ device, transportVersion: 0 })).ready();
  device.history.length = 0;
  return { host: made, device };
}

function unmapList(...ranges: (readonly [number, number])[]): Buffer {
  const list = Buffer.alloc(8 + 16 * ranges.length);
  list.writeUInt16BE(list.length - 2, 0);
  list.writeUInt16BE(list.length - 8, 2);
  ranges.forEach(([lba, blocks], index) => {
    list.writeBigUInt64BE(BigInt(lba), 8 + 16 * index);
    list.writeUInt32BE(blocks, 16 + 16 * index);
  });
  return list;
}

const unmap = (list: Buffer): number[] => [0x42, 0, 0, 0, 0, 0, 0, list.length >> 8, list.length & 255, 0];

function writeSame16(lba: number, blocks: number, flags = 0): number[] {
  const cdb = Buffer.alloc(16);
  cdb[0] = 0x93;
  cdb[1] = flags;
  cdb.writeBigUInt64BE(BigInt(lba), 2);
  cdb.writeUInt32BE(blocks, 10);
  return [...cdb];
}

const writeSame10 = (lba: number, blocks: number, flags = 0): number[] => [
  0x41,
  flags,
  0,
  0,
  lba >> 8,
  lba & 255,
  0,
  blocks >> 8,
  blocks & 255,
  0,
];

describe('UNMAP', () => {
  it('trims every range, and ends once all are', async () => {
    const { host: made, device } = await host();
    const list = unmapList([0, 8], [100, 0], [16, 1], [BLOCKS - 8, 8]);
    assert.equal((await made.run(unmap(list), list)).status, 0);
    assert.deepEqual(
      device.history.map(({ op, offset, lengthBytes }) => [op, offset, lengthBytes]),
      [
        ['trim', 0, 4096],
        ['trim', 8192, 512],
        ['trim', BLOCKS * 512 - 4096, 4096],
      ],
    );
    assert.equal(device.image[0], 0);
    assert.equal(device.image[4096], 0xff);
  });

  it('trims the whole device in one request', async () => {
    const { host: made, device } = await host();
    const list = unmapList([0, BLOCKS]);
    await made.run(unmap(list), list);
    assert.equal(device.history.length, 1);
    assert(device.image.every((byte) => byte === 0));
  });

  it('does nothing when anything about its list is wrong', async () => {
    const { host: made, device } = await host();
    const cases: readonly (readonly [string, Buffer, string | undefined])[] = [
      ['beyond the end', unmapList([0, 8], [BLOCKS - 1, 2]), '5/21/00'],
      ['far beyond', unmapList([2 ** 52, 1]), '5/21/00'],
      ['too many', unmapList(...Array.from({ length: 257 }, (_, index) => [index, 1] as const)), '5/26/00@2.7'],
      ['cut', unmapList([0, 8], [8, 8]).subarray(0, 30), '5/1a/00'],
      ['short header', Buffer.alloc(7), '5/1a/00'],
      ['no descriptors', unmapList(), undefined],
      ['empty', Buffer.alloc(0), undefined],
    ];
    for (const [what, list, expected] of cases) assert.equal((await made.run(unmap(list), list)).sense, expected, what);
    assert.deepEqual(device.history, []);
  });

  it('reports the first error of several ranges', async () => {
    const { host: made, device } = await host();
    device.failNext('trim', new GatewayError('disk-full', 'full'));
    const list = unmapList([0, 8], [16, 8]);
    assert.equal((await made.run(unmap(list), list)).sense, '7/27/07');
    device.close();
    assert.equal((await made.run(unmap(list), list)).status, 8);
  });
});

describe('WRITE SAME', () => {
  it('of zeros zeroes, and with UNMAP or NDOB frees', async () => {
    const { host: made, device } = await host();
    const cases: readonly (readonly [string, number[], Buffer, string, boolean])[] = [
      ['10', writeSame10(8, 16), ZEROS, 'zero', false],
      ['16', writeSame16(8, 16), ZEROS, 'zero', false],
      ['10 UNMAP', writeSame10(8, 16, 0x08), ZEROS, 'trim', true],
      ['16 UNMAP', writeSame16(8, 16, 0x08), ZEROS, 'trim', true],
      ['NDOB', writeSame16(8, 16, 0x01), Buffer.alloc(0), 'zero', false],
      ['NDOB UNMAP', writeSame16(8, 16, 0x09), Buffer.alloc(0), 'trim', true],
    ];
    for (const [what, cdb, data, op, mayPunch] of cases) {
      device.history.length = 0;
      device.image.fill(0xff);
      assert.equal((await made.run(cdb, data)).status, 0, what);
      const { history } = device;
      assert.deepEqual(
        history.map((entry) => [entry.op, entry.offset, entry.lengthBytes, entry.mayPunch]),
        [[op, 4096, 8192, mayPunch]],
        what,
      );
      assert.deepEqual(
        [device.image[4095], device.image[4096], device.image[12_287], device.image[12_288]],
        [255, 0, 0, 255],
      );
    }
  });

  it('writes any other block over and over, even with UNMAP', async () => {
    const { host: made, device } = await host();
    const block = Buffer.from(Uint8Array.from({ length: 512 }, (_, index) => index & 255));
    for (const [blocks, flags] of [
      [1, 0],
      [3, 0x08],
      [5000, 0],
    ] as const) {
      device.image.fill(0xff);
      device.history.length = 0;
      assert.equal((await made.run(writeSame16(7, blocks, flags), block)).status, 0);
      assert.deepEqual(new Set(device.history.map(({ op }) => op)), new Set(['write']));
      const longest = Math.max(...device.history.map(({ lengthBytes }) => lengthBytes));
      assert.ok(longest <= 65_536, 'a window full of such commands takes little memory');
      for (let index = 0; index < blocks; index++) {
        const at = (7 + index) * 512;
        assert.deepEqual(Buffer.from(device.image.subarray(at, at + 512)), block);
      }
      assert.equal(device.image[7 * 512 - 1], 255);
      assert.equal(device.image[(7 + blocks) * 512], 255);
    }
  });

  it('waits for a device that is not writable, and stops where it fails', async () => {
    const { host: made, device } = await host();
    const block = Buffer.alloc(512, 1);
    device.writable = false;
    const running = made.run(writeSame16(0, 5000), block);
    await settled();
    assert.deepEqual(device.history, []);
    device.writable = true;
    assert.equal((await running).status, 0);
    device.history.length = 0;
    device.failNext('write', new GatewayError('disk-full', 'full'));
    assert.equal((await made.run(writeSame16(0, 5000), block)).sense, '7/27/07');
    assert.equal(device.history.length, 1, 'the rest is not tried');
    device.history.length = 0;
    device.writable = false;
    const refused = made.run(writeSame16(0, 5000), block);
    await settled();
    device.close();
    device.writable = true;
    assert.equal((await refused).status, 8, 'what the device refuses later ends it too');
  });

  it('refuses no blocks, too many, the wrong amount of data, and ANCHOR', async () => {
    const { host: made, device } = await host();
    assert.equal((await made.run(writeSame16(0, 0), ZEROS)).sense, '5/24/00@10.7');
    assert.equal((await made.run(writeSame10(0, 0), ZEROS)).sense, '5/24/00@7.7');
    assert.equal((await made.run(writeSame16(BLOCKS, 1), ZEROS)).sense, '5/21/00');
    assert.equal((await made.run(writeSame16(0, 1, 0x10), ZEROS)).sense, '5/24/00@1.4');
    assert.equal((await made.run(writeSame16(0, 1), Buffer.alloc(256))).sense, '5/1a/00');
    assert.equal((await made.run(writeSame16(0, 1), Buffer.alloc(1024))).sense, '5/1a/00');
    assert.deepEqual(device.history, []);
  });
});

describe('GET LBA STATUS', () => {
  const cdb = (lba: number, room: number): number[] => {
    const bytes = Buffer.alloc(16);
    bytes.set([0x9e, 0x12]);
    bytes.writeBigUInt64BE(BigInt(lba), 2);
    bytes.writeUInt32BE(room, 10);
    return [...bytes];
  };

  it('tells mapped from unmapped, from the LBA that is asked for', async () => {
    const { host: made, device } = await host();
    device.image.fill(0, 4096, 12_288);
    const { data } = await made.run(cdb(4, 8 + 16 * 8));
    const descriptors = [
      '0000000000000004' + '00000004' + '00',
      '0000000000000008' + '00000010' + '01',
      '0000000000000018' + '00003fe8' + '00',
    ];
    assert.equal(data.toString('hex'), '0000003400000000' + descriptors.map((each) => each + '000000').join(''));
    assert.equal((await made.run(cdb(4, 24))).data.toString('hex'), '0000001400000000' + descriptors[0]! + '000000');
    assert.equal((await made.run(cdb(0, 4))).data.length, 4);
  });

  it('refuses an LBA past the end, and says what the device says', async () => {
    const { host: made, device } = await host();
    assert.equal((await made.run(cdb(BLOCKS, 24))).sense, '5/21/00');
    device.close();
    assert.equal((await made.run(cdb(0, 24))).status, 8);
  });
});
