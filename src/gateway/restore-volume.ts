/**
 * Restores a volume into a data directory: makes DATADIR/volumes/NAME, whole or not at all, and leaves nothing behind when
 * it fails; what it leaves when it is killed is taken back by the next one (restore-draft.ts). So it can simply be tried again. Instant: the history is proved, and the content comes while the volume is served. Full:
 * everything is fetched first.
 */
import { setMaxListeners } from 'node:events';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { createHydrating } from '../engine/hydration-open.js';
import { RestoreSink } from '../engine/restore-sink.js';
import { ensureWritableDirectory, exists, removeTree } from '../platform/text-file.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { MasterKey } from '../remote/key.js';
import type { Receipt } from '../remote/receipt.js';
import { restoreInstant } from '../remote/restore-instant.js';
import { restoreFull } from '../remote/restore.js';
import type { Restored } from '../remote/restore.js';
import { RestoreDraft } from './restore-draft.js';
import type { SystemPorts } from './system-ports.js';

export interface RestoreVolumeOptions {
  readonly dataDir: string;
  readonly store: ObjectStore;
  readonly master: MasterKey;
  /** Name or uuid in the bucket. */
  readonly volume: string;
  readonly as: string | undefined;
  /** Fetch everything before it is used; else, how the store is opened again (restore-location.ts). */
  readonly content: 'full' | { readonly location: Readonly<Record<string, string>> };
  readonly takeOver: boolean;
  readonly snapshot: string | undefined;
  readonly receipt: Receipt | undefined;
  readonly acceptLoss: boolean;
  readonly ports: SystemPorts;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly progress: (doneBytes: number, totalBytes: number) => void;
  /** Refuses what the caller cannot have, once the history is proved and before anything is made. */
  readonly admit?: (volume: { readonly uuid: string; readonly name: string }) => Promise<void>;
}

/** What is said of a restore; without `lostBlocks` its content is still to come. */
export type RestoredVolume = Omit<Restored, 'lostBlocks'> & Partial<Pick<Restored, 'lostBlocks'>>;

/** Into a stopped gateway's directory: holds the gateway's own lock meanwhile. */
export async function restoreVolume(options: RestoreVolumeOptions): Promise<RestoredVolume> {
  const { dataDir, ports } = options;
  await ensureWritableDirectory(dataDir, '--data-dir');
  const lock = await ports
    .openDisk(dataDir)
    .lock('lock')
    .catch((error: unknown) => {
      if (!(error instanceof GatewayError) || error.code !== 'volume-locked') throw error;
      throw new GatewayError('volume-locked', `${dataDir} is in use by a gateway; stop it to restore into it`, {
        cause: error,
      });
    });
  try {
    return await restoreInto(options);
  } finally {
    await lock.release();
  }
}

/** Into a directory that the caller holds. */
export async function restoreInto(options: RestoreVolumeOptions): Promise<RestoredVolume> {
  const { dataDir, store, master, ports, log, receipt, as, snapshot, signal, progress, content } = options;
  const { checksums, clock, random } = ports;
  // Each request under way listens to it.
  setMaxListeners(0, signal);
  let sink: RestoreSink | undefined;
  /** Set once the volume has taken its place. */
  let placed: string | undefined;
  const draft = await RestoreDraft.begin(dataDir, ports);
  const common = {
    store,
    masters: [master],
    volume: options.volume,
    ...(as === undefined ? {} : { as }),
    ...(snapshot === undefined ? {} : { snapshot }),
    ...(receipt === undefined ? {} : { receipt }),
    acceptLoss: options.acceptLoss,
    reader: hostname(),
    notes: draft,
    checksums,
    clock,
    random,
    log,
    signal,
    scratch: draft.scratch,
  };
  const place = async (name: string): Promise<void> => {
    const directory = join(dataDir, 'volumes', name);
    await requireFree(directory, name);
    placed = directory;
    await draft.place(directory);
  };
  try {
    if (content === 'full') {
      const restored = await restoreFull({
        ...common,
        takeOver: options.takeOver,
        progress: ({ doneBytes, totalBytes }) => progress(doneBytes, totalBytes),
        openTarget: async ({ uuid, name, sizeBytes }) => {
          await options.admit?.({ uuid, name });
          await requireFree(join(dataDir, 'volumes', name), name);
          const disk = await draft.volume();
          sink = await RestoreSink.create({ disk, checksums, random, clock, name, uuid, sizeBytes });
          return { sink };
        },
      });
      await place(restored.name);
      return restored;
    }
    return await restoreInstant({
      ...common,
      takeOver: options.takeOver,
      location: content.location,
      create: async (volume) => {
        await options.admit?.(volume);
        await requireFree(join(dataDir, 'volumes', volume.name), volume.name);
        await createHydrating({ ...volume, disk: await draft.volume(), checksums, random });
        await place(volume.name);
      },
    });
  } catch (error) {
    // It may have been closed already, by its own end.
    await sink?.close().catch(() => undefined);
    if (placed !== undefined) await removeTree(placed);
    throw error;
  } finally {
    await draft.remove();
  }
}

/** Says what to do with what is in the way. */
async function requireFree(directory: string, name: string): Promise<void> {
  if (!(await exists(directory))) return;
  const instead = (await exists(join(directory, 'volume.json')))
    ? `It holds a whole volume: serve it as { name: ${name}, … } among the configuration's volumes, or restore beside it with --as NAME`
    : 'It holds no whole volume. Move it away, or use --as NAME';
  throw new GatewayError('volume-exists', `${directory} exists; nothing was overwritten. ${instead}`);
}
