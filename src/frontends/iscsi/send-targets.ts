/** SendTargets (RFC 7143, section 4.3 and appendix C): which volumes an initiator may see, and where. */
import type { StreamPeer } from '../../ports/stream.js';
import type { ServedVolume, VolumeDirectory } from '../../ports/volume-directory.js';
import { REJECT } from './parameter.js';
import type { Pair } from './text.js';
import { PORTAL_GROUP } from './wire.js';

export interface TargetNaming {
  readonly directory: VolumeDirectory;
  /** "iqn.2026-11.io.keepgate": a target is PREFIX:VOLUME. */
  readonly targetPrefix: string;
  /** host:port to give out; empty: the address that the initiator reached. */
  readonly advertise: readonly string[];
}

export function targetName(naming: TargetNaming, volume: ServedVolume): string {
  return `${naming.targetPrefix}:${volume.device.name}`;
}

/** Names are compared in lower case (section 4.2.7.1, RFC 3722). */
export function findTarget(naming: TargetNaming, name: string): ServedVolume | undefined {
  const prefix = `${naming.targetPrefix}:`;
  const lower = name.toLowerCase();
  if (!lower.startsWith(prefix.toLowerCase())) return undefined;
  const volume = naming.directory.find(lower.slice(prefix.length));
  return volume?.iscsi.enabled === true ? volume : undefined;
}

export function isAllowed(volume: ServedVolume, initiatorName: string): boolean {
  const { initiators } = volume.iscsi;
  return initiators.length === 0 || initiators.some((name) => name.toLowerCase() === initiatorName.toLowerCase());
}

/**
 * The answer to SendTargets=`value`. `connected` is the session's own target; undefined in a discovery session, which
 * alone may ask for All (appendix C).
 */
export function sendTargets(
  naming: TargetNaming,
  asking: { readonly initiatorName: string; readonly peer: StreamPeer; readonly connected: ServedVolume | undefined },
  value: string,
): Pair[] {
  const rejected = [{ key: 'SendTargets', value: REJECT }];
  if (value === 'All') {
    if (asking.connected !== undefined) return rejected;
    const visible = naming.directory
      .list()
      .filter((each) => each.iscsi.enabled && isAllowed(each, asking.initiatorName));
    return visible.flatMap((each) => describe(naming, each, asking.peer));
  }
  if (value === '') return asking.connected === undefined ? rejected : describe(naming, asking.connected, asking.peer);
  const volume = findTarget(naming, value);
  if (volume === undefined || !isAllowed(volume, asking.initiatorName)) return [];
  if (asking.connected !== undefined && volume !== asking.connected) return [];
  return describe(naming, volume, asking.peer);
}

function describe(naming: TargetNaming, volume: ServedVolume, peer: StreamPeer): Pair[] {
  const pairs: Pair[] = [{ key: 'TargetName', value: targetName(naming, volume) }];
  const addresses = naming.advertise.length > 0 ? naming.advertise : reached(peer);
  for (const address of addresses) pairs.push({ key: 'TargetAddress', value: `${address},${PORTAL_GROUP}` });
  return pairs;
}

/** Through a Unix socket there is no address to give; an initiator then uses the one that it came by. */
function reached(peer: StreamPeer): string[] {
  if (peer.kind === 'unix') return [];
  const host = peer.localAddress.includes(':') ? `[${peer.localAddress}]` : peer.localAddress;
  return [`${host}:${peer.localPort}`];
}
