/** What the gateway does with a volume's reservations: keeps them, and tells the log who has it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DurabilityLostError, GatewayError } from '../../../src/base/errors.js';
import { ReservationLine } from '../../../src/gateway/reservation-line.js';
import type { LogFields } from '../../../src/ports/log.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

const port = 'iqn.2026-11.test:a,i,0x800000000001';
const saved = {
  registrations: [{ port, key: '00000000000000aa', allTargetPorts: false }],
  reservation: { type: 3, holder: port },
};

class FieldLog extends RecordedLog {
  override info(message: string, fields: LogFields = {}): void {
    super.info(typeof fields['type'] === 'string' ? `${message}: ${fields['type']}` : message);
  }
}

function line(disk = new MemoryDisk()): {
  disk: MemoryDisk;
  clock: ManualClock;
  log: RecordedLog;
  fatal: Error[];
  line: ReservationLine;
} {
  const [clock, log, fatal] = [new ManualClock(), new FieldLog(), [] as Error[]];
  const onFatal = (error: Error): void => void fatal.push(error);
  const made = new ReservationLine({ volume: 'disk', disk, checksums: plainChecksums, clock, log, onFatal });
  return { disk, clock, log, fatal, line: made };
}

describe('the reservations of a volume', () => {
  it('are what was saved, with what they leave to NBD, from the opening on', async () => {
    const { disk, line: before } = line();
    await before.load();
    assert.deepEqual(before.unregistered, { mayRead: true, mayWrite: true });
    await before.save(saved);
    assert.deepEqual(before.saved, saved);
    const { line: after, log } = line(disk);
    await after.load();
    assert.deepEqual(after.saved, saved);
    assert.deepEqual(after.unregistered, { mayRead: false, mayWrite: false });
    assert.deepEqual(log.lines, ['info the volume is reserved: exclusive access']);
    await after.save({ ...saved, reservation: { type: 1, holder: port } });
    const { line: last } = line(disk);
    await last.load();
    assert.deepEqual(last.unregistered, { mayRead: true, mayWrite: false });
  });

  it('end the process where nobody knows what the disk has of them, not where it is full', async () => {
    const { disk, line: made, fatal } = line();
    const failing = (code: 'disk-full' | 'disk-failed') => (operation: string) => {
      if (operation !== 'stat') throw new GatewayError(code, 'it fails');
    };
    disk.hook = failing('disk-full');
    await assert.rejects(made.save(saved), { code: 'disk-full' });
    assert.deepEqual(fatal, []);
    disk.hook = failing('disk-failed');
    await assert.rejects(made.save(saved), DurabilityLostError);
    assert.equal(fatal.length, 1);
    assert.equal(made.saved, undefined);
  });

  it('are a line in the log, at most one a second, and the last of a second counts', () => {
    const { line: made, log, clock } = line();
    const told = (): string[] => log.lines.splice(0);
    for (let count = 0; count < 100; count++) {
      made.reserved({ type: 'RESERVE(6)', holder: port, registrations: 0 });
      made.reserved(undefined);
    }
    made.reserved({ type: 'write exclusive', holder: port, registrations: 1 });
    assert.deepEqual(told(), ['info the volume is reserved: RESERVE(6)']);
    clock.advance(1000);
    assert.deepEqual(told(), ['info the volume is reserved: write exclusive']);
    clock.advance(1000);
    assert.deepEqual(told(), []);
    made.reserved(undefined);
    assert.deepEqual(told(), ['info the volume is no longer reserved']);
    made.close();
  });

  it('are shown as who has it how, and how many are registered, of which the log says nothing', async () => {
    const { disk, line: made, log, clock } = line();
    assert.equal(made.status, undefined);
    await made.save(saved);
    const { line: after } = line(disk);
    await after.load();
    const shown = { type: 'exclusive access', holder: 'iqn.2026-11.test:a', registrations: 1 };
    assert.deepEqual(after.status, shown, 'from the opening on');
    made.reserved({ type: 'exclusive access', holder: port, registrations: 1 });
    log.lines.length = 0;
    made.reserved({ type: 'exclusive access', holder: port, registrations: 2 });
    assert.deepEqual(made.status, { ...shown, registrations: 2 });
    clock.advance(1000);
    made.reserved({ type: 'exclusive access', holder: port, registrations: 3 });
    assert.deepEqual(log.lines, []);
    const all = { type: 'exclusive access, all registrants', holder: undefined, registrations: 3 };
    made.reserved(all);
    assert.deepEqual(made.status, all);
    assert.equal(log.lines.length, 1);
    made.reserved(undefined);
    assert.equal(made.status, undefined);
    for (const each of [made, after]) each.close();
  });
});
