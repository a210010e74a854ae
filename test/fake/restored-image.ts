/** What a restore gives back, in memory: for tests of what keeps a bucket. */
import { restoreFull } from '../../src/remote/restore.js';
import type { Restored, RestoreOptions } from '../../src/remote/restore.js';
import { plainChecksums } from './checksums.js';
import { RecordedLog } from './log.js';
import { MemoryDisk } from './memory-disk.js';
import { SeededRandom } from './random.js';
import { BLOCK, testMaster } from './replication-rig.js';
import type { Rig } from './replication-rig.js';

/** What a test's restore of a rig's volume is told, whatever it asks for. */
export function restoreRequest(rig: Pick<Rig, 'store' | 'clock'>, seed = 1234) {
  return {
    store: rig.store,
    masters: [testMaster()],
    volume: 'disk0',
    takeOver: false,
    acceptLoss: false,
    reader: 'test',
    checksums: plainChecksums,
    clock: rig.clock,
    random: new SeededRandom(seed),
    log: new RecordedLog(),
    scratch: new MemoryDisk(),
  };
}

export async function restoredImage(
  rig: Pick<Rig, 'store' | 'clock'>,
  options: Partial<RestoreOptions> = {},
): Promise<Restored & { readonly image: Uint8Array }> {
  let image = new Uint8Array(0);
  const restored = await restoreFull({
    ...restoreRequest(rig),
    openTarget: ({ sizeBytes }) => {
      image = new Uint8Array(sizeBytes);
      return Promise.resolve({
        sink: {
          write: (first, bytes, start, count) => {
            image.set(bytes.subarray(start, start + count * BLOCK), first * BLOCK);
            return Promise.resolve();
          },
          finish: () => Promise.resolve(),
        },
      });
    },
    ...options,
  });
  return { ...restored, image };
}
