import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { sense } from '../../../src/scsi/sense.js';
import { step } from '../../../src/scsi/task.js';
import { unitDesignators } from '../../../src/scsi/unit-designator.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost, TestTask } from '../../fake/scsi-task.js';
import type { Result } from '../../fake/scsi-task.js';

const BLOCKS = 16_384;

async function made(): Promise<{ host: ScsiHost; unit: LogicalUnit; device: MemoryDevice }> {
  const device = new MemoryDevice({ sizeBytes: BLOCKS * 512 });
  for (let at = 0; at < device.image.length; at++) device.image[at] = (at * 7 + (at >> 9)) & 255;
  const unit = new LogicalUnit({ device, transportVersion: 0 });
  return { host: await new ScsiHost(unit).ready(), unit, device };
}

interface Part {
  readonly from: number;
  readonly to: number;
  readonly blocks: number;
  readonly toIndex?: number;
}

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0');

/** A CSCD descriptor that names the unit, by its n-th designator. */
function cscd(device: MemoryDevice, which = 0): string {
  const designator = Buffer.from(unitDesignators(device.uuid)[which]!).toString('hex');
  return `e4000000${designator.padEnd(48, '0')}00000200`;
}

function segment({ from, to, blocks, toIndex = 0 }: Part): string {
  return `020000180000${hex(toIndex, 4)}0000${hex(blocks, 4)}${hex(from, 16)}${hex(to, 16)}`;
}

function list(cscds: readonly string[], segments: readonly string[], header = '0100'): Buffer {
  const [targets, parts] = [cscds.join(''), segments.join('')];
  const lengths = `${hex(targets.length / 2, 4)}00000000${hex(parts.length / 2, 8)}00000000`;
  return Buffer.from(header + lengths + targets + parts, 'hex');
}

const copyCdb = (lengthBytes: number): number[] => [
  0x83,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  ...Buffer.from(hex(lengthBytes, 8), 'hex'),
  0,
  0,
];
const copy = (host: ScsiHost, bytes: Buffer): Promise<Result> => host.run(copyCdb(bytes.length), bytes);
const results = (host: ScsiHost, action: number, listId = 1): Promise<Result> =>
  host.run([0x84, action, listId, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);

describe('EXTENDED COPY (SPC-4 6.3)', () => {
  it('copies its segments in order, whichever designator names the unit', async () => {
    const { host, device } = await made();
    const old = Buffer.from(device.image);
    const ordered = list(
      [cscd(device, 0), cscd(device, 2)],
      [segment({ from: 3, to: 8000, blocks: 5000 }), segment({ from: 8000, to: 1, blocks: 1, toIndex: 1 })],
    );
    assert.equal((await copy(host, ordered)).sense, undefined);
    assert.ok(old.subarray(3 * 512, 5003 * 512).equals(device.image.subarray(8000 * 512, 13_000 * 512)));
    assert.ok(old.subarray(3 * 512, 4 * 512).equals(device.image.subarray(512, 1024)), 'sees what came before');
    assert.ok(old.subarray(13_000 * 512).equals(device.image.subarray(13_000 * 512)), 'and nothing else');
    assert.equal((await results(host, 0)).data.toString('hex'), '00000008' + '01' + '0002' + '01' + hex(2500, 8));
  });

  it('moves what overlaps as if it had read all of it first', async () => {
    for (const [from, to] of [
      [100, 3000],
      [3000, 100],
      [5, 6],
    ] as const) {
      const { host, device } = await made();
      const old = Buffer.from(device.image);
      const bytes = list([cscd(device)], [segment({ from, to, blocks: 9000 })]);
      assert.equal((await copy(host, bytes)).sense, undefined);
      const source = old.subarray(from * 512, (from + 9000) * 512);
      assert.ok(source.equals(device.image.subarray(to * 512, (to + 9000) * 512)), `${from} to ${to}`);
    }
  });

  it('leaves zeros without space, and writes through when the cache is off', async () => {
    const { host, device } = await made();
    device.image.fill(0, 0, 8192);
    await host.run([0x15, 0x10, 0, 0, 24, 0], Buffer.from('00000000' + '0812' + '00'.repeat(18), 'hex'));
    device.history.length = 0;
    const parts = [segment({ from: 0, to: 4096, blocks: 16 }), segment({ from: 16, to: 6000, blocks: 8 })];
    assert.equal((await copy(host, list([cscd(device)], parts))).sense, undefined);
    const changes = device.history.filter(({ op }) => op !== 'read');
    assert.deepEqual(
      changes.map(({ op, offset, lengthBytes, forceUnitAccess }) => [op, offset, lengthBytes, forceUnitAccess]),
      [
        ['trim', 4096 * 512, 8192, true],
        ['write', 6000 * 512, 4096, true],
      ],
    );
  });

  it('does nothing with an empty list, no segments or no blocks', async () => {
    const { host, device } = await made();
    device.history.length = 0;
    assert.equal((await host.run(copyCdb(0))).sense, undefined);
    assert.equal((await copy(host, list([], []))).sense, undefined);
    assert.equal((await copy(host, list([cscd(device)], [segment({ from: 0, to: 9, blocks: 0 })]))).sense, undefined);
    assert.equal(device.history.length, 0);
  });

  it('refuses a list that is wrong before anything is copied', async () => {
    const { host, device } = await made();
    const good = segment({ from: 0, to: 100, blocks: 8 });
    const target = cscd(device);
    const cases: readonly (readonly [string, Buffer, string])[] = [
      ['cut header', Buffer.alloc(15), '5/1a/00'],
      ['cut target', list([target], [good]).subarray(0, 47), '5/1a/00'],
      ['cut segment', list([target], [good]).subarray(0, 75), '5/1a/00'],
      ['17 targets', list(Array<string>(17).fill(target), [good]), '5/26/06'],
      ['65 segments', list([target], Array<string>(65).fill(good)), '5/26/08'],
      ['too long', list(Array<string>(17).fill(target), Array<string>(65).fill(good)), '5/1a/00'],
      ['a target that is no whole descriptor', list([target + '00'], [good]), '5/26/00@2.7'],
      ['inline data', Buffer.from('0100002000000000' + '00000000' + '00000001' + target, 'hex'), '5/1a/00'],
      ['another kind of target', list(['e0' + target.slice(2)], [good]), '5/26/07'],
      ['stream to stream', list([target], [good, '03' + good.slice(2)]), '5/26/09'],
      ['another segment length', list([target], [good.replace('02000018', '02000014')]), '5/26/00@50.7'],
      ['half a segment', list([target], [good, good.slice(0, 20)]), '5/1a/00'],
      ['blocks of 4096 bytes', list([target.replace(/0200$/, '1000')], [good]), '5/26/00@45.7'],
      ['a reserved list id usage', list([target], [good], '0108'), '5/26/00@1.4'],
      ['a list id where there is none', list([target], [good], '0118'), '5/26/00@0.7'],
    ];
    const before = device.history.length;
    for (const [what, bytes, expected] of cases) assert.equal((await copy(host, bytes)).sense, expected, what);
    assert.equal(device.history.length, before);
  });

  it('aborts at a segment that leads elsewhere or too far, and names it', async () => {
    const { host, device } = await made();
    const old = Buffer.from(device.image);
    const good = segment({ from: 8, to: 100, blocks: 8 });
    const foreign = cscd(device).replace('37060504', '37060505');
    const cases: readonly (readonly [string, Buffer, string])[] = [
      [
        'an index without a target',
        list([cscd(device)], [good, good.replace('02000018000000', '02000018000001')]),
        'a/08/04',
      ],
      [
        'another unit',
        list([cscd(device), foreign], [good, segment({ from: 0, to: 0, blocks: 1, toIndex: 1 })]),
        'a/08/04',
      ],
      [
        'no disk',
        list(
          [cscd(device), `e401${cscd(device).slice(4)}`],
          [good, segment({ from: 0, to: 0, blocks: 1, toIndex: 1 })],
        ),
        'a/08/04',
      ],
      ['past the end', list([cscd(device)], [good, segment({ from: 0, to: BLOCKS - 1, blocks: 2 })]), 'a/00/00'],
      ['from past the end', list([cscd(device)], [good, segment({ from: 2 ** 52, to: 0, blocks: 1 })]), 'a/00/00'],
    ];
    for (const [what, bytes, expected] of cases) {
      device.image.set(old);
      const { sense: told, task } = await copy(host, bytes);
      assert.equal(told, expected, what);
      assert.equal(task.sense?.commandInformation, 1, what);
      assert.ok(
        old.subarray(8 * 512, 16 * 512).equals(device.image.subarray(100 * 512, 108 * 512)),
        'the first is copied',
      );
      const status = await results(host, 0);
      assert.equal(status.data.toString('hex'), '00000008' + '02' + '0001' + '01' + hex(4, 8), what);
    }
    const details = (await results(host, 4)).data;
    assert.equal(details.readUInt32BE(0), details.length - 4);
    assert.equal(details[56], 0x02);
    assert.equal(details.toString('hex', 58), '0012' + '70000a000000000a' + '00000001' + '000000000000');
    assert.equal((await results(host, 4)).sense, '5/24/00@2.7', 'told once');
  });

  it('ends with what the device fails with, as COPY ABORTED', async () => {
    const { host, device } = await made();
    const bytes = list([cscd(device)], [segment({ from: 0, to: 100, blocks: 8 })]);
    device.failNext('read', new GatewayError('checksum-mismatch', 'rotten'));
    assert.equal((await copy(host, bytes)).sense, 'a/11/00');
    device.failNext('write', new GatewayError('disk-full', 'full'));
    assert.equal((await copy(host, bytes)).sense, 'a/27/07');
    device.close();
    const { status, sense: none } = await copy(host, bytes);
    assert.deepEqual([status, none], [8, undefined], 'a gateway that stops is busy');
  });

  it('waits for a device that takes no writes, and ends at its next piece when it is aborted', async () => {
    const { host, unit, device } = await made();
    const bytes = list([cscd(device)], [segment({ from: 0, to: 8000, blocks: 6000 })]);
    device.writable = false;
    const running = copy(host, bytes);
    await new Promise(setImmediate);
    device.writable = true;
    assert.equal((await running).sense, undefined);

    device.holdReads = true;
    device.history.length = 0;
    const task = new TestTask();
    task.offeredBytes = bytes.length;
    const cdb = Uint8Array.from([...copyCdb(bytes.length), 0, 0, 0, 0]);
    assert.equal(unit.begin(host.nexus, task, cdb, 0), step.collect);
    assert.equal(unit.accept(task, bytes), step.waiting);
    await new Promise(setImmediate);
    await new Promise(setImmediate);
    assert.equal((await copy(host, bytes)).sense, '5/00/16', 'its identifier is in use');
    assert.equal((await results(host, 0)).data[4], 0x00, 'in progress');
    task.aborted = true;
    device.heldReads[0]!.release();
    await task.end;
    assert.deepEqual(
      device.history.filter(({ op }) => op !== 'read'),
      [],
    );
    assert.equal((await results(host, 0)).data[4], 0x02);
  });

  it('takes no more copies at once than it says', async () => {
    const { host, unit, device } = await made();
    device.holdReads = true;
    const ends: Promise<unknown>[] = [];
    for (let id = 0; id < 8; id++) {
      ends.push(copy(host, list([cscd(device)], [segment({ from: 0, to: 100, blocks: 1 })], `${hex(id, 2)}00`)));
    }
    const one = list([cscd(device)], [segment({ from: 0, to: 100, blocks: 1 })], '0018');
    assert.equal((await copy(host, one)).status, 8);
    while (device.heldReads.length < 8) await new Promise(setImmediate);
    device.holdReads = false;
    for (const read of device.heldReads.splice(0)) read.release();
    await Promise.all(ends);
    assert.equal(unit.copies.running, 0);
    assert.equal((await copy(host, one)).sense, undefined);
  });
});

describe('RECEIVE COPY RESULTS (SPC-4 6.18)', () => {
  it('tells what the unit can copy', async () => {
    const { host } = await made();
    const { data } = await results(host, 3);
    assert.equal(data.readUInt32BE(0), data.length - 4);
    assert.equal(data.toString('hex', 4, 20), '01000000' + '0010' + '0040' + '00000900' + '01fffe00');
    assert.equal(data.toString('hex', 34), '0008' + '08' + '09' + '0000000000' + '02' + '02e4');
  });

  it('knows copies by initiator and identifier, until a reset, and no discarded ones', async () => {
    const { host, unit, device } = await made();
    const other = await new ScsiHost(unit).ready();
    const part = segment({ from: 0, to: 100, blocks: 2 });
    assert.equal((await results(host, 0)).sense, '5/24/00@2.7', 'none yet');
    for (const header of ['0110', '0018']) {
      assert.equal((await copy(host, list([cscd(device)], [part], header))).sense, undefined);
    }
    assert.equal((await results(host, 0)).sense, '5/24/00@2.7', 'discarded');
    await copy(host, list([cscd(device)], [part]));
    assert.equal((await results(host, 0)).data[4], 0x01);
    assert.equal((await results(host, 4)).data.toString('hex'), '00000000', 'it did not fail');
    assert.equal((await results(other, 0)).sense, '5/24/00@2.7', 'of another initiator');
    unit.reset(sense.logicalUnitReset);
    await host.ready();
    assert.equal((await results(host, 0)).sense, '5/24/00@2.7', 'before the reset');
  });

  it('agrees with the third-party copy page (SPC-4 7.8.17)', async () => {
    const { host } = await made();
    const { data } = await host.run([0x12, 1, 0x8f, 0, 255, 0]);
    assert.equal(
      data.toString('hex'),
      '008f005c' +
        '0001000c' +
        '08' +
        '830100' +
        '8403000304' +
        '000000' +
        '0004001c' +
        '00000000' +
        '0010' +
        '0040' +
        '00000900' +
        '00'.repeat(16) +
        '00080004' +
        '0202e400' +
        '80010020' +
        '00000008' +
        '00000008' +
        '01fffe00' +
        '09' +
        '00'.repeat(19),
    );
  });
});
