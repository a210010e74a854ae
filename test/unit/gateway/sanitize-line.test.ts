/** SANITIZE of a volume (SBC-3 4.11): who is refused meanwhile, what a crash leaves, how it fails. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { GatewayError } from '../../../src/base/errors.js';
import { readSanitizeRecord, SANITIZE_FILE } from '../../../src/engine/sanitize-record.js';
import { GuardedDevice } from '../../../src/gateway/guarded-device.js';
import { SanitizeLine } from '../../../src/gateway/sanitize-line.js';
import type { SanitizeOrder } from '../../../src/ports/volume-sanitizer.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDevice } from '../../fake/memory-device.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const MIB = 1024 * 1024;
const LOG_BYTES = 2 * MIB;
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const overwrite: SanitizeOrder = {
  method: 'overwrite',
  pattern: Uint8Array.of(1, 2, 3),
  passes: 1,
  inverts: false,
  mayExitFailure: false,
};
const erase: SanitizeOrder = { ...overwrite, method: 'blockErase', pattern: new Uint8Array(0) };

function stage(disk = new MemoryDisk()) {
  const device = new MemoryDevice({ name: 'disk0', sizeBytes: 4 * MIB });
  device.image.fill(0x55);
  const clock = new ManualClock();
  const log = new RecordedLog();
  const fatal: Error[] = [];
  const line = new SanitizeLine({
    volume: 'disk0',
    disk,
    checksums: plainChecksums,
    clock,
    log,
    onFatal: (error) => fatal.push(error),
  });
  const served = new GuardedDevice(device, () => line.refusal());
  /** Lets it work until it is over, or nothing moves any more. */
  const work = async (turnsMax = 400): Promise<void> => {
    for (let turn = 0; turn < turnsMax && line.state === 'running'; turn++) {
      clock.advance(1000);
      await settle();
    }
  };
  return { disk, device, clock, log, fatal, line, served, work };
}

const done = { done: () => undefined };

describe('a sanitize', () => {
  it('overwrites every block with the pattern, and the log with as much again, before anybody is served', async () => {
    const { line, device, disk, work } = stage();
    line.start(device, LOG_BYTES);
    const { begun, ended } = line.begin(overwrite);
    assert.equal(line.state, 'running');
    await begun;
    assert.equal((await readSanitizeRecord(disk, plainChecksums))?.failed, false);
    await work();
    assert.equal(await ended, true);
    assert.equal(line.state, 'none');
    for (let at = 0; at < device.image.length; at += 512) {
      for (let byte = 0; byte < 512; byte += 101) assert.equal(device.image[at + byte], (byte % 3) + 1);
    }
    const writtenBytes = device.history
      .filter(({ op }) => op === 'write')
      .reduce((sum, each) => sum + each.lengthBytes, 0);
    assert.equal(writtenBytes, 4 * MIB + LOG_BYTES);
    assert.equal(device.history.at(-1)?.op, 'flush');
    assert.equal(await disk.exists(SANITIZE_FILE), false);
  });

  it('inverts the pattern from pass to pass where it is asked to, and says how far it is', async () => {
    const { line, device, work } = stage();
    line.start(device, LOG_BYTES);
    const { begun } = line.begin({ ...overwrite, passes: 2, inverts: true });
    await begun;
    await work(5);
    const { progress } = line;
    assert.ok(progress > 0 && progress < 1);
    await work();
    assert.equal(device.image[0], 1 ^ 0xff);
    assert.equal(device.image[4 * MIB - 512], 1 ^ 0xff);
  });

  it('frees all of it, before and after the log is written over', async () => {
    const { line, device, work } = stage();
    line.start(device, LOG_BYTES);
    await line.begin(erase).begun;
    await work();
    assert.deepEqual(
      device.history.map(({ op }) => op),
      ['trim', 'write', 'write', 'trim', 'flush'],
    );
    assert.ok(device.image.every((byte) => byte === 0));
  });

  it('refuses requests, and writes whose payload was coming, but no flush', async () => {
    const { line, device, served, work } = stage();
    line.start(device, LOG_BYTES);
    const bytes = new Uint8Array(4096);
    const open = served.openWrite(0, 4096);
    const { begun } = line.begin(overwrite);
    const refused = { code: 'volume-sanitizing' };
    const requests: readonly (() => unknown)[] = [
      () => served.read(0, 4096, bytes, 0, done),
      () => served.write(0, 4096, bytes, 0, false, done),
      () => served.openWrite(0, 4096),
      () => served.update(0, 4096, () => true, false, done),
      () => served.trim(0, 4096, false, done),
      () => served.zero(0, 4096, true, false, done),
      () => served.cache(0, 4096, done),
      () => served.blockStatus(0, 4096, 1),
    ];
    for (const request of requests) assert.throws(request, refused);
    open.fill(bytes, 0, 4096);
    assert.throws(() => open.submit(false, done), refused);
    assert.equal(device.partialWritesAbandoned, 1);
    served.flush(done);
    assert.equal(served.writable, true);
    await begun;
    await work();
    assert.equal(served.read(0, 4096, bytes, 0, done), true);
    assert.equal(bytes[0], 1);
  });

  it('begins anew after a crash in its middle, and never once it has ended', async () => {
    for (let seed = 1; seed <= 20; seed++) {
      const first = stage();
      first.line.start(first.device, LOG_BYTES);
      const { begun } = first.line.begin(overwrite);
      await begun;
      await first.work(2);
      first.line.close();
      first.disk.crash(new SeededRandom(seed));
      const second = stage(first.disk);
      await second.line.load();
      assert.equal(second.line.state, 'running', `seed ${seed}`);
      assert.throws(() => second.served.openWrite(0, 4096), { code: 'volume-sanitizing' });
      second.line.start(second.device, LOG_BYTES);
      await second.work();
      assert.ok(second.device.image.every((byte, at) => byte === ((at % 512) % 3) + 1));
      first.disk.crash(new SeededRandom(seed));
      const third = stage(first.disk);
      await third.line.load();
      assert.equal(third.line.state, 'none', `seed ${seed}`);
    }
  });

  it('that fails stays failed over a restart, until what its order allows ends it', async () => {
    for (const mayExitFailure of [false, true]) {
      const { line, device, disk, served, work } = stage();
      line.start(device, LOG_BYTES);
      device.failNext('write', new GatewayError('disk-failed', 'broken'));
      const { begun, ended } = line.begin({ ...overwrite, mayExitFailure });
      await begun;
      await work();
      assert.equal(await ended, false);
      assert.equal(line.state, 'failed');
      assert.throws(() => served.openWrite(0, 4096), /failed, and what it holds may be the old or the new/);
      disk.crash(new SeededRandom(7));
      const next = stage(disk);
      await next.line.load();
      next.line.start(next.device, LOG_BYTES);
      assert.equal(next.line.state, 'failed');
      assert.equal(await next.line.exitFailure(), mayExitFailure);
      assert.equal(next.line.state, mayExitFailure ? 'none' : 'failed');
      if (mayExitFailure) continue;
      await next.line.begin(overwrite).begun;
      await next.work();
      assert.equal(next.line.state, 'none', 'a further sanitize ends it too');
    }
  });

  it('that cannot be recorded has not begun', async () => {
    const { line, device, disk, served } = stage();
    line.start(device, LOG_BYTES);
    disk.hook = (operation, path) => {
      if (operation !== 'stat' && path.startsWith(SANITIZE_FILE)) throw new GatewayError('disk-full', 'full');
    };
    const { begun } = line.begin(overwrite);
    await assert.rejects(begun, { code: 'disk-full' });
    disk.hook = () => undefined;
    assert.equal(line.state, 'none');
    served.openWrite(0, 4096).abandon();
    assert.deepEqual(device.history, []);
  });

  it('of which nobody knows whether its record is gone ends the process', async () => {
    const { line, device, disk, fatal, served, work } = stage();
    line.start(device, LOG_BYTES);
    await line.begin(overwrite).begun;
    disk.hook = (operation) => {
      if (operation === 'sync-directory') throw new Error('EIO');
    };
    await work(50);
    assert.equal(fatal.length, 1);
    assert.throws(() => served.openWrite(0, 4096), { code: 'volume-sanitizing' }, 'nobody is served');
  });

  it('whose record is damaged keeps the volume from being opened', async () => {
    const { line, disk } = stage();
    await disk.writeSmall(SANITIZE_FILE, Buffer.from('{}'));
    await assert.rejects(line.load(), { code: 'format-unknown' });
  });
});
