import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { VolumeParts } from '../../../src/engine/volume-open.js';
import { settle, VolumeHarness } from './volume-harness.js';

describe('a turn of the destager', () => {
  it('is waited for by what frees space out of its order, since a round may be reading the image', async () => {
    const harness = new VolumeHarness(1);
    await harness.create();
    await harness.write(0, new Uint8Array(4096).fill(1));
    await harness.zero(0, 4096, true);
    await harness.flush();
    const { destager, log } = (harness.volume as unknown as { readonly parts: VolumeParts }).parts;
    let endReading = (): void => undefined;
    const reading = destager.alone(() => new Promise<void>((resolve) => (endReading = resolve)));
    await settle();
    let freed = false;
    const freeing = destager.freeAhead(log.durableLsn).then((found) => {
      freed = found;
    });
    await settle();
    assert.equal(freed, false);
    endReading();
    await Promise.all([reading, freeing]);
    assert.equal(freed, true);
    await harness.volume.close();
  });
});
