/**
 * Restores a volume into the data directory of this running gateway, as a detached copy that is served before its content is
 * there, and adds it to the gateway's volumes (DATADIR/volumes.d).
 */
import { join } from 'node:path';
import type { RestoreRequest } from '../api/gateway-view.js';
import { ADDED_DIRECTORY } from '../config/added-volume.js';
import type { Configuration, VolumeConfiguration } from '../config/configuration.js';
import { volumeConfiguration } from '../config/load-configuration.js';
import { formatBytes } from '../config/quantity.js';
import { ensureWritableDirectory, removeFile, removeTree } from '../platform/text-file.js';
import type { Log } from '../ports/log.js';
import { parseReceipt } from '../remote/receipt.js';
import { RetryingStore } from '../remote/store-retry.js';
import { loadMasterKey } from './identity.js';
import { openStore } from './open-store.js';
import { locationOf, settingsFor } from './restore-location.js';
import { restoreInto } from './restore-volume.js';
import type { SystemPorts } from './system-ports.js';

/** A minute or so without the store; then whoever asked decides. */
const ATTEMPTS_MAX = 8;

export async function restoreOnline(
  request: RestoreRequest,
  options: {
    readonly configuration: Configuration;
    readonly ports: SystemPorts;
    readonly log: Log;
    readonly signal: AbortSignal;
  },
): Promise<{ readonly volume: VolumeConfiguration; readonly summary: string }> {
  const { configuration, ports, log, signal } = options;
  const { clock, random } = ports;
  const { dataDir } = configuration;
  const disk = ports.openDisk(dataDir);
  const settings = settingsFor(request.from, request, configuration.store);
  const keyFile = request.keyFile ?? configuration.keyFile;
  const master = await loadMasterKey(keyFile, false, random);
  const receipt = request.receipt === undefined ? undefined : parseReceipt(request.receipt, 'the receipt');
  const store = new RetryingStore(openStore({ store: settings, create: false, random }), {
    clock,
    random,
    attemptsMax: ATTEMPTS_MAX,
  });
  try {
    const { name, uuid, sizeBytes, recoveryPoint, loss } = await restoreInto({
      dataDir,
      store,
      master,
      volume: request.volume,
      as: request.as,
      content: { location: locationOf(settings, keyFile) },
      takeOver: false,
      snapshot: request.snapshot,
      receipt,
      acceptLoss: request.acceptLoss === true,
      ports,
      log,
      signal,
      progress: () => undefined,
    });
    const written = { name, size: sizeBytes, replicate: { enabled: false } };
    const entry = `${name}.json`;
    try {
      const volume = volumeConfiguration(written);
      await ensureWritableDirectory(join(dataDir, ADDED_DIRECTORY), 'dataDir');
      // Durably: what is acknowledged from now on is found again by nothing else.
      await disk.writeSmall(join(ADDED_DIRECTORY, entry), Buffer.from(`${JSON.stringify(written, null, 2)}\n`));
      await disk.syncDirectory('.');
      const time = new Date(recoveryPoint.wallMs).toISOString();
      const point = `recovery point ${recoveryPoint.epoch}-${recoveryPoint.number} of ${time}`;
      const lost = loss === undefined ? '' : `; what lies behind it was lost: ${loss}`;
      return {
        volume,
        summary: `restored ${name} (${uuid}), ${formatBytes(sizeBytes)}, ${point}${lost}; it is served`,
      };
    } catch (error) {
      // In this order: an entry without its directory would be an empty volume of that name.
      await removeFile(join(dataDir, ADDED_DIRECTORY, entry));
      await removeTree(join(dataDir, 'volumes', name));
      throw error;
    }
  } finally {
    await store.close();
  }
}
