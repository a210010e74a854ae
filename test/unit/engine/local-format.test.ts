/** Golden bytes of docs/formats.md, "Local formats": a change that fails here makes existing volumes unreadable. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';

import { Log } from '../../../src/engine/log.js';
import { LogFiles } from '../../../src/engine/log-files.js';
import { claimedBytes, decodeBatch, follows, readClaim } from '../../../src/engine/log-format.js';
import { Overlay } from '../../../src/engine/overlay.js';
import { Sums } from '../../../src/engine/sums.js';
import { decodeSuperblock, encodeSuperblock, type Superblock } from '../../../src/engine/superblock.js';
import { readIdentity } from '../../../src/engine/volume-directory-format.js';
import type { LogCursor } from '../../../src/ports/replication.js';
import { plainChecksums } from '../../fake/checksums.js';
import { ManualClock } from '../../fake/clock.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

const hex = (bytes: Uint8Array, from: number, to: number): string =>
  Buffer.from(bytes.subarray(from, to)).toString('hex');
const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16);
const start: LogCursor = { file: 1, offset: 0, lsn: 5, chain: 0x11223344, epoch: '0123456789abcdef' };

async function logOn(disk: MemoryDisk): Promise<Log> {
  const files = await LogFiles.open(disk, 32 * 1024 * 1024, 1);
  await files.prepare(0, 1);
  const nothing = (): void => undefined;
  return new Log({
    files,
    overlay: new Overlay(),
    checksums: plainChecksums,
    clock: new ManualClock(),
    head: start,
    durableLsn: 4,
    dataLsn: 4,
    onFatal: nothing,
    onAppend: nothing,
    onDurable: nothing,
  });
}

describe('log batch', () => {
  it('has these bytes', async () => {
    const disk = new MemoryDisk();
    const log = await logOn(disk);
    const payload = new Uint8Array(8192).fill(0xa5);
    log.stageWrite(7, 2, payload, 0, false, undefined);
    log.stageRecord('trim', 100, 1_000_000_000_000, false, false, undefined);
    log.commit();
    const bytes = disk.bytesOf('log/00000001');
    assert.equal(
      hex(bytes, 0, 64),
      '4b474c4201000100efcdab89674523010500000000000000040000000000000000505c18a30100000200000002000000443322110000000000000000' +
        hex(bytes, 60, 64),
    );
    assert.equal(hex(bytes, 64, 96), '0100000002000000070000000000000002000000000000000000000000000000');
    assert.equal(
      hex(bytes, 96, 128),
      '0200000000000000640000000000000000' + '10a5d4e80000000000000000000000'.padEnd(30, '0'),
    );
    assert.equal(sha(bytes.subarray(0, 4096 + 8192)), '268351c850fd1b1e');
  });

  it('of a snapshot has its name behind the record, and nothing else in it', async () => {
    const disk = new MemoryDisk();
    const log = await logOn(disk);
    log.stageRecord('trim', 1, 1, false, false, undefined);
    assert.equal(log.appendSnapshot(Buffer.from('one'), 0), 6);
    assert.equal(log.appendSnapshot(Buffer.from('one'), 6), 7);
    const bytes = disk.bytesOf('log/00000001');
    const descriptor = '0500000000000000' + '0'.repeat(16) + '0300000000000000' + '0'.repeat(16);
    assert.equal(hex(bytes, 4096 + 64, 4096 + 104), `${descriptor}6f6e650000000000`);
    const [taken, deleted] = [4096, 8192].map((at) => {
      const claim = readClaim(bytes, at, plainChecksums);
      assert.ok(claim);
      return decodeBatch(bytes, at, claim, 1, at);
    });
    const { kind, lsn, name, snapshotLsn } = taken!.records[0]!;
    assert.deepEqual([taken!.records.length, kind, lsn, name, snapshotLsn], [1, 'snapshot', 6, 'one', 0]);
    assert.equal(deleted!.records[0]!.snapshotLsn, 6);
  });

  it('is read back, and only where it follows', async () => {
    const disk = new MemoryDisk();
    const log = await logOn(disk);
    log.stageWrite(7, 1, new Uint8Array(4096).fill(1), 0, false, undefined);
    log.commit();
    const bytes = disk.bytesOf('log/00000001');
    const claim = readClaim(bytes, 0, plainChecksums);
    assert.ok(claim);
    assert.equal(claimedBytes(bytes, 0), 8192);
    assert.equal(follows(claim, start), true);
    assert.equal(follows(claim, { ...start, chain: 1 }), false);
    assert.equal(follows(claim, { ...start, epoch: 'ffffffffffffffff' }), false);
    assert.equal(follows(claim, { ...start, lsn: 6 }), false);
    const batch = decodeBatch(bytes, 0, claim, 1, 0);
    assert.deepEqual(batch?.next, log.head);
    assert.equal(batch.records[0]?.payloadPosition, 4096);
  });

  it('is refused with any byte of its header changed', async () => {
    const disk = new MemoryDisk();
    const log = await logOn(disk);
    log.stageWrite(7, 1, new Uint8Array(4096).fill(1), 0, false, undefined);
    log.commit();
    const bytes = disk.bytesOf('log/00000001').slice(0, 8192);
    for (let i = 0; i < 4096; i++) {
      bytes[i]! ^= 0x40;
      assert.equal(readClaim(bytes, 0, plainChecksums), undefined, `byte ${i}`);
      bytes[i]! ^= 0x40;
    }
  });
});

const superblock: Superblock = {
  generation: 3,
  volumeUuid: '00112233-4455-6677-8899-aabbccddeeff',
  bootId: 'ffeeddcc-bbaa-9988-7766-554433221100',
  sizeBytes: 2 ** 40,
  tail: start,
  destageCursor: { ...start, offset: 8192, lsn: 6 },
  durableLsn: 9,
  destagedLsn: 5,
  replication: {
    replicatedLsn: 4,
    cursor: start,
    remoteEpoch: 2,
    segmentNumber: 77,
    chainHead: new Uint8Array(32).fill(0xcc),
    mapAppliedThrough: 70,
    keeping: 'draining',
    fenced: true,
  },
  round: 0,
  clean: true,
};

describe('superblock', () => {
  it('has these bytes', () => {
    const bytes = encodeSuperblock(superblock, plainChecksums);
    assert.equal(bytes.length, 4096);
    assert.equal(hex(bytes, 0, 12), '4b47535550455231' + '01000000');
    assert.equal(
      hex(bytes, 16, 64),
      '0300000000000000' + '00112233445566778899aabbccddeeff' + 'ffeeddccbbaa99887766554433221100' + '0000000000010000',
    );
    assert.equal(
      hex(bytes, 64, 104),
      '0100000000000000' + '0000000000000000' + '0500000000000000' + 'efcdab8967452301' + '44332211' + '00000000',
    );
    assert.equal(sha(bytes), '5f0b46f1ee57f7be');
    const inRound = encodeSuperblock({ ...superblock, round: 0x0605_0403_0201 }, plainChecksums);
    assert.equal(hex(inRound, 272, 288), '0102030405060000' + '0000000000000000');
    assert.equal(decodeSuperblock(inRound, plainChecksums, 'super.0')?.round, 0x0605_0403_0201);
  });

  it('comes back, unless a byte changed', () => {
    const bytes = encodeSuperblock(superblock, plainChecksums);
    assert.deepEqual(decodeSuperblock(bytes, plainChecksums, 'super.0'), superblock);
    for (let i = 0; i < 4096; i += 13) {
      bytes[i]! ^= 1;
      assert.equal(decodeSuperblock(bytes, plainChecksums, 'super.0'), undefined, `byte ${i}`);
      bytes[i]! ^= 1;
    }
  });

  it('refuses a newer format version by name', () => {
    const bytes = encodeSuperblock(superblock, plainChecksums);
    const view = new DataView(bytes.buffer);
    view.setUint32(8, 2, true);
    view.setUint32(12, 0, true);
    view.setUint32(12, plainChecksums.crc32c(0, bytes, 0, 4096), true);
    assert.throws(() => decodeSuperblock(bytes, plainChecksums, 'super.0'), {
      code: 'format-newer',
      message: /format version 2/,
    });
  });
});

describe('sums', () => {
  it('has these bytes', async () => {
    const disk = new MemoryDisk();
    const file = await disk.open('sums', { mode: 'write', create: true });
    const sums = new Sums({ file, checksums: plainChecksums, holes: 'zero', onRot: () => assert.fail('rot') });
    await sums.page(0);
    sums.set(127, 0xdeadbeef);
    await sums.flush();
    const bytes = disk.bytesOf('sums');
    assert.equal(hex(bytes, 0, 512), '00'.repeat(512));
    assert.equal(hex(bytes, 512, 520), 'efbeadde00000000');
    assert.equal(hex(bytes, 1020, 1024), '88315abe');
  });

  it('gives up a rotten sector, and that one alone', async () => {
    const disk = new MemoryDisk();
    const file = await disk.open('sums', { mode: 'write', create: true });
    const first = new Sums({ file, checksums: plainChecksums, holes: 'zero', onRot: () => assert.fail('rot') });
    await first.page(0);
    for (const block of [0, 127, 254]) first.set(block, 1000 + block);
    await first.flush();
    disk.bytesOf('sums')[512 + 3]! ^= 1;
    const rotten: number[] = [];
    const again = new Sums({ file, checksums: plainChecksums, holes: 'zero', onRot: (sector) => rotten.push(sector) });
    const page = await again.page(0);
    assert.deepEqual([page[0], page[127], page[128], page[254]], [1000, 1, 1, 1254]);
    assert.deepEqual(rotten, [1]);
  });
});

describe('volume.json', () => {
  const identity = {
    formatVersion: 1,
    uuid: superblock.volumeUuid,
    name: 'disk0',
    logicalBlockBytes: 512,
    origin: 'created',
    holes: 'zero',
  };
  const withJson = async (value: unknown): Promise<MemoryDisk> => {
    const disk = new MemoryDisk();
    await disk.writeSmall('volume.json', Buffer.from(JSON.stringify(value)));
    return disk;
  };

  it('is read', async () => {
    assert.deepEqual(await readIdentity(await withJson(identity)), identity);
    assert.equal(await readIdentity(new MemoryDisk()), undefined);
  });

  it('of a newer version, damaged, or missing beside other files is refused', async () => {
    await assert.rejects(readIdentity(await withJson({ ...identity, formatVersion: 2 })), { code: 'format-newer' });
    await assert.rejects(readIdentity(await withJson({ ...identity, uuid: 'x' })), { code: 'format-unknown' });
    const disk = new MemoryDisk();
    await disk.writeSmall('image', new Uint8Array(1));
    await assert.rejects(readIdentity(disk), { code: 'volume-incomplete' });
  });
});
