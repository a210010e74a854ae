/**
 * DATADIR/volumes.d/NAME.json: what makes a volume that was added while the gateway ran one of its volumes after the next
 * start too (config/added-volume.ts). Written and removed durably: the entry decides whether there is such a volume.
 */
import { join } from 'node:path';
import { ADDED_DIRECTORY } from '../config/added-volume.js';
import { ensureWritableDirectory, exists } from '../platform/text-file.js';
import type { SystemPorts } from './system-ports.js';

const entryOf = (name: string): string => join(ADDED_DIRECTORY, `${name}.json`);

export function hasEntry(dataDir: string, name: string): Promise<boolean> {
  return exists(join(dataDir, entryOf(name)));
}

/** `written`: as an entry of `volumes` in the configuration. @throws GatewayError disk-full, disk-failed, directory-unwritable */
export async function writeEntry(
  ports: SystemPorts,
  dataDir: string,
  name: string,
  written: Readonly<Record<string, unknown>>,
): Promise<void> {
  await ensureWritableDirectory(join(dataDir, ADDED_DIRECTORY), 'dataDir');
  await ports.openDisk(dataDir).writeSmall(entryOf(name), Buffer.from(`${JSON.stringify(written, null, 2)}\n`));
}

/** Fine when there is none. */
export async function removeEntry(ports: SystemPorts, dataDir: string, name: string): Promise<void> {
  if (!(await hasEntry(dataDir, name))) return;
  const disk = ports.openDisk(dataDir);
  await disk.remove(entryOf(name));
  await disk.syncDirectory(ADDED_DIRECTORY);
}
