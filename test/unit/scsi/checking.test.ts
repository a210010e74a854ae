import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { limits } from '../../../src/base/limits.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { scsiStatus, writeSense } from '../../../src/scsi/sense.js';
import { step } from '../../../src/scsi/task.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { settled } from '../../fake/memory-stream.js';
import { ScsiHost, TestTask } from '../../fake/scsi-task.js';

const BLOCKS = 4096;
const BLOCK = 512;

async function host(): Promise<{ host: ScsiHost; device: MemoryDevice; unit: LogicalUnit }> {
  const device = new MemoryDevice({ sizeBytes: BLOCKS * BLOCK });
  for (let at = 0; at < device.image.length; at++) device.image[at] = (at * 7 + (at >> 9)) & 0xff;
  const unit = new LogicalUnit({ device, transportVersion: 0 });
  const made = await new ScsiHost(unit).ready();
  device.history.length = 0;
  return { host: made, device, unit };
}

const u16 = (value: number): number[] => [(value >>> 8) & 255, value & 255];
const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];
const u64 = (value: number): number[] => [...u32(Math.floor(value / 2 ** 32)), ...u32(value % 2 ** 32)];

type Cdb = (lba: number, blocks: number, flags?: number) => number[];
const ten =
  (code: number): Cdb =>
  (lba, blocks, flags = 0) => [code, flags, ...u32(lba), 0, ...u16(blocks), 0];
const twelve =
  (code: number): Cdb =>
  (lba, blocks, flags = 0) => [code, flags, ...u32(lba), ...u32(blocks), 0, 0];
const sixteen =
  (code: number): Cdb =>
  (lba, blocks, flags = 0) => [code, flags, ...u64(lba), ...u32(blocks), 0, 0];

const verifies: Readonly<Record<string, Cdb>> = {
  'VERIFY(10)': ten(0x2f),
  'VERIFY(12)': twelve(0xaf),
  'VERIFY(16)': sixteen(0x8f),
};
const writesAndVerifies: Readonly<Record<string, Cdb>> = {
  'WRITE AND VERIFY(10)': ten(0x2e),
  'WRITE AND VERIFY(12)': twelve(0xae),
  'WRITE AND VERIFY(16)': sixteen(0x8e),
};
const compareAndWrite = (lba: number, blocks: number, flags = 0): number[] => [
  ...[0x89, flags, ...u64(lba)],
  ...[0, 0, 0, blocks, 0, 0],
];
const orWrite = sixteen(0x8b);

const informationOf = (task: TestTask): number | undefined => task.sense?.information;

describe('VERIFY (SBC-3 5.29 to 5.31)', () => {
  it('without byte check reads every block, and fails where one cannot be read', async () => {
    for (const [name, cdb] of Object.entries(verifies)) {
      const { host: made, device } = await host();
      assert.equal((await made.run(cdb(3, 300))).status, 0, name);
      const read = device.history.filter(({ op }) => op === 'read');
      assert.equal(read[0]?.offset, 3 * BLOCK);
      assert.equal(
        read.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0),
        300 * BLOCK,
        name,
      );
      device.failNext('read', new GatewayError('checksum-mismatch', 'rotten'));
      assert.equal((await made.run(cdb(0, 1))).sense, '3/11/00', name);
    }
  });

  it('with BYTCHK 01b compares byte for byte, and says where the first difference is', async () => {
    for (const [name, cdb] of Object.entries(verifies)) {
      const { host: made, device } = await host();
      const data = Buffer.from(device.image.subarray(5 * BLOCK, 305 * BLOCK));
      assert.equal((await made.run(cdb(5, 300, 0x02), data)).status, 0, name);
      for (const at of [0, 511, 512, 65_536, 300 * BLOCK - 1]) {
        data[at]! ^= 1;
        const result = await made.run(cdb(5, 300, 0x02), data);
        assert.deepEqual([result.sense, informationOf(result.task)], ['e/1d/00', at], name);
        data[at]! ^= 1;
      }
    }
  });

  it('with BYTCHK 11b compares every block with one', async () => {
    for (const [name, cdb] of Object.entries(verifies)) {
      const { host: made, device } = await host();
      const block = Buffer.alloc(BLOCK, 0x5a);
      device.image.fill(0x5a, 0, 200 * BLOCK);
      assert.equal((await made.run(cdb(0, 200, 0x06), block)).status, 0, name);
      device.image[150 * BLOCK + 7] = 0;
      const result = await made.run(cdb(0, 200, 0x06), block);
      assert.deepEqual([result.sense, informationOf(result.task)], ['e/1d/00', 150 * BLOCK + 7], name);
      assert.equal((await made.run(cdb(0, 2, 0x06), block.subarray(0, 100))).sense, '5/1a/00', name);
    }
  });

  it('refuses BYTCHK 10b, what lies behind the end, and too much', async () => {
    const { host: made } = await host();
    for (const [name, cdb] of Object.entries(verifies)) {
      assert.equal((await made.run(cdb(0, 1, 0x04))).sense, '5/24/00@1.2', name);
      assert.equal((await made.run(cdb(BLOCKS, 1))).sense, '5/21/00', name);
      assert.equal((await made.run(cdb(0, 0, 0x02))).step, step.finished, name);
    }
    assert.match((await made.run(verifies['VERIFY(16)']!(0, BLOCKS + 1))).sense ?? '', /^5\/21/);
  });

  it('ends when it is aborted', async () => {
    const { host: made, unit, device } = await host();
    const task = new TestTask();
    const cdb = new Uint8Array(16);
    cdb.set(verifies['VERIFY(16)']!(0, BLOCKS));
    assert.equal(unit.begin(made.nexus, task, cdb, 0), step.waiting);
    task.aborted = true;
    assert.equal(await task.end, undefined);
    assert.deepEqual(device.history, []);
  });
});

describe('WRITE AND VERIFY (SBC-3 5.36 to 5.38)', () => {
  it('writes durably, then reads', async () => {
    for (const [name, cdb] of Object.entries(writesAndVerifies)) {
      for (const flags of [0, 0x02]) {
        const { host: made, device } = await host();
        const data = Buffer.alloc(3 * BLOCK, 0x77);
        assert.equal((await made.run(cdb(9, 3, flags), data)).status, 0, name);
        assert.deepEqual(Buffer.from(device.image.subarray(9 * BLOCK, 12 * BLOCK)), data);
        assert.deepEqual(
          device.history.map(({ op, forceUnitAccess }) => [op, forceUnitAccess]),
          [
            ['write', true],
            ['read', false],
          ],
        );
      }
    }
  });

  it('with BYTCHK tells what the medium made of the data', async () => {
    const { host: made, device } = await host();
    const write = device.write.bind(device);
    device.write = (...args) => {
      write(...args);
      device.image[9 * BLOCK + 600]! ^= 0xff;
    };
    const data = Buffer.alloc(2 * BLOCK, 0x77);
    const result = await made.run(writesAndVerifies['WRITE AND VERIFY(16)']!(9, 2, 0x02), data);
    assert.deepEqual([result.sense, informationOf(result.task)], ['e/1d/00', 600]);
  });

  it('waits until the volume takes writes', async () => {
    const { host: made, device } = await host();
    device.writable = false;
    const running = made.run(writesAndVerifies['WRITE AND VERIFY(10)']!(0, 1), Buffer.alloc(BLOCK, 1));
    await settled();
    assert.deepEqual(device.history, []);
    device.writable = true;
    assert.equal((await running).status, 0);
  });

  it('refuses reserved bits of BYTCHK', async () => {
    const { host: made } = await host();
    for (const cdb of Object.values(writesAndVerifies))
      assert.equal((await made.run(cdb(0, 1, 0x04))).sense, '5/24/00@1.2');
  });
});

describe('COMPARE AND WRITE (SBC-3 5.2)', () => {
  const both = (expected: Uint8Array, next: Uint8Array): Buffer => Buffer.concat([expected, next]);

  it('writes where all is as expected, and nothing where it is not', async () => {
    const { host: made, device } = await host();
    const old = Buffer.from(device.image.subarray(8 * BLOCK, 11 * BLOCK));
    const next = Buffer.alloc(3 * BLOCK, 0x31);
    const wrong = Buffer.from(old);
    wrong[1000]! ^= 1;
    const refused = await made.run(compareAndWrite(8, 3), both(wrong, next));
    assert.deepEqual([refused.sense, informationOf(refused.task)], ['e/1d/00', 1000]);
    assert.deepEqual(Buffer.from(device.image.subarray(8 * BLOCK, 11 * BLOCK)), old);
    assert.equal((await made.run(compareAndWrite(8, 3, 0x08), both(old, next))).status, 0);
    assert.deepEqual(Buffer.from(device.image.subarray(8 * BLOCK, 11 * BLOCK)), next);
    assert.deepEqual(
      device.history.map(({ op, forceUnitAccess }) => [op, forceUnitAccess]),
      [['write', true]],
    );
  });

  it('refuses data of another length than twice the blocks, and more blocks than the limits page says', async () => {
    const { host: made } = await host();
    assert.equal((await made.run(compareAndWrite(0, 2), Buffer.alloc(2 * BLOCK))).sense, '5/24/00@13.7');
    assert.equal((await made.run(compareAndWrite(0, 0), Buffer.alloc(512 * BLOCK))).sense, '5/24/00@13.7');
    assert.equal((await made.run(compareAndWrite(0, 0))).step, step.finished);
    assert.equal((await made.run(compareAndWrite(BLOCKS - 1, 2))).sense, '5/21/00');
    const limitsPage = (await made.run([0x12, 1, 0xb0, 0, 64, 0])).data;
    assert.equal(limitsPage[5], 255);
  });

  it('lets one of several at once win', async () => {
    const { host: made, device } = await host();
    const old = Buffer.from(device.image.subarray(0, BLOCK));
    const results = await Promise.all(
      Array.from({ length: 16 }, (_, index) => made.run(compareAndWrite(0, 1), both(old, Buffer.alloc(BLOCK, index)))),
    );
    assert.equal(results.filter(({ status }) => status === 0).length, 1);
    assert.equal(results.filter(({ sense }) => sense === 'e/1d/00').length, 15);
  });

  it('that is aborted before it compares writes nothing', async () => {
    const { host: made, unit, device } = await host();
    const old = Buffer.from(device.image.subarray(0, BLOCK));
    const task = new TestTask();
    task.offeredBytes = 2 * BLOCK;
    const cdb = new Uint8Array(16);
    cdb.set(compareAndWrite(0, 1));
    unit.begin(made.nexus, task, cdb, 0);
    unit.accept(task, both(old, Buffer.alloc(BLOCK)));
    task.aborted = true;
    await task.end;
    assert.deepEqual(Buffer.from(device.image.subarray(0, BLOCK)), old);
  });
});

describe('ORWRITE(16) (SBC-3 5.6)', () => {
  it('sets bits, and clears none, over ranges longer than one update', async () => {
    const { host: made, device } = await host();
    const blocks = 600;
    const old = Buffer.from(device.image.subarray(BLOCK, (1 + blocks) * BLOCK));
    const bits = Buffer.alloc(blocks * BLOCK, 0x81);
    assert.equal((await made.run(orWrite(1, blocks, 0x08), bits)).status, 0);
    assert.deepEqual(
      Buffer.from(device.image.subarray(BLOCK, (1 + blocks) * BLOCK)),
      Buffer.from(old.map((byte) => byte | 0x81)),
    );
    assert.ok(device.history.every(({ op, forceUnitAccess }) => op === 'write' && forceUnitAccess));
  });

  it('loses no bit of another one at the same time', async () => {
    const { host: made, device } = await host();
    device.image.fill(0);
    await Promise.all(Array.from({ length: 8 }, (_, bit) => made.run(orWrite(0, 1), Buffer.alloc(BLOCK, 1 << bit))));
    assert.ok(device.image.subarray(0, BLOCK).every((byte) => byte === 0xff));
  });
});

describe('PRE-FETCH (SBC-3 5.11, 5.12)', () => {
  const prefetches: readonly Cdb[] = [ten(0x34), sixteen(0x90)];

  it('brings the range, and says CONDITION MET', async () => {
    for (const cdb of prefetches) {
      for (const immediate of [0, 0x02]) {
        const { host: made, device } = await host();
        assert.equal((await made.run(cdb(8, 16, immediate))).status, scsiStatus.conditionMet);
        assert.deepEqual(
          device.history.map(({ op, offset, lengthBytes }) => [op, offset, lengthBytes]),
          [['cache', 8 * BLOCK, 16 * BLOCK]],
        );
      }
    }
  });

  it('is a hint: beyond a few at a time it brings nothing, and says GOOD, answered at once or not', async () => {
    for (const cdb of prefetches) {
      const { host: made, device, unit } = await host();
      const statuses: number[] = [];
      for (let count = 0; count < 100; count++) statuses.push((await made.run(cdb(count, 1, 0x02))).status);
      const met = statuses.filter((status) => status === scsiStatus.conditionMet).length;
      assert.deepEqual([met, statuses.length - met], [limits.scsiPrefetchesMax, 100 - limits.scsiPrefetchesMax]);
      assert.equal(statuses.at(-1), scsiStatus.good);
      assert.equal(device.history.length, limits.scsiPrefetchesMax);
      assert.equal((await made.run(cdb(0, 1))).status, scsiStatus.good);
      device.commit();
      await settled();
      assert.equal((await made.run(cdb(0, 1))).status, scsiStatus.conditionMet);
      assert.equal(unit.prefetches, 0);
    }
  });

  it('of no blocks goes to the end of the medium, and beyond it there is nothing', async () => {
    for (const cdb of prefetches) {
      const { host: made, device } = await host();
      await made.run(cdb(BLOCKS - 5, 0));
      assert.equal(device.history[0]?.lengthBytes, 5 * BLOCK);
      assert.equal((await made.run(cdb(BLOCKS - 1, 2))).sense, '5/21/00');
      assert.equal((await made.run(cdb(BLOCKS, 0))).sense, '5/21/00');
    }
  });
});

describe('WRITE ATOMIC(16) (SBC-4 5.48)', () => {
  const writeAtomic = (lba: number, blocks: number, boundary = 0): number[] => [
    ...[0x9c, 0, ...u64(lba)],
    ...u16(boundary),
    ...u16(blocks),
    ...[0, 0],
  ];

  it('takes whole blocks of the volume up to the length of one record, and nothing else', async () => {
    const { host: made } = await host();
    const page = (await made.run([0x12, 1, 0xb0, 0, 64, 0])).data;
    const [most, alignment, granularity] = [page.readUInt32BE(44), page.readUInt32BE(48), page.readUInt32BE(52)];
    assert.deepEqual([most, alignment, granularity], [256, 8, 8]);
    assert.deepEqual([page.readUInt32BE(56), page.readUInt32BE(60)], [0, 0]);
    assert.equal((await made.run(writeAtomic(8, most))).step, step.writeMedium);
    assert.equal((await made.run(writeAtomic(8, most + granularity))).sense, '5/24/00@12.7');
    assert.equal((await made.run(writeAtomic(8, 4))).sense, '5/24/00@12.7');
    assert.equal((await made.run(writeAtomic(4, 8))).sense, '5/24/00@2.7');
    assert.equal((await made.run(writeAtomic(8, 8, 8))).sense, '5/24/00@11.3');
    assert.equal((await made.run(writeAtomic(BLOCKS, 8))).sense, '5/21/00');
  });
});

describe('sense data with information (SPC-4 4.5.2, 4.5.3)', () => {
  it('stand in both formats', () => {
    const what = { status: 2, key: 0xe, asc: 0x1d, ascq: 0, information: 0x01020304 };
    const bytes = Buffer.alloc(64, 0xff);
    assert.equal(writeSense(bytes, 0, what, false), 18);
    assert.equal(bytes.toString('hex', 0, 18), 'f0000e010203040a000000001d0000000000');
    assert.equal(writeSense(bytes, 0, what, true), 20);
    assert.equal(bytes.toString('hex', 0, 20), '720e1d000000000c000a80000000000001020304');
  });
});

describe('memory for what commands gather', () => {
  it('has a limit for all initiators of a unit', async () => {
    const { unit } = await host();
    assert.ok(unit.gather(64 * 1024 * 1024));
    assert.ok(!unit.gather(512));
    assert.ok(unit.gather(256), 'a small list finds room');
    unit.ungather(64 * 1024 * 1024 + 256);
    assert.ok(unit.gather(512));
  });
});
