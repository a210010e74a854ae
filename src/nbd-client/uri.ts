/**
 * NBD URIs (NetworkBlockDevice/nbd, doc/uri.md): nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH. Those
 * with TLS are refused: the kernel speaks NBD itself once it has the socket, and it has no TLS.
 */
import { GatewayError } from '../base/errors.js';
import type { ListenAddress } from '../ports/stream.js';

export interface NbdTarget {
  readonly address: ListenAddress;
  /** "" is the default export. */
  readonly exportName: string;
}

export const NBD_PORT = 10809;
const shape = 'nbd://HOST[:PORT]/VOLUME or nbd+unix:///VOLUME?socket=/PATH';

/** @throws GatewayError config-invalid, not-supported */
export function parseNbdUri(text: string): NbdTarget {
  const invalid = (reason: string): GatewayError =>
    new GatewayError('config-invalid', `"${text}" is no NBD URI: ${reason}; it looks like ${shape}`);
  if (!URL.canParse(text)) throw invalid('it cannot be read');
  const uri = new URL(text);
  if (uri.protocol === 'nbds:' || uri.protocol === 'nbds+unix:') {
    throw new GatewayError(
      'not-supported',
      `the kernel's NBD client has no TLS, so ${uri.protocol}// cannot be attached; lead nbd:// through a tunnel (WireGuard, SSH), or use QEMU or libnbd`,
    );
  }
  const exportName = decoded(uri.pathname.replace(/^\//, ''), invalid);
  if (uri.protocol === 'nbd+unix:') {
    const path = uri.searchParams.get('socket');
    if (uri.host !== '') throw invalid('a Unix socket has no host: three slashes follow nbd+unix:');
    if (path === null || !path.startsWith('/')) throw invalid('?socket= with an absolute path is missing');
    return { address: { kind: 'unix', path }, exportName };
  }
  if (uri.protocol !== 'nbd:') throw invalid(`${uri.protocol}// is another protocol`);
  if (uri.username !== '' || uri.password !== '') throw invalid('without TLS nobody is logged in');
  if (uri.hostname === '') throw invalid('the host is missing');
  const port = uri.port === '' ? NBD_PORT : Number(uri.port);
  return { address: { kind: 'tcp', host: uri.hostname.replace(/^\[(.*)\]$/, '$1'), port }, exportName };
}

/** The URI of a volume at the address that a gateway listens on. */
export function formatNbdUri(address: ListenAddress, volume: string): string {
  if (address.kind === 'unix') return `nbd+unix:///${volume}?socket=${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}${address.port === NBD_PORT ? '' : `:${address.port}`}/${volume}`;
}

function decoded(text: string, invalid: (reason: string) => GatewayError): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('a % is not followed by two hexadecimal digits');
  }
}
