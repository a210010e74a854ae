import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import type { SanitizeOrder, VolumeSanitizer } from '../../../src/ports/volume-sanitizer.js';
import { LogicalUnit } from '../../../src/scsi/logical-unit.js';
import { sense } from '../../../src/scsi/sense.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { ScsiHost } from '../../fake/scsi-task.js';

class FakeSanitizer implements VolumeSanitizer {
  state: VolumeSanitizer['state'] = 'none';
  progress = 0;
  readonly orders: SanitizeOrder[] = [];
  refusal: GatewayError | undefined;
  end: (succeeded: boolean) => void = () => undefined;

  begin(order: SanitizeOrder): ReturnType<VolumeSanitizer['begin']> {
    if (this.refusal !== undefined) return { begun: Promise.reject(this.refusal), ended: new Promise(() => undefined) };
    this.orders.push(order);
    this.state = 'running';
    const ended = new Promise<boolean>((resolve) => {
      this.end = (succeeded) => {
        this.state = succeeded ? 'none' : 'failed';
        resolve(succeeded);
      };
    });
    return { begun: Promise.resolve(), ended };
  }

  exitFailure(): Promise<boolean> {
    const allowed = this.orders.at(-1)?.mayExitFailure === true;
    if (allowed) this.state = 'none';
    return Promise.resolve(allowed);
  }
}

async function made(): Promise<{ host: ScsiHost; unit: LogicalUnit; sanitizer: FakeSanitizer }> {
  const sanitizer = new FakeSanitizer();
  const unit = new LogicalUnit({
    device: new MemoryDevice({ sizeBytes: 1024 * 1024 }),
    transportVersion: 0,
    sanitizer,
  });
  return { host: await new ScsiHost(unit).ready(), unit, sanitizer };
}

const IMMED = 0x80;
const AUSE = 0x20;
const cdb = (action: number, lengthBytes = 0): number[] => [
  0x48,
  action,
  0,
  0,
  0,
  0,
  0,
  lengthBytes >> 8,
  lengthBytes & 255,
  0,
];
const pattern = (first: number, bytes: readonly number[], announced = bytes.length): Buffer =>
  Buffer.from([first, 0, announced >> 8, announced & 255, ...bytes]);

describe('SANITIZE (SBC-3 5.33)', () => {
  it('hands its order on, and answers when it is over, or, with IMMED, when it has begun', async () => {
    const { host, sanitizer } = await made();
    const list = pattern(0x83, [1, 2]);
    const waiting = host.run(cdb(0x01 | AUSE, list.length), list);
    await new Promise(setImmediate);
    assert.equal(sanitizer.state, 'running');
    sanitizer.end(true);
    assert.equal((await waiting).status, 0);
    assert.equal((await host.run(cdb(0x02 | IMMED))).status, 0);
    assert.equal(sanitizer.state, 'running');
    assert.deepEqual(sanitizer.orders, [
      { method: 'overwrite', pattern: Uint8Array.of(1, 2), passes: 3, inverts: true, mayExitFailure: true },
      { method: 'blockErase', pattern: new Uint8Array(0), passes: 1, inverts: false, mayExitFailure: false },
    ]);
  });

  it('refuses what is wrong before anything begins', async () => {
    const { host, sanitizer } = await made();
    const run = async (action: number, list: Buffer): Promise<string | undefined> =>
      (await host.run(cdb(action, list.length), list)).sense;
    for (const length of [0, 4, 517]) assert.equal(await run(0x01, Buffer.alloc(length)), '5/24/00@7.7');
    assert.equal(await run(0x01, pattern(0x00, [1])), '5/26/00@0.4', 'no pass');
    assert.equal(await run(0x01, pattern(0x41, [1])), '5/26/00@0.6', 'a vendor test');
    assert.equal(await run(0x01, pattern(0x01, [1], 0)), '5/26/00@2.7', 'no pattern');
    assert.equal(await run(0x01, pattern(0x01, new Array<number>(512).fill(1), 513)), '5/26/00@2.7', 'a long pattern');
    assert.equal(await run(0x01, pattern(0x01, [1], 2)), '5/1a/00', 'less than it says');
    const few = await host.run(cdb(0x01, 8), pattern(0x01, [1]));
    assert.equal(few.sense, '5/1a/00', 'less than the command says');
    for (const action of [0x02, 0x1f]) assert.equal(await run(action, Buffer.alloc(8)), '5/24/00@7.7');
    assert.equal(await run(0x03, Buffer.alloc(0)), '5/24/00@1.4', 'there is no cryptographic erase');
    assert.equal((await host.run([0x48, 0x42, 0, 0, 0, 0, 0, 0, 0, 0])).sense, '5/24/00@1.6', 'ZNR');
    assert.deepEqual(sanitizer.orders, []);
  });

  it('is not there where a bucket would keep the data, and no erase is promised', async () => {
    const unit = new LogicalUnit({ device: new MemoryDevice({ sizeBytes: 4096 }), transportVersion: 0 });
    const host = await new ScsiHost(unit).ready();
    for (const action of [0x02, 0x1f]) assert.equal((await host.run(cdb(action))).sense, '5/20/00');
    assert.equal((await host.run(cdb(0x01, 5), pattern(1, [1]))).sense, '5/20/00');
    const reported = async (of: ScsiHost): Promise<string> =>
      (await of.run([0xa3, 0x0c, 3, 0x48, 0, 2, 0, 0, 0, 255, 0, 0])).data.toString('hex');
    const erase = async (of: ScsiHost): Promise<number | undefined> =>
      (await of.run([0x12, 1, 0xb1, 0, 255, 0])).data[7];
    assert.deepEqual([await reported(host), await erase(host)], ['00010000', 0x00]);
    const { host: able } = await made();
    assert.deepEqual([await reported(able), await erase(able)], ['0003000a' + '48a20000000000ffff00', 0x40]);
  });

  it('is refused on a unit that may not be written', async () => {
    const { host, unit } = await made();
    unit.modes.softwareWriteProtect = true;
    assert.equal((await host.run(cdb(0x02))).sense, '7/27/02');
  });

  it('lets only INQUIRY, REPORT LUNS and REQUEST SENSE pass meanwhile, and says how far it is (SBC-3 4.11)', async () => {
    const { host, unit, sanitizer } = await made();
    await host.run(cdb(0x02 | IMMED));
    sanitizer.progress = 0.5;
    for (const { name, usage, serviceAction, passesAttention } of unit.commands) {
      const bytes = new Array<number>(usage.length).fill(0);
      bytes[0] = usage[0]!;
      bytes[1] = serviceAction ?? 0;
      const { sense: told } = await host.run(bytes);
      if (passesAttention) assert.notEqual(told, '2/04/1b', name);
      else assert.equal(told, '2/04/1b', name);
      assert.equal(unit.isInquiry(Uint8Array.from(bytes), 0), true, `${name} waits for nobody`);
    }
    assert.equal(sanitizer.orders.length, 1);
    const { task } = await host.run([0]);
    const told = new Uint8Array(40);
    unit.writeSense(told, 0, task.sense!);
    assert.equal(Buffer.from(told).toString('hex', 0, 18), '70000200000000' + '0a00000000' + '041b00' + '807fff');
    const { data } = await host.run([0x03, 1, 0, 0, 252, 0]);
    assert.equal(data.toString('hex'), '7202041b' + '00000008' + '02060000' + '807fff00');
  });

  it('goes on when its command is aborted or the unit is reset', async () => {
    const { host, unit, sanitizer } = await made();
    const waiting = host.run(cdb(0x02));
    await new Promise(setImmediate);
    unit.reset(sense.logicalUnitReset);
    assert.equal((await host.run([0])).sense, '6/29/03');
    assert.equal((await host.run([0])).sense, '2/04/1b');
    sanitizer.end(true);
    await waiting;
    assert.equal((await host.run([0])).sense, undefined);
  });

  it('leaves a unit that it failed on to SANITIZE alone', async () => {
    const { host, sanitizer } = await made();
    const failing = host.run(cdb(0x02 | AUSE));
    await new Promise(setImmediate);
    sanitizer.end(false);
    assert.equal((await failing).sense, '3/31/03');
    assert.equal((await host.run([0])).sense, '3/31/03');
    assert.equal((await host.run([0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0])).sense, '3/31/03');
    assert.equal((await host.run(cdb(0x1f))).sense, undefined);
    assert.equal((await host.run([0])).sense, undefined);
    await host.run(cdb(0x02 | IMMED));
    sanitizer.end(false);
    assert.equal((await host.run(cdb(0x1f))).sense, '5/24/00@1.4', 'in restricted mode');
    await host.run(cdb(0x02 | IMMED));
    sanitizer.end(true);
    assert.equal((await host.run([0])).sense, undefined, 'a further one ends it');
  });

  it('that cannot be recorded fails, and changes nothing', async () => {
    const { host, sanitizer } = await made();
    sanitizer.refusal = new GatewayError('disk-full', 'full');
    assert.equal((await host.run(cdb(0x02))).sense, '7/27/07');
    assert.equal((await host.run([0])).sense, undefined);
  });
});
