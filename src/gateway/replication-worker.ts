/**
 * The replication thread: sealing and uploading for all volumes, away from the thread that serves clients. Each volume
 * has a worker core of its own (remote/), with its own view of the volume's directory; store client and bandwidth
 * budget are shared.
 */
import { parentPort, workerData } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';
import { assert, assertNever } from '../base/assert.js';
import { BandwidthBudget } from '../bandwidth/budget.js';
import { LOG_DIRECTORY } from '../engine/volume-directory-format.js';
import { LogReader } from '../engine/log-reader.js';
import type { Transfers } from '../metrics/source.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { RateLimit, RateLimits } from '../ports/bandwidth.js';
import { createLog } from '../platform/pino-log.js';
import { HydrationWorkerCore } from '../remote/hydration-worker-core.js';
import { goBehindClients } from '../platform/thread-priority.js';
import { NeighbourSurvey } from '../remote/neighbours.js';
import { ReplicationWorkerCore } from '../remote/replication-worker-core.js';
import { LimitedStore } from '../remote/store-limit.js';
import { ObservedStore, uploadBoundsSeconds } from '../remote/store-observe.js';
import type { StoreCounters } from '../remote/store-observe.js';
import { openStore } from './open-store.js';
import type { StoreSettings } from './restore-location.js';
import type { FromReplicationThread, ReplicationThreadData, ToReplicationThread } from './replication-channel.js';
import { createSystemPorts } from './system-ports.js';

function run(port: MessagePort, data: ReplicationThreadData): void {
  goBehindClients();
  const ports = createSystemPorts();
  const { clock, random, checksums, cipher } = ports;
  const log = createLog(data.logLevels).child('replication');
  const budget = (direction: keyof RateLimits): BandwidthBudget =>
    new BandwidthBudget({
      clock,
      limit: limitFor(data, data.limits[direction]),
      answers: direction === 'upload',
      onRate: (bytesPerSecond) => port.postMessage({ direction, bytesPerSecond } satisfies FromReplicationThread),
    });
  const paces = { upload: budget('upload'), download: budget('download') };
  const limits = { upload: paces.upload.admission, download: paces.download.admission };
  const { store } = data;
  const inner = store && openStore({ store, create: data.createStore, random, paces });
  const cores = new Map<string, ReplicationWorkerCore>();
  const hydrations = new Map<string, HydrationWorkerCore>();
  const sources: ObjectStore[] = [];
  const neighbours = new NeighbourSurvey();

  const open = (volume: string, directory: string): void => {
    assert(inner !== undefined, 'a volume that replicates has a store');
    const disk = ports.openDisk(directory);
    const observed = new ObservedStore(inner, { clock });
    cores.set(
      volume,
      new ReplicationWorkerCore({
        store: new LimitedStore(observed, { ...limits, lane: volume }),
        counters: observed.counters,
        disk,
        source: new LogReader({ disk, checksums, directory: LOG_DIRECTORY }),
        checksums,
        cipher,
        neighbours,
        clock,
        random,
        log: log.child('replicator', { volume }),
        emit: (message) => {
          const transfers = message.type === 'status' ? transfersOf(observed.counters) : undefined;
          port.postMessage({ volume, message, transfers } satisfies FromReplicationThread);
        },
      }),
    );
  };

  /** Reads on demand and the filling are lanes of their own, so that neither waits for all of the other. */
  const hydrate = (volume: string, directory: string, settings: StoreSettings): void => {
    const source = openStore({ store: settings, create: false, random, paces });
    sources.push(source);
    const observed = new ObservedStore(source, { clock });
    const core = new HydrationWorkerCore({
      disk: ports.openDisk(directory),
      store: new LimitedStore(observed, { ...limits, lane: volume }),
      background: new LimitedStore(observed, { ...limits, lane: `${volume} filling` }),
      checksums,
      clock,
      random,
      log: log.child('hydrator', { volume }),
      emit: (hydration, transfer) => {
        const { downloadedBytes } = observed.counters;
        port.postMessage({ volume, hydration, downloadedBytes } satisfies FromReplicationThread, transfer);
      },
    });
    hydrations.set(volume, core);
    // A rejection is a broken invariant, as with a replicator.
    void core.ended();
  };

  /** What is said to it from now on is nobody's. */
  const release = async (volume: string): Promise<void> => {
    const [core, hydration] = [cores.get(volume), hydrations.get(volume)];
    cores.delete(volume);
    hydrations.delete(volume);
    await core?.close();
    await hydration?.close();
    port.postMessage({ released: volume } satisfies FromReplicationThread);
  };

  const end = async (): Promise<void> => {
    await Promise.all([...cores.values(), ...hydrations.values()].map((core) => core.close()));
    await inner?.close();
    for (const source of sources) await source.close();
    port.close();
  };

  port.on('message', (message: ToReplicationThread) => {
    switch (message.type) {
      case 'open':
        return open(message.volume, message.directory);
      case 'to': {
        const core = cores.get(message.volume);
        assert(core !== undefined, 'a volume is opened before it is spoken to');
        core.receive(message.message);
        // A rejection is a broken invariant: unhandled, so that it ends this thread and with it the gateway.
        if (message.message.type === 'start') void core.ended();
        return;
      }
      case 'hydrate':
        return hydrate(message.volume, message.directory, message.store);
      case 'toHydrator':
        hydrations.get(message.volume)?.receive(message.message);
        return;
      case 'limit':
        paces.upload.setLimit(limitFor(data, message.limits.upload));
        paces.download.setLimit(limitFor(data, message.limits.download));
        return;
      case 'release':
        void release(message.volume);
        return;
      case 'end':
        void end();
        return;
      default:
        assertNever(message);
    }
  });
}

/** A directory has no delays from which `auto` could learn. */
function limitFor({ store }: ReplicationThreadData, limit: RateLimit): RateLimit {
  return limit === 'auto' && store?.url.startsWith('file:') === true ? UNLIMITED : limit;
}

function transfersOf(counters: StoreCounters): Transfers {
  return {
    uploadBoundsSeconds,
    uploads: counters.uploadSeconds,
    uploadSecondsSum: counters.uploadSecondsSum,
    downloadedBytes: counters.downloadedBytes,
  };
}

assert(parentPort !== null, 'this file is the entry of a worker thread');
run(parentPort, workerData as ReplicationThreadData);
