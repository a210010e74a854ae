/** Restores from a simulated bucket with the gateway's own code. */
import type { ObjectStore } from '../../src/ports/object-store.js';
import { RestoreSink } from '../../src/engine/restore-sink.js';
import { restoreFull, type Restored } from '../../src/remote/restore.js';
import { RetryingStore } from '../../src/remote/store-retry.js';
import { RecordedLog } from '../fake/log.js';
import type { SeededRandom } from '../fake/random.js';
import { SimDisk } from './disk.js';
import { checksums, master, volumeName } from './host.js';
import { Life, type Scheduler } from './scheduler.js';
import type { SimBucket } from './store.js';

export interface RestoredDisk extends Restored {
  readonly disk: SimDisk;
  readonly contents: Uint8Array;
  /** Blocks that rotted before they were uploaded: they read as an error. */
  readonly lost: ReadonlySet<number>;
}

/** Rejects with the refusal. `slowMs`: what the reader pauses before each GET at most. */
export async function restoreFrom(
  bucket: SimBucket,
  scheduler: Scheduler,
  random: SeededRandom,
  takeOver: boolean,
  slowMs = 0,
  snapshot?: string,
): Promise<RestoredDisk> {
  const life = new Life(scheduler);
  const store = slowMs === 0 ? bucket.attach(life) : slow(bucket.attach(life), life, random.fork(), slowMs);
  const disk = new SimDisk(random.fork());
  const scratch = new SimDisk(random.fork());
  const restored = await restoreFull({
    store: new RetryingStore(store, { clock: life.clock, random: random.fork() }),
    masters: [master],
    volume: volumeName,
    takeOver,
    ...(snapshot === undefined ? {} : { snapshot }),
    acceptLoss: false,
    reader: 'the simulation',
    checksums,
    clock: life.clock,
    random: random.fork(),
    log: new RecordedLog(),
    scratch: scratch.attach(life),
    openTarget: async ({ uuid, name, sizeBytes }) => ({
      sink: await RestoreSink.create({
        disk: disk.attach(life),
        checksums,
        random: random.fork(),
        clock: life.clock,
        name,
        uuid,
        sizeBytes,
      }),
    }),
  });
  life.end();
  const contents = disk.file('image')?.contents() ?? new Uint8Array(0);
  return { ...restored, disk, contents, lost: lostBlocks(disk.file('sums')?.contents() ?? new Uint8Array(0)) };
}

function slow(store: ObjectStore, life: Life, random: SeededRandom, slowMs: number): ObjectStore {
  return {
    description: store.description,
    put: (key, body, options) => store.put(key, body, options),
    get: async (key, options) => {
      await life.clock.sleep(random.fraction() * slowMs);
      return store.get(key, options);
    },
    head: (key, options) => store.head(key, options),
    list: (prefix, options) => store.list(prefix, options),
    delete: (key, options) => store.delete(key, options),
    close: () => store.close(),
  };
}

/** docs/formats.md: 127 sums in a sector of 512 bytes; 1 stands for a block that is not there. */
function lostBlocks(sums: Uint8Array): Set<number> {
  const view = new DataView(sums.buffer, sums.byteOffset, sums.length);
  const lost = new Set<number>();
  for (let at = 0; at + 4 <= sums.length; at += 4) {
    if (at % 512 === 508 || view.getUint32(at, true) !== 1) continue;
    lost.add(Math.floor(at / 512) * 127 + (at % 512) / 4);
  }
  return lost;
}
