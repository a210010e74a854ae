import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MIB, VolumeHarness } from './volume-harness.js';

describe('the growth of a volume', () => {
  it('is there over a restart, and is never the other way', async () => {
    const h = new VolumeHarness(8);
    await h.create();
    await h.volume.growth.to(4 * MIB);
    await h.write(3 * MIB, h.random.bytes(4096));
    h.disk.kill();
    await h.open();
    assert.equal(h.volume.sizeBytes, 4 * MIB);
    await assert.rejects(h.volume.growth.to(MIB), { code: 'size-invalid' });
  });

  it('asked for twice at once makes nothing smaller, and a read-only volume does not grow', async () => {
    const h = new VolumeHarness(10);
    await h.create();
    const larger = h.volume.growth.to(8 * MIB);
    const smaller = h.volume.growth.to(4 * MIB);
    await assert.rejects(smaller, { code: 'size-invalid' });
    await larger;
    await h.write(7 * MIB, h.random.bytes(4096));
    h.disk.kill();
    await h.open();
    assert.equal(h.volume.sizeBytes, 8 * MIB);
    h.volume.setWritable(false);
    await assert.rejects(h.volume.growth.to(16 * MIB), { code: 'read-only' });
  });

  it('goes on after one that was refused, and not once the volume is closed', async () => {
    const h = new VolumeHarness(11);
    await h.create();
    const refused = h.volume.growth.to(4 * MIB + 1);
    const grown = h.volume.growth.to(4 * MIB);
    await assert.rejects(refused, { code: 'size-invalid' });
    await grown;
    assert.equal(h.volume.sizeBytes, 4 * MIB);
    await h.volume.close();
    await assert.rejects(h.volume.growth.to(8 * MIB), { code: 'volume-closed' });
  });
});
