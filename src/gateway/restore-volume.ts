/**
 * Restores a volume into a stopped gateway's data directory: holds the gateway's own lock meanwhile, fills
 * DATADIR/volumes/NAME, and leaves nothing behind when it fails, so that it can simply be tried again.
 */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { RestoreSink } from '../engine/restore-sink.js';
import { ensureWritableDirectory, exists, removeTree } from '../platform/text-file.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { MasterKey } from '../remote/key.js';
import type { Receipt } from '../remote/receipt.js';
import { restoreFull } from '../remote/restore.js';
import type { Restored } from '../remote/restore.js';
import type { SystemPorts } from './system-ports.js';

export interface RestoreVolumeOptions {
  readonly dataDir: string;
  readonly store: ObjectStore;
  readonly master: MasterKey;
  /** Name or uuid in the bucket. */
  readonly volume: string;
  readonly as: string | undefined;
  readonly takeOver: boolean;
  readonly snapshot: string | undefined;
  readonly receipt: Receipt | undefined;
  readonly acceptLoss: boolean;
  readonly ports: SystemPorts;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly progress: (doneBytes: number, totalBytes: number) => void;
}

export async function restoreVolume(options: RestoreVolumeOptions): Promise<Restored> {
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
    return await restoreLocked(options);
  } finally {
    await lock.release();
  }
}

async function restoreLocked(options: RestoreVolumeOptions): Promise<Restored> {
  const { dataDir, store, master, ports, log, receipt, as, snapshot, signal, progress } = options;
  const { checksums, clock, random } = ports;
  const scratch = join(dataDir, 'restoring');
  /** Set once this restore, and nobody before it, has made the directory. */
  let made: string | undefined;
  let sink: RestoreSink | undefined;
  await removeTree(scratch);
  await ensureWritableDirectory(scratch, '--data-dir');
  try {
    return await restoreFull({
      store,
      masters: [master],
      volume: options.volume,
      ...(as === undefined ? {} : { as }),
      takeOver: options.takeOver,
      ...(snapshot === undefined ? {} : { snapshot }),
      ...(receipt === undefined ? {} : { receipt }),
      acceptLoss: options.acceptLoss,
      reader: hostname(),
      checksums,
      clock,
      random,
      log,
      signal,
      scratch: ports.openDisk(scratch),
      progress: ({ doneBytes, totalBytes }) => progress(doneBytes, totalBytes),
      openTarget: async ({ uuid, name, sizeBytes }) => {
        const directory = join(dataDir, 'volumes', name);
        if (await exists(directory)) {
          throw new GatewayError(
            'volume-exists',
            `${directory} exists; nothing was overwritten. Move it away, or use --as NAME`,
          );
        }
        await ensureWritableDirectory(directory, '--data-dir');
        made = directory;
        const disk = ports.openDisk(directory);
        sink = await RestoreSink.create({ disk, checksums, random, clock, name, uuid, sizeBytes });
        return { sink };
      },
    });
  } catch (error) {
    // It may have been closed already, by its own end.
    await sink?.close().catch(() => undefined);
    if (made !== undefined) await removeTree(made);
    throw error;
  } finally {
    await removeTree(scratch);
  }
}
