/**
 * Which volumes a connection may see and use: those without a list of users, and those on whose list stands the user
 * that TLS proved it to be. "TLS support" of proto.md: a volume with a list is a TLS-only export.
 */
import { GatewayError } from '../../base/errors.js';
import type { SecuredPeer } from '../../ports/stream.js';
import type { ServedVolume } from '../../ports/volume-directory.js';

/** "NOTLS", "SELECTIVETLS", "FORCEDTLS" of proto.md. One connection keeps the mode that it began with. */
export type TlsMode = 'off' | 'on' | 'required';

/** Why a client may not use the volume; undefined: it may. `secured`: who it is; undefined in clear. */
export function refusalOf(volume: ServedVolume, secured: SecuredPeer | undefined): GatewayError | undefined {
  const { users = [] } = volume.nbd;
  const { name } = volume.device;
  if (users.length === 0) return undefined;
  if (secured === undefined)
    return new GatewayError('tls-required', `volume ${name} is for certain users, over TLS only`);
  const { user } = secured;
  if (user !== undefined && users.includes(user)) return undefined;
  const who = user === undefined ? 'a client that TLS does not name' : `user ${JSON.stringify(user)}`;
  return new GatewayError('access-denied', `${who} may not use volume ${name} (nbd.users)`);
}
