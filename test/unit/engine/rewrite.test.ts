import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { SeededRandom } from '../../fake/random.js';
import { settle, VolumeHarness } from './volume-harness.js';

const filled = (byte: number): Uint8Array => new Uint8Array(4096).fill(byte);

describe('a rewrite', () => {
  it('is a record of its own that changes nothing', async () => {
    const h = new VolumeHarness(1);
    await h.create();
    await h.write(4096, filled(7));
    await h.flush();
    const before = h.volume.status().lsn.acknowledged;
    await h.request((completion) => h.volume.rewrite(1, completion));
    await h.request((completion) => h.volume.rewrite(9, completion));
    assert.ok(h.volume.status().lsn.acknowledged >= before + 2);
    assert.deepEqual(await h.read(0, 65_536), h.expected(1).slice(0, 65_536));
  });

  it('never takes the place of a client’s write, however they meet', async () => {
    for (let seed = 1; seed <= 60; seed++) {
      const h = new VolumeHarness(seed);
      const random = new SeededRandom(seed);
      // Nothing is in the page cache: merging the old content takes time, and others come meanwhile.
      const open = h.disk.open.bind(h.disk);
      h.disk.open = async (...args) => ({ ...(await open(...args)), readNow: () => false });
      await h.create();
      await h.write(0, filled(1));
      // Sometimes the old content lies in the image.
      if (random.fraction() < 0.5) {
        await h.flush();
        h.clock.advance(6000);
        await settle();
      }
      let newest = 1;
      const waiting: Promise<void>[] = [];
      for (let step = 0; step < 12; step++) {
        const choice = random.fraction();
        if (choice < 0.4) {
          newest = 2 + step;
          const byte = newest;
          waiting.push(h.request((completion) => h.volume.write(0, 4096, filled(byte), 0, false, completion)));
        } else if (choice < 0.8) {
          waiting.push(h.request((completion) => h.volume.rewrite(0, completion)));
        } else await settle();
      }
      await Promise.all(waiting);
      assert.deepEqual(Uint8Array.from(await h.read(0, 4096)), filled(newest), `seed ${seed}`);
    }
  });
});
