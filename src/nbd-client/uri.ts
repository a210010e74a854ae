/**
 * NBD URIs (NetworkBlockDevice/nbd, doc/uri.md): nbd://HOST[:PORT]/EXPORT and nbd+unix:///EXPORT?socket=PATH; with TLS
 * nbds://[USER@]HOST[:PORT]/EXPORT, and libnbd's parameters for what proves who is who.
 */
import { GatewayError } from '../base/errors.js';
import type { NbdTlsFiles } from '../ports/nbd-device.js';
import type { ListenAddress } from '../ports/stream.js';

export interface NbdTarget {
  readonly address: ListenAddress;
  /** "" is the default export. */
  readonly exportName: string;
  /** undefined: in clear. */
  readonly tls: NbdTlsFiles | undefined;
}

export const NBD_PORT = 10809;
const shape = 'nbd://HOST[:PORT]/VOLUME or nbd+unix:///VOLUME?socket=/PATH';
const tlsShape = 'nbds://HOST[:PORT]/VOLUME?tls-certificates=/DIR or nbds://USER@HOST[:PORT]/VOLUME?tls-psk-file=/FILE';

type Invalid = (reason: string) => GatewayError;

/** @throws GatewayError config-invalid, not-supported */
export function parseNbdUri(text: string): NbdTarget {
  const encrypted = /^nbds[:+]/.test(text);
  const invalid: Invalid = (reason) =>
    new GatewayError(
      'config-invalid',
      `"${text}" is no NBD URI: ${reason}; it looks like ${encrypted ? tlsShape : shape}`,
    );
  if (!URL.canParse(text)) throw invalid('it cannot be read');
  const uri = new URL(text);
  if (uri.protocol === 'nbds+unix:') {
    throw new GatewayError(
      'not-supported',
      'the kernel has TLS over TCP only: write nbd+unix://, which does not leave this machine, or nbds:// with a host',
    );
  }
  const exportName = decoded(uri.pathname.replace(/^\//, ''), invalid);
  if (uri.protocol === 'nbd+unix:') {
    const path = uri.searchParams.get('socket');
    if (uri.host !== '') throw invalid('a Unix socket has no host: three slashes follow nbd+unix:');
    if (path === null || !path.startsWith('/')) throw invalid('?socket= with an absolute path is missing');
    return { address: { kind: 'unix', path }, exportName, tls: undefined };
  }
  if (uri.protocol !== 'nbd:' && uri.protocol !== 'nbds:') throw invalid(`${uri.protocol}// is another protocol`);
  if (uri.hostname === '') throw invalid('the host is missing');
  const host = uri.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = uri.port === '' ? NBD_PORT : Number(uri.port);
  const target = { address: { kind: 'tcp', host, port }, exportName } as const;
  if (uri.protocol === 'nbds:') return { ...target, tls: tlsOf(uri, host, invalid) };
  if (uri.username !== '' || uri.password !== '') throw invalid('without TLS nobody is logged in');
  return { ...target, tls: undefined };
}

function tlsOf(uri: URL, host: string, invalid: Invalid): NbdTlsFiles {
  const directory = uri.searchParams.get('tls-certificates');
  const file = uri.searchParams.get('tls-psk-file');
  const hostname = uri.searchParams.get('tls-hostname') ?? host;
  const user = decoded(uri.username, invalid);
  if (uri.password !== '') throw invalid('keys stand in a file, not here');
  if (directory !== null && file !== null) throw invalid('there is one proof, certificates or a pre-shared key');
  if (directory !== null) {
    if (!directory.startsWith('/')) throw invalid('?tls-certificates= is no absolute path');
    if (user !== '') throw invalid('a certificate says who its client is: the user goes with ?tls-psk-file=');
    return { proof: { kind: 'certificates', directory }, hostname };
  }
  if (file === null) throw invalid('?tls-certificates= or ?tls-psk-file= is missing');
  if (!file.startsWith('/')) throw invalid('?tls-psk-file= is no absolute path');
  if (user === '') throw invalid('whose key it is is missing');
  return { proof: { kind: 'pre-shared key', file, user }, hostname };
}

/** The URI of a volume at the address that a gateway listens on. */
export function formatNbdUri(address: ListenAddress, volume: string): string {
  if (address.kind === 'unix') return `nbd+unix:///${volume}?socket=${address.path}`;
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `nbd://${host}${address.port === NBD_PORT ? '' : `:${address.port}`}/${volume}`;
}

function decoded(text: string, invalid: Invalid): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('a % is not followed by two hexadecimal digits');
  }
}
