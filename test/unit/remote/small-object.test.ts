/** The objects that are an index only: volume identity and epoch claims; and the listing of volumes. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, it } from 'node:test';
import { openEpoch, sealEpoch } from '../../../src/remote/epoch-object.js';
import { listVolumeUuids, openVolume, sealVolume } from '../../../src/remote/volume-object.js';
import { MemoryStore } from '../../fake/memory-store.js';
import { hex, refuses, refusesDamage, testSealer } from './sealed-fixture.js';

const volume = { name: 'disk0', createdMs: 1_700_000_000_000, sizeBytes: 2 ** 40, logicalBlockBytes: 512 };
const claim = { wallMs: 5, incarnation: new Uint8Array(16).fill(0xcd), owner: 'höst' };

describe('volume object', () => {
  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const { bytes } = sealVolume(sealer, volume);
    const { index } = sealer.open({ kind: 'volume', name: 'v', epoch: 0, number: 0, part: 0 }, bytes);
    const expected = '0068e5cf8b010000' + '0000000000010000' + '00020000' + '00100000' + '0500' + '6469736b30';
    assert.equal(hex(index), expected.padEnd(1024, '0'));
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      'e11e7a31c928556056301257e7dd2fa63c6f88e578f138aadac5a9cfb8355a8f',
    );
    assert.deepEqual(openVolume(sealer, bytes), volume);
  });

  it('hides the name, and its length', () => {
    const { bytes } = sealVolume(testSealer(), volume);
    assert.equal(Buffer.from(bytes).indexOf('disk0'), -1);
    assert.equal(sealVolume(testSealer(), { ...volume, name: 'x'.repeat(63) }).bytes.length, bytes.length);
  });

  it('is refused when any byte changed or is missing', () => {
    const sealer = testSealer();
    refusesDamage(sealer.names.volume, sealVolume(sealer, volume).bytes, (bytes) => openVolume(sealer, bytes), 7);
  });
});

describe('epoch object', () => {
  it('has the bytes of docs/formats.md', () => {
    const sealer = testSealer();
    const { bytes } = sealEpoch(sealer, 6, claim);
    const { index } = sealer.open({ kind: 'epoch', name: 'e', epoch: 6, number: 0, part: 0 }, bytes);
    assert.equal(hex(index), ('0500000000000000' + 'cd'.repeat(16) + '0500' + '68c3b67374').padEnd(1024, '0'));
    assert.equal(
      hex(createHash('sha256').update(bytes).digest()),
      '7bd901bd011f05028e4b61eb509f03985572c71bba713d2a87035771c5392696',
    );
    const opened = openEpoch(sealer, 6, bytes);
    assert.deepEqual({ ...opened, incarnation: hex(opened.incarnation) }, { ...claim, incarnation: 'cd'.repeat(16) });
  });

  it('is refused as another epoch, or when any byte changed or is missing', () => {
    const sealer = testSealer();
    const { bytes } = sealEpoch(sealer, 6, claim);
    refuses(() => openEpoch(sealer, 7, bytes), sealer.names.epoch(7), 'object-damaged');
    refusesDamage(sealer.names.epoch(6), bytes, (changed) => openEpoch(sealer, 6, changed), 7);
  });
});

describe('volumes of a bucket', () => {
  it('are found with one request each, whatever else lies there', async () => {
    const store = new MemoryStore();
    const uuids = ['a', 'b', 'c'].map((digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`);
    const put = (key: string) => store.put(key, Uint8Array.of(1), { ifAbsent: false });
    for (const uuid of uuids) {
      await put(`${uuid}/volume`);
      for (let number = 0; number < 20; number++) await put(`${uuid}/segments/${number}`);
    }
    await put('a-file');
    await put('folder/x');
    await put('zzz');
    store.calls.length = 0;
    assert.deepEqual(await listVolumeUuids(store), uuids);
    assert.equal(store.calls.length, uuids.length + 3 + 1);
    assert.deepEqual(await listVolumeUuids(new MemoryStore()), []);
  });
});
