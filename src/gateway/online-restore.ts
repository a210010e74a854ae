/**
 * Restores a volume into the data directory of this running gateway, served before its content is there, and adds it to the
 * gateway's volumes (DATADIR/volumes.d): a detached copy, or the volume itself, which the gateway then continues.
 *
 * A volume is continued only where the gateway replicates to and with its key, for that is where its next start looks for
 * it; and only where none of its volumes is the same one already, since the two would fence each other for ever (P7). What
 * its former owner sends meanwhile decides as it does between two starts: the slower one is refused (ownership.ts).
 */
import { join } from 'node:path';
import type { RestoreRequest } from '../api/gateway-view.js';
import { GatewayError } from '../base/errors.js';
import type { Configuration, VolumeConfiguration } from '../config/configuration.js';
import { volumeConfiguration } from '../config/load-configuration.js';
import { formatBytes } from '../config/quantity.js';
import { removeTree } from '../platform/text-file.js';
import type { Log } from '../ports/log.js';
import type { MasterKey } from '../remote/key.js';
import { parseReceipt } from '../remote/receipt.js';
import { describePoint } from '../remote/segment-point.js';
import { RetryingStore } from '../remote/store-retry.js';
import { removeEntry, writeEntry } from './added-entry.js';
import { loadMasterKey } from './identity.js';
import { openStore } from './open-store.js';
import { locationOf, settingsFor } from './restore-location.js';
import { restoreInto } from './restore-volume.js';
import type { RestoredVolume } from './restore-volume.js';
import type { SystemPorts } from './system-ports.js';

/** A minute or so without the store; then whoever asked decides. */
const ATTEMPTS_MAX = 8;

export interface OnlineRestore {
  readonly configuration: Configuration;
  readonly ports: SystemPorts;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** The volume of this gateway that has this uuid, by name. */
  readonly volumeOf: (uuid: string) => Promise<string | undefined>;
  /** Whether it has a volume of this name. */
  readonly has: (name: string) => boolean;
  /** Keeps the name until the restore is over. volume-exists */
  readonly claim: (name: string) => void;
}

export interface RestoredOnline {
  readonly volume: VolumeConfiguration;
  readonly summary: string;
}

export async function restoreOnline(request: RestoreRequest, options: OnlineRestore): Promise<RestoredOnline> {
  const { configuration, ports, log, signal } = options;
  const { clock, random } = ports;
  const { dataDir } = configuration;
  const takeOver = request.takeOver === true;
  const settings = settingsFor(request.from, request, configuration.store);
  const keyFile = request.keyFile ?? configuration.keyFile;
  const master = await loadMasterKey(keyFile, false, random);
  if (takeOver) await requireOwn(request, master, options);
  const receipt = request.receipt === undefined ? undefined : parseReceipt(request.receipt, 'the receipt');
  const store = new RetryingStore(openStore({ store: settings, create: false, random }), {
    clock,
    random,
    attemptsMax: ATTEMPTS_MAX,
  });
  try {
    const restored = await restoreInto({
      dataDir,
      store,
      master,
      volume: request.volume,
      as: request.as,
      content: { location: locationOf(settings, keyFile) },
      takeOver,
      snapshot: request.snapshot,
      receipt,
      acceptLoss: request.acceptLoss === true,
      ports,
      log,
      signal,
      progress: () => undefined,
      admit: ({ uuid, name }) => admit({ uuid, name, takeOver }, options),
    });
    const volume = await addVolume(restored, options);
    return { volume, summary: summaryOf(restored) };
  } finally {
    await store.close();
  }
}

/** To continue a volume elsewhere than the next start would look for it is to lose it. */
async function requireOwn(
  { from, endpoint, region, forcePathStyle }: RestoreRequest,
  master: MasterKey,
  { configuration, ports }: OnlineRestore,
): Promise<void> {
  const { store, keyFile } = configuration;
  const given = { url: from, endpoint, region, forcePathStyle };
  const differs = Object.entries(given).some(
    ([key, value]) => value !== undefined && value !== store?.[key as keyof typeof given],
  );
  if (store === undefined || differs) {
    const where = store === undefined ? 'nowhere' : `to ${store.url}`;
    throw new GatewayError(
      'config-invalid',
      `this gateway replicates ${where}: it can take over only what lies in its own store, reached as the configuration says`,
    );
  }
  if ((await loadMasterKey(keyFile, false, ports.random)).id === master.id) return;
  throw new GatewayError('config-invalid', `this gateway's key is ${keyFile}: it can take over only with that one`);
}

/** Refuses a volume that would be here twice, by its name or as itself. */
async function admit(
  { uuid, name, takeOver }: { readonly uuid: string; readonly name: string; readonly takeOver: boolean },
  { volumeOf, has, claim }: OnlineRestore,
): Promise<void> {
  const same = takeOver ? await volumeOf(uuid) : undefined;
  if (same !== undefined) {
    const instead = `keepgate takeover ${same} makes this gateway its owner; to begin anew from the bucket, stop the gateway and move DATADIR/volumes/${same} away`;
    throw new GatewayError('volume-exists', `volume ${same} of this gateway is that volume (${uuid}): ${instead}`);
  }
  if (!has(name)) return claim(name);
  throw new GatewayError(
    'volume-exists',
    `this gateway has a volume ${name}: use --as NAME, or stop the gateway and give the command again`,
  );
}

/** Durably: what is acknowledged from now on is found again by nothing else. */
async function addVolume(
  restored: RestoredVolume,
  { configuration, ports }: OnlineRestore,
): Promise<VolumeConfiguration> {
  const { dataDir } = configuration;
  const { name, sizeBytes, detached } = restored;
  const written = { name, size: sizeBytes, ...(detached ? { replicate: { enabled: false } } : {}) };
  try {
    const volume = volumeConfiguration(written, configuration);
    await writeEntry(ports, dataDir, name, written);
    return volume;
  } catch (error) {
    // In this order: an entry without its directory would be an empty volume of that name.
    await removeEntry(ports, dataDir, name);
    await removeTree(join(dataDir, 'volumes', name));
    throw error;
  }
}

function summaryOf({ name, uuid, sizeBytes, recoveryPoint, loss, detached }: RestoredVolume): string {
  const point = describePoint(recoveryPoint);
  const lost = loss === undefined ? '' : `; what lies behind it was lost: ${loss}`;
  const served = detached ? 'it is served' : 'this gateway continues it, and serves it';
  return `restored ${name} (${uuid}), ${formatBytes(sizeBytes)}, ${point}${lost}; ${served}`;
}
