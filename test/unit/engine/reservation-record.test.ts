/** The file `reservations` (docs/formats.md, "Reservations"): its bytes, what a crash leaves of it, and what is refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DurabilityLostError, GatewayError } from '../../../src/base/errors.js';
import { readReservations, RESERVATIONS_FILE, writeReservations } from '../../../src/engine/reservation-record.js';
import type { SavedReservations } from '../../../src/ports/volume-reservations.js';
import { plainChecksums } from '../../fake/checksums.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';

const saved: SavedReservations = {
  registrations: [
    { port: 'iqn.2026-11.test:a,i,0x800000000001', key: '00000000deadbeef', allTargetPorts: false },
    { port: 'iqn.2026-11.test:b,i,0x800000000002', key: 'ffffffffffffffff', allTargetPorts: true },
  ],
  reservation: { type: 5, holder: 'iqn.2026-11.test:a,i,0x800000000001' },
};
const ofAll: SavedReservations = { ...saved, reservation: { type: 8, holder: undefined } };
const none: SavedReservations = { registrations: [], reservation: undefined };

const write = (disk: MemoryDisk, what: SavedReservations): Promise<void> =>
  writeReservations(disk, plainChecksums, what);
const read = (disk: MemoryDisk): Promise<SavedReservations | undefined> => readReservations(disk, plainChecksums);

describe('the file reservations', () => {
  it('has these bytes (golden)', async () => {
    const disk = new MemoryDisk();
    await write(disk, saved);
    const text = Buffer.from(await disk.readSmall(RESERVATIONS_FILE)).toString();
    assert.equal(
      text,
      `{
  "formatVersion": 1,
  "registrations": [
    {
      "port": "iqn.2026-11.test:a,i,0x800000000001",
      "key": "00000000deadbeef",
      "allTargetPorts": false
    },
    {
      "port": "iqn.2026-11.test:b,i,0x800000000002",
      "key": "ffffffffffffffff",
      "allTargetPorts": true
    }
  ],
  "reservation": {
    "type": 5,
    "holder": "iqn.2026-11.test:a,i,0x800000000001"
  },
  "crc32c": "8150df86"
}
`,
    );
    const body = JSON.stringify({ formatVersion: 1, ...saved });
    const bytes = Buffer.from(body);
    const crc = plainChecksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
    assert.equal((JSON.parse(text) as { crc32c: string }).crc32c, crc);
  });

  it('gives back what was written, and nothing where none is', async () => {
    const disk = new MemoryDisk();
    assert.equal(await read(disk), undefined);
    for (const what of [saved, ofAll, none, { ...saved, reservation: undefined }]) {
      await write(disk, what);
      assert.deepEqual(await read(disk), what);
    }
  });

  it('is the old or the new after a crash at any moment, and the new once it was written', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      for (let stopAt = 0; ; stopAt++) {
        const disk = new MemoryDisk();
        await write(disk, saved);
        let operations = 0;
        disk.hook = () => {
          if (operations++ === stopAt) throw new Error('the power is gone');
        };
        const wasWritten = await write(disk, ofAll).then(
          () => true,
          () => false,
        );
        disk.hook = () => undefined;
        disk.crash(new SeededRandom(seed));
        const found = await read(disk);
        if (wasWritten) assert.deepEqual(found, ofAll);
        else
          assert(
            [saved, ofAll].some((each) => JSON.stringify(each) === JSON.stringify(found)),
            `stopped at ${stopAt}`,
          );
        if (wasWritten) break;
      }
    }
  });

  it('changed in any byte is refused, by its name and with what to do, never taken for none', async () => {
    const disk = new MemoryDisk();
    await write(disk, saved);
    const whole = await disk.readSmall(RESERVATIONS_FILE);
    const isLayout = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x0a;
    for (let at = 0; at < whole.length; at++) {
      if (isLayout(whole[at])) continue;
      const changed = whole.slice();
      changed[at] = (changed[at] ?? 0) ^ 0x01;
      await disk.writeSmall(RESERVATIONS_FILE, changed);
      await assert.rejects(read(disk), (error: GatewayError) => {
        assert.equal(error.code, 'reservations-damaged', `byte ${at}`);
        return /remove the file reservations/.test(error.message);
      });
    }
    for (const cut of [0, 1, whole.length >> 1, whole.length - 3]) {
      await disk.writeSmall(RESERVATIONS_FILE, whole.subarray(0, cut));
      await assert.rejects(read(disk), { code: 'reservations-damaged' });
    }
  });

  it('that contradicts itself is refused, although its checksum is right', async () => {
    const disk = new MemoryDisk();
    const [first] = saved.registrations;
    const wrong: unknown[] = [
      { ...saved, registrations: 'none' },
      { ...saved, registrations: [{ ...first, key: 'deadbeef' }] },
      { ...saved, registrations: [{ ...first, port: 7 }] },
      { ...saved, registrations: [first, first] },
      { ...saved, reservation: { type: 2, holder: first?.port } },
      { ...saved, reservation: { type: 5, holder: 'iqn.2026-11.test:c,i,0x800000000003' } },
      { ...saved, reservation: { type: 5 } },
      { ...saved, reservation: { type: 8, holder: first?.port } },
      { registrations: [], reservation: { type: 8 } },
    ];
    for (const what of wrong) {
      const body = JSON.stringify({ formatVersion: 1, ...(what as object) });
      const bytes = Buffer.from(body);
      const crc32c = plainChecksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
      await disk.writeSmall(RESERVATIONS_FILE, Buffer.from(JSON.stringify({ ...JSON.parse(body), crc32c })));
      await assert.rejects(read(disk), { code: 'reservations-damaged' }, body);
    }
  });

  it('of a later version is refused as that', async () => {
    const disk = new MemoryDisk();
    const body = JSON.stringify({ formatVersion: 2, ...saved });
    const bytes = Buffer.from(body);
    const crc32c = plainChecksums.crc32c(0, bytes, 0, bytes.length).toString(16).padStart(8, '0');
    await disk.writeSmall(RESERVATIONS_FILE, Buffer.from(JSON.stringify({ ...JSON.parse(body), crc32c })));
    await assert.rejects(read(disk), { code: 'format-newer' });
  });

  it('stays as it was on a full disk; any other failure is one of durability', async () => {
    const disk = new MemoryDisk();
    await write(disk, saved);
    const failing = (code: 'disk-full' | 'disk-failed'): void => {
      disk.hook = (operation) => {
        if (operation !== 'stat' && operation !== 'read') throw new GatewayError(code, 'it fails');
      };
    };
    failing('disk-full');
    await assert.rejects(write(disk, none), { code: 'disk-full' });
    failing('disk-failed');
    await assert.rejects(write(disk, none), DurabilityLostError);
    disk.hook = () => undefined;
    assert.deepEqual(await read(disk), saved);
  });
});
