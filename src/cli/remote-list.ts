/** `keepgate remote ls URL`: the volumes in a bucket, with their names where the key opens them. */
import { GatewayError } from '../base/errors.js';
import { formatBytes } from '../config/quantity.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { openVolumeSealer } from '../remote/key.js';
import type { MasterKey } from '../remote/key.js';
import { listVolumeUuids, openVolume } from '../remote/volume-object.js';
import { findConfiguration } from './find-configuration.js';
import { openRemote } from './remote-access.js';
import type { StoreFlags } from './remote-access.js';
import type { Terminal } from './terminal.js';

interface ListedVolume {
  readonly uuid: string;
  /** null where the key does not open the volume. */
  readonly name: string | null;
  /** At its creation; it may have grown since. */
  readonly sizeBytes: number | null;
  readonly created: string | null;
}

export interface ListOptions {
  readonly url: string;
  readonly flags: StoreFlags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
  readonly json: boolean;
}

export async function listRemote(options: ListOptions): Promise<void> {
  const { terminal, random } = options;
  const { store, master } = await openRemote({ ...options, configuration: await findConfiguration(options.flags) });
  const volumes: ListedVolume[] = [];
  for (const uuid of await listVolumeUuids(store)) volumes.push(await describe(store, uuid, master, random));
  await store.close();
  if (options.json) return terminal.print(JSON.stringify(volumes));
  if (volumes.length === 0) return terminal.print(`${store.description} holds no volumes`);
  for (const { uuid, name, sizeBytes, created } of volumes) {
    terminal.print(
      name === null || sizeBytes === null || created === null
        ? `${uuid}  (this key does not open it)`
        : `${uuid}  ${name}  ${formatBytes(sizeBytes)}  created ${created}`,
    );
  }
}

async function describe(store: ObjectStore, uuid: string, master: MasterKey, random: Random): Promise<ListedVolume> {
  try {
    const sealer = await openVolumeSealer(store, { uuid, masters: [master], random });
    const volume = openVolume(sealer, await store.get(sealer.names.volume));
    return { uuid, name: volume.name, sizeBytes: volume.sizeBytes, created: new Date(volume.createdMs).toISOString() };
  } catch (error) {
    // Another key, or a creation that was never finished: both are somebody else's for this key.
    if (!(error instanceof GatewayError) || !['key-mismatch', 'object-missing'].includes(error.code)) throw error;
    return { uuid, name: null, sizeBytes: null, created: null };
  }
}
