import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { sense } from '../../../src/scsi/sense.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';

const CACHING = '0812' + '04' + '00'.repeat(17);
const CONTROL = '0a0a' + '0210' + '00000000' + 'ffff' + '0000';
const CONTROL_EXTENSION = '4a01' + '001c' + '01' + '00'.repeat(27);
const EXCEPTIONS = '1c0a' + '08' + '00'.repeat(9);

async function host(): Promise<{ host: ScsiHost; unit: LogicalUnit; device: MemoryDevice }> {
  const device = new MemoryDevice({ sizeBytes: 1024 * 1024 });
  const unit = new LogicalUnit({ device, transportVersion: 0 });
  return { host: await new ScsiHost(unit).ready(), unit, device };
}

const list = (...pages: string[]): Buffer => Buffer.from(`00000000${pages.join('')}`, 'hex');
const select6 = (bytes: Buffer): number[] => [0x15, 0x10, 0, 0, bytes.length, 0];

describe('MODE SENSE', () => {
  it('of 6 bytes gives header, block descriptor and pages', async () => {
    const { host: made } = await host();
    const data = async (cdb: number[]): Promise<string> => (await made.run(cdb)).data.toString('hex');
    const descriptor = '00000800' + '00000200';
    assert.equal(await data([0x1a, 0, 0x08, 0, 255, 0]), '1f001008' + descriptor + CACHING);
    assert.equal(await data([0x1a, 8, 0x08, 0, 255, 0]), '17001000' + CACHING);
    assert.equal(await data([0x1a, 8, 0x3f, 0, 255, 0]), '2f001000' + CACHING + CONTROL + EXCEPTIONS);
    const all = CACHING + CONTROL + CONTROL_EXTENSION + EXCEPTIONS;
    assert.equal(await data([0x1a, 8, 0x3f, 0xff, 255, 0]), '4f001000' + all);
    assert.equal(await data([0x1a, 8, 0x0a, 0xff, 255, 0]), '2f001000' + CONTROL + CONTROL_EXTENSION);
    assert.equal(await data([0x1a, 8, 0x0a, 0x01, 255, 0]), '23001000' + CONTROL_EXTENSION);
    assert.equal(await data([0x1a, 8, 0x3f, 0, 4, 0]), '2f001000', 'cut');
  });

  it('of 10 bytes gives a long descriptor where it is asked for', async () => {
    const { host: made } = await host();
    const short = await made.run([0x5a, 0, 0x0a, 0, 0, 0, 0, 0, 255, 0]);
    assert.equal(short.data.toString('hex'), '001a001000000008' + '0000080000000200' + CONTROL);
    const long = await made.run([0x5a, 0x10, 0x0a, 0, 0, 0, 0, 0, 255, 0]);
    assert.equal(long.data.toString('hex'), '0022001001000010' + '0000000000000800' + '0000000000000200' + CONTROL);
  });

  it('tells what may be changed, the defaults, and that nothing is saved', async () => {
    const { host: made } = await host();
    const page = async (code: number): Promise<string | undefined> => {
      const result = await made.run([0x1a, 8, code, 0, 255, 0]);
      return result.sense ?? result.data.toString('hex', 4);
    };
    assert.equal(await page(0x48), '0812' + '04' + '00'.repeat(17));
    assert.equal(await page(0x4a), '0a0a' + '04000800' + '00'.repeat(6));
    assert.equal(await page(0x5c), '1c0a' + '00'.repeat(10));
    assert.equal(await page(0x88), CACHING);
    assert.equal(await page(0xc8), '5/39/00');
    assert.equal(await page(0x02), '5/24/00@2.5');
    const subpage = async (code: number, of: number): Promise<string | undefined> =>
      (await made.run([0x1a, 8, code, of, 255, 0])).sense;
    assert.equal(await subpage(0x0a, 0x02), '5/24/00@3.7', 'no such subpage');
    assert.equal(await subpage(0x3f, 0x01), '5/24/00@3.7', 'all pages have no subpage 01h');
  });
});

describe('MODE SELECT', () => {
  it('turns the write cache off: what was acknowledged is flushed, and the others are told', async () => {
    const { host: made, unit, device } = await host();
    const other = await new ScsiHost(unit).ready();
    const off = list('0812' + '00'.repeat(18));
    device.history.length = 0;
    assert.equal((await made.run(select6(off), off)).status, 0);
    assert.deepEqual(
      device.history.map(({ op }) => op),
      ['flush'],
    );
    assert.equal(unit.modes.writeCacheEnabled, false);
    assert.equal((await other.run([0])).sense, '6/2a/01');
    assert.equal((await made.run([0])).sense, undefined, 'who did it knows');
    assert.equal((await made.run(select6(off), off)).status, 0);
    assert.equal((await other.run([0])).sense, undefined, 'the same once more changes nothing');
    unit.reset(sense.logicalUnitReset);
    assert.equal(unit.modes.writeCacheEnabled, true);
  });

  it('of 10 bytes takes a block descriptor that changes nothing', async () => {
    const { host: made, unit } = await host();
    const control = '0a0a' + '0610' + '00000000' + 'ffff' + '0000';
    const bytes = Buffer.from('0000000000000008' + '0000000000000200' + control, 'hex');
    assert.equal((await made.run([0x55, 0x10, 0, 0, 0, 0, 0, 0, bytes.length, 0], bytes)).sense, undefined);
    assert.equal(unit.modes.descriptorSense, true);
    const told = new Uint8Array(18);
    assert.equal(unit.writeSense(told, 0, sense.lbaOutOfRange), 8);
    assert.equal(told[0], 0x72);
  });

  it('refuses what may not be changed, all or nothing, and says where', async () => {
    const { host: made, unit } = await host();
    const cases: readonly (readonly [string, Buffer, string])[] = [
      ['RCD', list('0812' + '05' + '00'.repeat(17)), '5/26/00@6.0'],
      [
        'QERR after WCE=0',
        list('0812' + '00'.repeat(18), '0a0a' + '0212' + '00000000' + 'ffff' + '0000'),
        '5/26/00@27.1',
      ],
      ['unknown page', list('0206' + '00'.repeat(6)), '5/26/00@4.5'],
      ['page length', list('0811' + '04' + '00'.repeat(17)), '5/26/00@5.1'],
      ['cut page', list('0812' + '04'), '5/1a/00'],
      ['IALUAE of a subpage', list(CONTROL_EXTENSION.replace('001c01', '001c00')), '5/26/00@8.0'],
      ['unknown subpage', list('4a02' + '0000'), '5/26/00@4.5'],
      ['cut subpage header', list('4a01' + '00'), '5/1a/00'],
      ['cut subpage', list('4a01' + '001c'), '5/1a/00'],
      ['one byte of a page', list('08'), '5/1a/00'],
      ['cut header', Buffer.from('000000', 'hex'), '5/1a/00'],
      ['descriptor length', Buffer.from('00000007' + '00'.repeat(7), 'hex'), '5/26/00@3.7'],
      ['cut descriptor', Buffer.from('00000008' + '0000', 'hex'), '5/1a/00'],
      ['block length', Buffer.from('00000008' + '0000000000001000', 'hex'), '5/26/00@9.7'],
    ];
    for (const [what, bytes, expected] of cases) {
      assert.equal((await made.run(select6(bytes), bytes)).sense, expected, what);
      assert.equal(unit.modes.writeCacheEnabled, true, what);
    }
    assert.equal((await made.run([0x15, 0x00, 0, 0, 0, 0])).sense, '5/24/00@1.4', 'PF=0');
    assert.equal((await made.run([0x15, 0x11, 0, 0, 0, 0])).sense, '5/24/00@1.0', 'SP=1');
    const same = list(CONTROL_EXTENSION);
    assert.equal((await made.run(select6(same), same)).sense, undefined, 'what is so already may be said');
    assert.equal((await made.run([0x15, 0x10, 0, 0, 0, 0])).sense, undefined, 'an empty list is no error');
  });
});
