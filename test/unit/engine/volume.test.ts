import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { GatewayError } from '../../../src/base/errors.js';
import { decodeSuperblock } from '../../../src/engine/superblock.js';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MIB, settle, VolumeHarness } from './volume-harness.js';

const long = process.env['KEEPGATE_TEST_LONG'] === '1';
const crashSeeds = long ? 25 : 10;

const stamp = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7 + (i >> 8)) & 0xff);

describe('volume', () => {
  it('reads zeros where nothing was written', async () => {
    const h = new VolumeHarness(1);
    await h.create();
    assert.deepEqual(await h.read(8192, 4096), new Uint8Array(4096));
  });

  it('reads back whole blocks, single bytes and ranges across blocks', async () => {
    const h = new VolumeHarness(2);
    await h.create();
    await h.write(4096, stamp(8192, 1));
    await h.write(4097, stamp(1, 2));
    await h.write(10_000, stamp(5000, 3));
    await h.zero(9000, 3000, true);
    await h.zero(20_000, 100, false);
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(5));
    assert.deepEqual(await h.read(4095, 7001), h.expected(5).slice(4095, 11_096));
  });

  it('serves a write larger than a record and acknowledges it once', async () => {
    const h = new VolumeHarness(3, 8 * MIB);
    await h.create();
    await h.write(512, stamp(3 * MIB + 1000, 5));
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(1));
  });

  it('never runs a completion inside the call that staged it', async () => {
    const h = new VolumeHarness(4);
    await h.create();
    const ended: unknown[] = [];
    const completion = { done: (error: unknown): void => void ended.push(error) };
    h.volume.write(0, 4096, stamp(4096, 1), 0, false, completion);
    h.volume.write(100, 1000, stamp(1000, 1), 0, false, completion);
    h.volume.trim(8192, 4096, false, completion);
    h.volume.zero(8000, 5000, true, false, completion);
    assert.equal(ended.length, 0);
    h.volume.commit();
    assert.ok([2, 3, 4].includes(ended.length));
    await settle(); // edges whose old content had to be waited for
    assert.deepEqual(ended, Array(4).fill(undefined));
  });

  it('commits by itself at the end of the turn', async () => {
    const h = new VolumeHarness(5);
    await h.create();
    await new Promise<void>((resolve) => h.volume.write(0, 4096, stamp(4096, 1), 0, false, { done: () => resolve() }));
  });

  it('moves records into the image, frees trimmed space, and reads the same afterwards', async () => {
    const h = new VolumeHarness(6);
    await h.create();
    await h.write(0, stamp(64 * 4096, 1));
    await h.zero(4096, 10 * 4096, true);
    await h.zero(40 * 4096, 2 * 4096, false);
    await h.write(2 * 4096, stamp(4096, 9));
    await h.flush();
    h.clock.advance(6000);
    await settle();
    assert.equal(h.volume.status().overlayBlocks, 0);
    assert.ok(h.volume.status().lsn.destaged >= 4);
    assert.deepEqual(await h.read(0, h.sizeBytes), h.expected(4));
    const extents = await h.volume.blockStatus(0, 64 * 4096, 100);
    assert.deepEqual(
      extents.map((extent) => [extent.state, extent.lengthBytes / 4096]),
      [
        ['data', 1],
        ['hole', 1],
        ['data', 1],
        ['hole', 8],
        ['data', 29],
        ['hole', 2],
        ['data', 22],
      ],
    );
  });

  it('survives a clean close and reopening', async () => {
    const h = new VolumeHarness(7);
    await h.create();
    await h.write(0, stamp(9000, 1));
    await h.volume.close();
    await h.open();
    await h.expectPrefix(1);
  });

  it('looks for claims behind the end of its log only after a kill', async () => {
    const h = new VolumeHarness(31);
    h.overrides = { provision: 'full' }; // all files of the ring are there
    const reopened = async (): Promise<ReadonlySet<string>> => {
      const read = new Set<string>();
      h.disk.hook = (operation, path) => {
        if (operation === 'read' && /^log\/\d+$/.test(path)) read.add(path);
      };
      await h.open();
      h.disk.hook = () => undefined;
      return read;
    };
    await h.create();
    const files = (await h.disk.list('log')).filter((name) => /^\d+$/.test(name));
    assert.ok(files.length > 4);
    await h.write(0, stamp(9000, 1));
    await h.volume.close();
    // In the second it could go on.
    assert.deepEqual([...(await reopened())], ['log/00000001', 'log/00000002']);
    await h.write(4096, stamp(9000, 2));
    h.disk.kill();
    assert.equal((await reopened()).size, files.length);
    await h.expectPrefix(2);
  });

  it('refuses what is out of range or read-only by an exception, without a completion', async () => {
    const h = new VolumeHarness(9);
    await h.create();
    const never = { done: (): void => assert.fail('completed') };
    assert.throws(() => h.volume.write(h.sizeBytes - 100, 4096, stamp(4096, 1), 0, false, never), {
      code: 'out-of-range',
    });
    assert.throws(() => h.volume.read(h.sizeBytes, 1, new Uint8Array(1), 0, never), { code: 'out-of-range' });
    h.volume.setWritable(false);
    assert.throws(() => h.volume.trim(0, 4096, false, never), { code: 'read-only' });
  });

  it('goes on with the next sync, not some seconds later, when memory for records ran out', async () => {
    const h = new VolumeHarness(31);
    await h.create();
    const { overlay } = (h.volume as unknown as { parts: VolumeParts }).parts;
    Object.defineProperty(overlay, 'isFull', { get: () => overlay.table.size >= 16 });
    for (let n = 0; n < 20; n++) {
      const written = h.write(n * 16 * 4096, h.random.bytes(16 * 4096));
      await settle();
      await settle();
      await written;
    }
    assert.equal(h.clock.nowMs(), 0);
    await h.expectPrefix(20);
  });

  it('throttles when the log is full and goes on when the bucket has it', async () => {
    const h = new VolumeHarness(10, 64 * MIB);
    h.overrides = { replicated: true };
    await h.create();
    let written = 0;
    while (h.volume.writable && written < 64) {
      await h.write((written % 60) * MIB, stamp(MIB, written));
      written++;
      await settle();
    }
    assert.ok(written > 16 && written < 64, `${written} MiB fitted into a 32 MiB buffer`);
    let woken = false;
    h.volume.onceWritable(() => (woken = true));
    const late = h.write(61 * MIB, stamp(MIB, 99));
    await h.volume.forceFlush();
    h.clock.advance(6000);
    await settle();
    assert.equal(woken, false);
    const state = h.volume.replication.state;
    h.volume.replication.heard({
      ...state,
      replicatedLsn: h.volume.status().lsn.durable,
      cursor: h.volume['parts'].log.head,
    });
    await settle();
    await late;
    assert.equal(woken, true);
    assert.deepEqual(await h.read(61 * MIB, MIB), stamp(MIB, 99));
  });

  it('stops for good when an fsync fails: nothing more is acknowledged', async () => {
    const h = new VolumeHarness(11);
    await h.create();
    await h.write(0, stamp(4096, 1));
    h.disk.hook = (operation, path) => {
      if (operation === 'sync' && path.startsWith('log/')) throw new Error('EIO');
    };
    let flushed = false;
    void h.flush().then(() => (flushed = true));
    await settle();
    assert.equal(flushed, false);
    assert.match(h.fatal?.message ?? '', /fdatasync of the log failed/);
    assert.equal(h.volume.status().state, 'failed');
    h.disk.hook = () => undefined;
    await settle();
    assert.equal(flushed, false);
  });

  it('answers rot in the image with an error, never with data', async () => {
    const h = new VolumeHarness(12);
    await h.create();
    await h.write(0, stamp(8192, 1));
    await h.flush();
    h.clock.advance(6000);
    await settle();
    h.disk.bytesOf('image')[4096 + 17]! ^= 1;
    assert.deepEqual(await h.read(0, 4096), stamp(8192, 1).slice(0, 4096));
    await assert.rejects(h.read(4096, 4096), { code: 'checksum-mismatch' });
    assert.equal(h.volume.status().checksumErrors, 1);
  });

  it('refuses a second opening of the same directory', async () => {
    const h = new VolumeHarness(13);
    await h.create();
    await assert.rejects(h.open(), { code: 'volume-locked' });
  });

  it('refuses a log that lost what was flushed, instead of serving an older state', async () => {
    const h = new VolumeHarness(14);
    await h.create();
    await h.write(0, stamp(4096, 1));
    await h.flush();
    await h.write(4096, stamp(4096, 2)); // states that the first is durable
    await h.flush();
    h.disk.crash(h.random);
    h.disk.bytesOf('log/00000001')[4096 + 20]! ^= 0xff; // the first client batch, behind the epoch record
    h.bootId = '00000000-0000-4000-8000-000000000002';
    await assert.rejects(h.open(), { code: 'log-damaged' });
  });

  it('finds its way with either superblock damaged', async () => {
    for (const victim of ['super.0', 'super.1']) {
      const h = new VolumeHarness(15);
      await h.create();
      await h.write(0, stamp(4096, 1));
      await h.flush();
      h.disk.kill();
      h.disk.bytesOf(victim).fill(0xff);
      await h.open();
      await h.expectPrefix(1);
    }
  });

  it('forgets no fence when either superblock rots, and writes that one anew', async () => {
    for (const victim of ['super.0', 'super.1']) {
      const h = new VolumeHarness(16);
      h.overrides = { replicated: true };
      await h.create();
      h.volume.replication.heard({ ...h.volume.replication.state, fenced: true });
      await settle();
      h.disk.kill();
      h.disk.bytesOf(victim)[300]! ^= 4;
      await h.open();
      assert.equal(h.volume.replication.state.fenced, true, victim);
      assert.notEqual(decodeSuperblock(h.disk.bytesOf(victim), plainChecksums, victim), undefined);
    }
  });
});

describe('a fence', () => {
  for (const [what, damage, reason] of [
    [
      'is rotten',
      (h: VolumeHarness) => void (h.disk.bytesOf('log/00000001')[newestHeader(h) + 16]! ^= 1),
      /breaks off/,
    ],
    [
      'cannot be read',
      (h: VolumeHarness) =>
        (h.disk.hook = (operation, path) => {
          if (operation === 'open' && path.startsWith('log/0')) throw new GatewayError('disk-failed', `${path}: EIO`);
        }),
      /EIO/,
    ],
  ] as const) {
    it(`is recorded by both superblocks even while the log ${what}`, async () => {
      const h = new VolumeHarness(18);
      h.overrides = { replicated: true };
      await h.create();
      await h.write(0, h.random.bytes(4096));
      await h.flush();
      damage(h);
      for (let ms = 0; ms < 8000; ms += 500) {
        h.clock.advance(500);
        await settle();
      }
      assert.equal(h.volume.status().state, 'failed');
      assert.match(h.volume.status().reason ?? '', reason);
      h.volume.replication.heard({ ...h.volume.replication.state, fenced: true });
      await settle();
      h.disk.kill();
      for (const name of ['super.0', 'super.1'])
        assert.equal(decodeSuperblock(h.disk.bytesOf(name), plainChecksums, name)?.replication.fenced, true, name);
    });
  }
});

/** Where the newest batch of the first log file begins. */
function newestHeader(h: VolumeHarness): number {
  return Buffer.from(h.disk.bytesOf('log/00000001')).lastIndexOf('KGLB');
}

describe('the only superblock that is left', () => {
  it('is not written over before the other one is whole again', async () => {
    for (const damaged of ['super.0', 'super.1']) {
      const h = new VolumeHarness(17);
      await h.create();
      h.disk.kill();
      h.disk.bytesOf(damaged).fill(0xff);
      const written: string[] = [];
      h.disk.hook = (operation, path) => {
        if (path.startsWith('super.') && (operation === 'write' || operation === 'sync'))
          written.push(`${operation} ${path}`);
      };
      await h.open();
      const other = damaged === 'super.0' ? 'super.1' : 'super.0';
      const first = written.indexOf(`write ${other}`);
      const whole = written.lastIndexOf(`sync ${damaged}`, first === -1 ? undefined : first);
      assert.ok(first === -1 || whole > written.indexOf(`write ${damaged}`), written.join(', '));
      assert.ok(whole >= 0, written.join(', '));
    }
  });
});

describe('the record that begins an epoch', () => {
  it('is missed when it is lost, although one superblock rots too', async () => {
    const h = new VolumeHarness(18);
    await h.create();
    await h.write(0, stamp(4096, 1));
    await h.flush();
    h.disk.kill();
    await h.open();
    await h.write(4096, stamp(4096, 2));
    await h.flush();
    h.disk.kill();
    const log = Buffer.from(h.disk.bytesOf('log/00000001').buffer);
    const epochs: number[] = [];
    for (let at = 0; at < log.length; at += 4096)
      if (log.readUInt32LE(at) === 0x424c_474b && log[at + 64] === 6) epochs.push(at);
    assert.equal(epochs.length, 2);
    log.fill(0xff, epochs[1], epochs[1]! + 4096);
    const generation = (name: string): number => Buffer.from(h.disk.bytesOf(name)).readUInt32LE(16);
    const newest = generation('super.0') > generation('super.1') ? 'super.0' : 'super.1';
    h.disk.bytesOf(newest)[300]! ^= 4;
    h.bootId = '00000000-0000-4000-8000-000000000002';
    await assert.rejects(h.open(), { code: 'log-damaged' });
  });
});

describe('volume under crashes', () => {
  for (let seed = 1; seed <= crashSeeds; seed++) {
    it(`equals a prefix that holds everything flushed, seed ${seed}`, { timeout: 120_000 }, async () => {
      const h = new VolumeHarness(seed);
      const random = h.random;
      await h.create();
      for (let round = 0; round < 8; round++) {
        const pending: Promise<void>[] = [];
        for (let i = 0; i < 25; i++) {
          const unaligned = random.fraction() < 0.3;
          const length = unaligned ? 1 + random.below(9000) : 4096 * (1 + random.below(20));
          const offset = unaligned
            ? random.below(h.sizeBytes - length)
            : 4096 * random.below((h.sizeBytes - length) / 4096);
          const choice = random.fraction();
          if (choice < 0.7) pending.push(h.write(offset, random.bytes(length), random.fraction() < 0.1));
          else if (choice < 0.85) pending.push(h.zero(offset, length, random.fraction() < 0.5));
          else pending.push(h.flush());
          if (random.fraction() < 0.2) h.clock.advance(random.below(6000));
          if (random.fraction() < 0.5) await settle();
        }
        for (const request of pending) request.catch(() => undefined);
        if (random.fraction() < 0.3) {
          const least = h.operations.length;
          h.disk.kill();
          await h.open();
          await h.expectPrefix(Math.min(least, h.acknowledged));
        } else {
          const least = h.flushed;
          h.disk.crash(random);
          h.bootId = random.uuid();
          await h.open();
          await h.expectPrefix(least);
        }
      }
    });
  }
});
