/**
 * What of a configuration takes a restart to change: all but bandwidth, who may log in or attach, which volumes there are,
 * and how large they are at least.
 */
import type { Configuration, VolumeConfiguration } from '../config/configuration.js';

/**
 * The fixed settings in which `fresh` differs from what runs, by name: a section, or "volumes: NAME". `volumes`: as they
 * are served. A volume that only one of the two has differs in nothing.
 */
export function changedFixed(
  running: Configuration,
  volumes: readonly VolumeConfiguration[],
  fresh: Configuration,
): ReadonlySet<string> {
  const changed = new Set<string>();
  const fixed = fixedPart(running);
  for (const [key, value] of Object.entries(fixedPart(fresh))) {
    if (JSON.stringify(value) !== JSON.stringify(fixed[key])) changed.add(key);
  }
  const asFresh = new Map(fresh.volumes.map((volume) => [volume.name, fixedVolume(volume)]));
  for (const volume of volumes) {
    const now = asFresh.get(volume.name);
    if (now !== undefined && now !== fixedVolume(volume)) changed.add(`volumes: ${volume.name}`);
  }
  return changed;
}

function fixedPart({ dataDir, keyFile, nbd, iscsi, api, store }: Configuration): Readonly<Record<string, unknown>> {
  return {
    dataDir,
    keyFile,
    nbd: { ...nbd, tls: nbd.tls.mode },
    iscsi: { ...iscsi, discoveryChap: undefined },
    api,
    store,
  };
}

/** `added` only says where it stands; a larger size is taken over (VolumeRoster). */
function fixedVolume(volume: VolumeConfiguration): string {
  const free = { sizeBytes: undefined, initiators: undefined, chap: undefined, nbdUsers: undefined, added: undefined };
  return JSON.stringify({ ...volume, ...free });
}
