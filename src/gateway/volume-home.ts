/**
 * Whose home a volume's directory is: the volume that it holds, or the new one that is made in it while it is empty.
 *
 * Nothing that was there is overwritten, and a directory of another volume is refused (P9).
 */
import { join } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { VolumeConfiguration } from '../config/configuration.js';
import { reserveDraft } from '../engine/reserved-space.js';
import { createVolume, readIdentity } from '../engine/volume-directory-format.js';
import type { VolumeIdentity } from '../engine/volume-directory-format.js';
import type { Checksums } from '../ports/checksum.js';
import type { Disk } from '../ports/disk.js';
import type { Random } from '../ports/random.js';
import type { SystemPorts } from './system-ports.js';

export interface VolumeHome {
  readonly configuration: VolumeConfiguration;
  /** Rooted at the volume's directory. */
  readonly disk: Disk;
  readonly checksums: Checksums;
  readonly random: Random;
  /** Removes the volume's directory. */
  readonly discard: () => Promise<void>;
}

/** volume-exists: it is another volume's. disk-full, not-supported: its space cannot be reserved, and nothing is left. */
export async function settleIn(home: VolumeHome): Promise<VolumeIdentity> {
  const { name } = home.configuration;
  const identity = (await readIdentity(home.disk)) ?? (await create(home));
  if (identity.name === name) return identity;
  throw new GatewayError(
    'volume-exists',
    `the directory of volume ${name} holds volume ${identity.name}; move it away`,
  );
}

/** What a volume's directory says of itself, without opening it; what cannot be read is no volume. */
export function identityAt(
  ports: Pick<SystemPorts, 'openDisk'>,
  dataDir: string,
  name: string,
): Promise<VolumeIdentity | undefined> {
  return readIdentity(ports.openDisk(join(dataDir, 'volumes', name))).catch(() => undefined);
}

/** In a directory that is empty. */
async function create({ configuration, disk, checksums, random, discard }: VolumeHome): Promise<VolumeIdentity> {
  const { name, sizeBytes, bufferBytes, provision } = configuration;
  const volume = { disk, checksums, random, name, sizeBytes };
  if (provision === 'thin') return createVolume(volume);
  try {
    return await createVolume({
      ...volume,
      reserve: () => reserveDraft(disk, { volumeBytes: sizeBytes, bufferBytes }),
    });
  } catch (error) {
    const code = error instanceof GatewayError ? error.code : undefined;
    if (code === 'disk-full' || code === 'not-supported') await discard().catch(() => undefined);
    throw error;
  }
}
