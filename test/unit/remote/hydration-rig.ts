/** Instant restores of a rig's volume, in memory: how they are begun, and what looks after them. */
import { GatewayError } from '../../../src/base/errors.js';
import type { ObjectStore } from '../../../src/ports/object-store.js';
import { walkFromCheckpoint } from '../../../src/remote/chain-walk.js';
import { emptyDelta, sealCheckpoint } from '../../../src/remote/checkpoint.js';
import { Hydrator } from '../../../src/remote/hydrator.js';
import type { HydratorOptions } from '../../../src/remote/hydrator.js';
import { RemoteBook } from '../../../src/remote/remote-map-book.js';
import { listCheckpoints, readCheckpoint } from '../../../src/remote/restore-checkpoint.js';
import { restoreInstant } from '../../../src/remote/restore-instant.js';
import type { InstantRestoreOptions, InstantVolume } from '../../../src/remote/restore-instant.js';
import type { SealedObject } from '../../../src/remote/seal.js';
import { sealMapShard } from '../../../src/remote/shard-map.js';
import { sealTableShard } from '../../../src/remote/shard-table.js';
import { plainChecksums } from '../../fake/checksums.js';
import { FakeHydratingVolume } from '../../fake/hydrating-volume.js';
import { RecordedLog } from '../../fake/log.js';
import { MemoryDisk } from '../../fake/memory-disk.js';
import { SeededRandom } from '../../fake/random.js';
import { restoreRequest } from '../../fake/restored-image.js';
import { testMaster } from '../../fake/replication-rig.js';
import type { Rig } from '../../fake/replication-rig.js';

let restores = 0;

export interface InstantRestore {
  readonly made: InstantVolume;
  readonly volume: FakeHydratingVolume;
  readonly loss: string | undefined;
}

export async function begin(rig: Rig, options: Partial<InstantRestoreOptions> = {}): Promise<InstantRestore> {
  let made: InstantVolume | undefined;
  const { loss } = await restoreInstant({
    ...restoreRequest(rig, 4000 + ++restores),
    location: { url: 'memory://test' },
    create: (volume) => {
      made = volume;
      return Promise.resolve();
    },
    ...options,
  });
  if (made === undefined) throw new Error('nothing was made');
  return { made, volume: new FakeHydratingVolume(made.source, made.pins), loss };
}

/**
 * Puts a checkpoint at the newest recovery point that has nothing in its delta and its tail: the map in a shard, the
 * segments in a table shard. A volume of a rig is too small to get any by itself. Returns their keys.
 */
export async function checkpointWithShards(rig: Rig): Promise<{ map: string; table: string }> {
  const sealer = await rig.sealer();
  const request = {};
  const sources = { store: rig.store, sealer, checksums: plainChecksums, disk: new MemoryDisk(), request };
  const [key] = await listCheckpoints(rig.store, sealer, request);
  const checkpoint = key && (await readCheckpoint(rig.store, sealer, key, request, () => undefined));
  const book = await RemoteBook.load(checkpoint, sources);
  const options = { store: rig.store, sealer, request, createdSizeBytes: rig.log.createdSizeBytes };
  await walkFromCheckpoint(checkpoint, { ...options, visit: (group) => book.apply(group) });
  const change = await book.map.file.begin();
  await book.map.stage(change);
  await book.map.file.commit(change, book.position);
  const { epoch, number } = book.position;
  const put = (name: string, object: SealedObject): void => rig.store.poke(name, object.bytes);

  const mapKey = { epoch, number, part: 900 };
  const mapShard = sealMapShard(sealer, plainChecksums, mapKey, await book.map.file.readShard(0));
  put(sealer.names.shard(mapKey), mapShard);
  const tableKey = { epoch, number, part: 901 };
  const live = new Uint16Array(1024);
  for (const { row, liveBlocks } of book.table.tail) live[row.number] = liveBlocks;
  const tableShard = sealTableShard(
    sealer,
    tableKey,
    0,
    book.table.tail.map(({ row }) => row),
  );
  put(sealer.names.shard(tableKey), tableShard);
  const root = sealCheckpoint(
    sealer,
    { epoch, number },
    {
      sizeBytes: book.sizeBytes ?? rig.log.createdSizeBytes,
      wallMs: rig.clock.wallMs(),
      recoveryPoint: book.position,
      epochs: book.epochs,
      receipts: [],
      mapShards: [{ ...mapKey, shardIndex: 0, link: mapShard.link }],
      tableShards: [{ ...tableKey, tableIndex: 0, link: tableShard.link, live }],
      tail: [],
      delta: emptyDelta,
      snapshots: book.snapshots,
    },
  );
  put(sealer.names.checkpoint({ epoch, number }), root);
  await book.close();
  return { map: sealer.names.shard(mapKey), table: sealer.names.shard(tableKey) };
}

export interface Looker {
  readonly hydrator: Hydrator;
  readonly log: RecordedLog;
  /** What ended it. */
  readonly failure: () => unknown;
}

export function lookAfter(
  rig: Rig,
  volume: FakeHydratingVolume,
  options: Partial<HydratorOptions> & { readonly disk: MemoryDisk; readonly seed?: number },
): Looker {
  const store: ObjectStore = options.store ?? rig.store;
  const log = new RecordedLog();
  let failure: unknown;
  const hydrator = new Hydrator({
    volume,
    store,
    background: store,
    masters: [testMaster()],
    reader: 'test',
    checksums: plainChecksums,
    clock: rig.clock,
    random: new SeededRandom(options.seed ?? 5000 + ++restores),
    log,
    failed: (error) => {
      failure = error;
    },
    ...options,
  });
  return { hydrator, log, failure: () => failure };
}

export const code =
  (expected: string, text = '') =>
  (error: unknown): boolean => {
    if (!(error instanceof GatewayError) || error.code !== expected || !error.message.includes(text)) throw error;
    return true;
  };
