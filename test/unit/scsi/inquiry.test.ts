import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';

/** The uuid of a MemoryDevice, without its dashes. */
const UUID = '0f0e0d0c0b0a49088706050403020100';
const hex = (text: string): string => Buffer.from(text).toString('hex');

const host = new ScsiHost(new LogicalUnit({ device: new MemoryDevice({ sizeBytes: 4096 }), transportVersion: 0x0960 }));
const page = async (code: number): Promise<string> => (await host.run([0x12, 1, code, 0, 255, 0])).data.toString('hex');

describe('INQUIRY', () => {
  it('describes the device', async () => {
    const { data } = await host.run([0x12, 0, 0, 0, 255, 0]);
    const expected =
      '00000612' +
      '5b180002' +
      hex('KEEPGATE') +
      hex('VOLUME          ') +
      hex('0001') +
      '00'.repeat(22) +
      '00a0' +
      '0460' +
      '04c0' +
      '0960' +
      '00'.repeat(30);
    assert.equal(data.toString('hex'), expected);
  });

  it('cuts what it says to the allocation length', async () => {
    for (const length of [0, 4, 36, 95]) {
      assert.equal((await host.run([0x12, 0, 0, length >> 8, length & 255, 0])).data.length, length);
    }
  });

  it('refuses a page code without EVPD, and pages that there are not', async () => {
    assert.equal((await host.run([0x12, 0, 0x80, 0, 255, 0])).sense, '5/24/00@2.7');
    assert.equal((await host.run([0x12, 1, 0x87, 0, 255, 0])).sense, '5/24/00@2.7');
  });

  it('identifies the volume by its uuid', async () => {
    assert.equal(await page(0x00), '00000008' + '008083868fb0b1b2');
    assert.equal(await page(0x80), '00800020' + hex(UUID));
    const naa = '01030008' + '37060504' + '03020100';
    const vendor = '02010028' + hex(`KEEPGATE${UUID}`);
    const uuid = '010a0012' + '1000' + UUID;
    assert.equal(await page(0x83), '0083004e' + naa + vendor + uuid);
  });

  it('names the target port, its group and the target, where the transport does (SPC-4 7.8.6)', async () => {
    const port = { protocol: 5, targetName: 'iqn.a:b', portName: 'iqn.a:b,t,0x0001', taskFunctions: 0 };
    const device = new MemoryDevice({ sizeBytes: 4096 });
    const named = new ScsiHost(new LogicalUnit({ device, transportVersion: 0, port }));
    const { data } = await named.run([0x12, 1, 0x83, 0, 255, 0]);
    assert.equal(
      data.toString('hex', 4 + 0x4e),
      '51940004' +
        '00000001' +
        '51950004' +
        '00000001' +
        '53980014' +
        hex('iqn.a:b,t,0x0001') +
        '00000000' +
        '53a80008' +
        hex('iqn.a:b') +
        '00',
    );
    assert.equal(data.readUInt16BE(2), data.length - 4);
  });

  it('tells of the volatile cache and the length of sense data (SPC-4 7.8.7)', async () => {
    assert.equal(await page(0x86), '0086003c' + '000101' + '00'.repeat(6) + '28' + '00'.repeat(50));
  });

  it('tells limits, medium and provisioning', async () => {
    assert.equal(
      await page(0xb0),
      '00b0003c' +
        '01ff0008' +
        '00010000' +
        '00000800' +
        '00020000' +
        'ffffffff' +
        '00000100' +
        '00000008' +
        '80000000' +
        '00000000007ffff8' +
        '000001000000000800000008' +
        '00'.repeat(8),
    );
    assert.equal(await page(0xb1), '00b1003c' + '0001' + '00'.repeat(58));
    assert.equal(await page(0xb2), '00b20004' + '00e40200');
  });
});

describe('REPORT LUNS', () => {
  it('lists LUN 0, and no well-known unit', async () => {
    const luns = async (select: number, room: number): Promise<string | undefined> => {
      const result = await host.run([0xa0, 0, select, 0, 0, 0, 0, 0, 0, room, 0, 0]);
      return result.sense ?? result.data.toString('hex');
    };
    for (const select of [0, 2]) assert.equal(await luns(select, 64), '0000000800000000' + '0000000000000000');
    assert.equal(await luns(1, 64), '0000000000000000');
    assert.equal(await luns(3, 64), '5/24/00@2.7');
    assert.equal(await luns(0, 15), '5/24/00@6.7');
  });
});
