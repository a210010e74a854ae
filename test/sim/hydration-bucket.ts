/** A simulated bucket as what a restored volume is filled from, with the gateway's own code, message by message. */
import { GatewayError } from '../../src/base/errors.js';
import { createHydrating } from '../../src/engine/hydration-open.js';
import type { HydrationPort } from '../../src/gateway/hydration-line.js';
import { HydrationWorkerCore } from '../../src/remote/hydration-worker-core.js';
import { restoreInstant } from '../../src/remote/restore-instant.js';
import { RetryingStore } from '../../src/remote/store-retry.js';
import { RecordedLog } from '../fake/log.js';
import type { SeededRandom } from '../fake/random.js';
import { SimDisk } from './disk.js';
import { checksums, master, volumeName } from './host.js';
import type { Life } from './scheduler.js';
import { Violation } from './shadow.js';
import type { SimBucket } from './store.js';

const MESSAGE_MS = 0.05;

/** Makes the directory; rejects with the refusal. Returns the LSN of the recovery point. */
export async function restoreLazily(
  bucket: SimBucket,
  disk: SimDisk,
  life: Life,
  random: SeededRandom,
  takeOver: boolean,
): Promise<number> {
  const target = disk.attach(life);
  const restored = await restoreInstant({
    store: new RetryingStore(bucket.attach(life), { clock: life.clock, random: random.fork() }),
    location: {},
    masters: [master],
    volume: volumeName,
    takeOver,
    acceptLoss: false,
    reader: 'the simulation',
    checksums,
    clock: life.clock,
    random: random.fork(),
    log: new RecordedLog(),
    scratch: new SimDisk(random.fork()).attach(life),
    create: (volume) => createHydrating({ ...volume, disk: target, checksums, random: random.fork() }),
  });
  return restored.recoveryPoint.lsn;
}

/** The way of one life to it; while `isAway`, there is none. */
export function bucketPort(options: {
  readonly bucket: SimBucket;
  readonly disk: SimDisk;
  readonly life: Life;
  readonly random: SeededRandom;
  readonly isAway: () => boolean;
  readonly broken: (violation: Violation) => void;
}): HydrationPort {
  const { bucket, disk, life, random, isAway, broken } = options;
  return {
    reader: 'the simulation',
    connect: (_source, receive) => {
      if (isAway()) return Promise.reject(new GatewayError('store-unreachable', 'not connected yet'));
      const store = bucket.attach(life);
      const core = new HydrationWorkerCore({
        disk: disk.attach(life),
        store,
        background: store,
        checksums,
        clock: life.clock,
        random: random.fork(),
        log: new RecordedLog(),
        emit: (message) => {
          const copy = structuredClone(message);
          life.later(MESSAGE_MS, () => receive(copy, 0));
        },
      });
      core.ended().catch((error: unknown) => {
        if (life.alive) broken(new Violation(`the hydration thread broke: ${String((error as Error).stack)}`));
      });
      return Promise.resolve({
        masters: [master],
        send: (message) => {
          const copy = structuredClone(message);
          life.later(MESSAGE_MS, () => core.receive(copy));
        },
      });
    },
  };
}
