import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../../fake/random.js';
import { settle, VolumeHarness } from './volume-harness.js';

const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A volume that has nothing in the page cache: reading the old content takes time, and others come meanwhile. */
async function slowVolume(seed: number): Promise<VolumeHarness> {
  const h = new VolumeHarness(seed);
  const open = h.disk.open.bind(h.disk);
  h.disk.open = async (...args) => ({ ...(await open(...args)), readNow: () => false });
  await h.create();
  return h;
}

describe('an update', () => {
  it('sees what was written before, also what is still being gathered, and is a write like any other', async () => {
    const h = new VolumeHarness(1);
    await h.create();
    const seen: number[] = [];
    const first = h.request((completion) =>
      h.volume.write(512, 512, new Uint8Array(512).fill(3), 0, false, completion),
    );
    const second = h.request((completion) =>
      h.volume.update(
        512,
        1024,
        (bytes) => (seen.push(bytes[0]!, bytes[512]!), bytes.fill(9), true),
        false,
        completion,
      ),
    );
    await Promise.all([first, second]);
    assert.deepEqual(seen, [3, 0]);
    assert.deepEqual(
      [...(await h.read(0, 2048))].filter((_, at) => at % 512 === 0),
      [0, 9, 9, 0],
    );
  });

  it('that finds nothing to write leaves no record', async () => {
    const h = new VolumeHarness(2);
    await h.create();
    const before = h.volume.status().lsn.acknowledged;
    await h.request((completion) => h.volume.update(4096, 4096, (bytes) => (bytes.fill(7), false), false, completion));
    assert.equal(h.volume.status().lsn.acknowledged, before);
    assert.deepEqual(await h.read(4096, 4096), new Uint8Array(4096));
  });

  it('loses no other, whatever is written beside it in the same block', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const h = await slowVolume(seed);
      const random = new SeededRandom(seed);
      const waiting: Promise<void>[] = [];
      let counted = 0;
      for (let round = 0; round < 60; round++) {
        const choice = random.fraction();
        if (choice < 0.5) {
          counted++;
          const count = (bytes: Uint8Array): boolean => {
            view(bytes).setUint32(0, view(bytes).getUint32(0) + 1);
            return true;
          };
          waiting.push(h.request((completion) => h.volume.update(1024, 512, count, false, completion)));
        } else if (choice < 0.7) {
          const bytes = new Uint8Array(512).fill(round);
          waiting.push(h.request((completion) => h.volume.write(1536, 512, bytes, 0, false, completion)));
        } else if (choice < 0.8) waiting.push(h.request((completion) => h.volume.rewrite(0, completion)));
        else if (choice < 0.9) waiting.push(h.request((completion) => h.volume.zero(0, 1024, true, false, completion)));
        else await settle();
      }
      await Promise.all(waiting);
      assert.equal(view(await h.read(1024, 512)).getUint32(0), counted, `seed ${seed}`);
      await h.volume.close();
    }
  });

  it('survives a power cut once it is flushed, whole', async () => {
    const h = await slowVolume(3);
    await h.request((completion) => h.volume.update(4000, 5000, (bytes) => (bytes.fill(5), true), true, completion));
    h.disk.crash(h.random);
    await h.open();
    const found = await h.read(0, 12_288);
    const expected = new Uint8Array(12_288).fill(5, 4000, 9000);
    assert.deepEqual(found, expected);
  });

  it('is refused like a write', async () => {
    const h = new VolumeHarness(4);
    await h.create();
    await h.volume.close();
    assert.throws(
      () => h.volume.update(0, 512, () => true, false, { done: () => assert.fail('refused requests do not complete') }),
      { code: 'volume-closed' },
    );
  });
});
