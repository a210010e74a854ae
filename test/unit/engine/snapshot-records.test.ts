/** Snapshots that wait for the bucket while the log does not hold them (docs/formats.md, "Waiting snapshots"). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SnapshotRecord } from '../../../src/engine/log-format.js';
import { SnapshotRecords } from '../../../src/engine/snapshot-records.js';
import { plainChecksums } from '../../fake/checksums.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';

const record = (lsn: number, name: string, snapshotLsn = 0): SnapshotRecord => ({
  lsn,
  name,
  snapshotLsn,
  wallMs: lsn,
});

function on(disk: MemoryDisk, found: readonly SnapshotRecord[] = []): { records: SnapshotRecords; log: RecordedLog } {
  const log = new RecordedLog();
  return { records: new SnapshotRecords({ disk, checksums: plainChecksums, log, found }), log };
}

describe('snapshots that wait', () => {
  it('have the bytes of docs/formats.md', async () => {
    const disk = new MemoryDisk();
    const { records } = on(disk, [record(5, 'early'), record(7, 'one'), record(9, 'one', 7)]);
    await records.save(5, 10);
    const row = (lsn: string, ends: string, name: string): string =>
      `${lsn}00000000000000${ends}00000000000000${lsn}00000000000000` +
      `0${name.length}${Buffer.from(name).toString('hex').padEnd(126, '0')}`;
    const hex = Buffer.from(disk.bytesOf('snapshots')).toString('hex');
    const body = `02000000${row('07', '00', 'one')}${row('09', '07', 'one')}`;
    assert.equal(hex.slice(0, 16), Buffer.from('KGSNAP01').toString('hex'));
    assert.equal(hex.slice(24), body);
    const bytes = Buffer.from(body, 'hex');
    assert.equal(
      Buffer.from(hex.slice(16, 24), 'hex').readUInt32LE(),
      plainChecksums.crc32c(0, bytes, 0, bytes.length),
    );
  });

  it('come back beside what the log still has, each once and in order', async () => {
    const disk = new MemoryDisk();
    const before = on(disk, [record(5, 'a')]).records;
    before.add(record(8, 'b'));
    await before.save(0, 9);
    const { records } = on(disk, [record(8, 'b'), record(12, 'a', 5)]);
    await records.load();
    assert.deepEqual(records.all, [record(5, 'a'), record(8, 'b'), record(12, 'a', 5)]);
    records.forget(8);
    assert.deepEqual(records.all, [record(12, 'a', 5)]);
    assert.deepEqual(records.between(0, 12), []);
  });

  it('are written only when something is due that the file does not have', async () => {
    const disk = new MemoryDisk();
    const { records } = on(disk, [record(5, 'a')]);
    await records.save(0, 5);
    assert.equal(await disk.exists('snapshots'), false);
    await records.save(0, 6);
    const first = disk.bytesOf('snapshots').length;
    await disk.remove('snapshots');
    await records.save(0, 6);
    await records.save(5, 6);
    assert.equal(await disk.exists('snapshots'), false);
    records.add(record(6, 'b'));
    await records.save(0, 7);
    assert.equal(disk.bytesOf('snapshots').length, first + 88);
  });

  it('are given up, with a line in the log, where the file has rotted at any byte', async () => {
    const disk = new MemoryDisk();
    await on(disk, [record(5, 'a')]).records.save(0, 6);
    const sound = Uint8Array.from(disk.bytesOf('snapshots'));
    for (const at of sound.keys()) {
      const rotten = sound.slice();
      rotten[at]! ^= 0x40;
      await disk.writeSmall('snapshots', rotten);
      const { records, log } = on(disk, [record(7, 'c')]);
      await records.load();
      assert.deepEqual(records.all, [record(7, 'c')]);
      assert.equal(log.lines.length, 1);
    }
    await disk.writeSmall('snapshots', sound.subarray(0, 40));
    const { records } = on(disk);
    await records.load();
    assert.deepEqual(records.all, []);
  });
});
