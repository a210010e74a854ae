/** Where a server listens: "127.0.0.1:10809", "[::1]:10809", "unix:/run/keepgate/nbd.sock", "systemd:NAME". */
import type { ListenAddress } from '../ports/stream.js';
import { WrongValue, shown } from './problem.js';

export type { ListenAddress } from '../ports/stream.js';

/** Sockets of that name that the service manager hands over (FileDescriptorName=); where they listen, they know. */
export interface SystemdSockets {
  readonly kind: 'systemd';
  readonly name: string;
}

/** sun_path holds 108 bytes with its terminating zero (unix(7)). */
const unixPathBytesMax = 107;

export function parseListenAddress(raw: unknown): ListenAddress {
  if (typeof raw === 'string' && raw.startsWith('unix:')) return parseUnix(raw);
  const match = typeof raw === 'string' ? /^(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(raw) : null;
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    throw new WrongValue(
      `${shown(raw)} is not a listen address; write HOST:PORT such as 127.0.0.1:10809 or [::1]:10809, or unix:/PATH`,
    );
  }
  return { kind: 'tcp', host, port };
}

/** As parseListenAddress, and "systemd:NAME". */
export function parseListenAddressOrSystemd(raw: unknown): ListenAddress | SystemdSockets {
  if (typeof raw !== 'string' || !raw.startsWith('systemd:')) return parseListenAddress(raw);
  const name = raw.slice('systemd:'.length);
  // systemd.socket(5): no control characters, no colon, at most 255.
  if (!/^[\x21-\x39\x3b-\x7e]{1,255}$/.test(name)) {
    throw new WrongValue(`${shown(raw)} names no socket; write systemd: and the FileDescriptorName= of its unit`);
  }
  return { kind: 'systemd', name };
}

function parseUnix(raw: string): ListenAddress {
  const path = raw.slice('unix:'.length);
  if (!path.startsWith('/') || path.endsWith('/')) {
    throw new WrongValue(`${shown(raw)} is not a socket path; write unix: and an absolute path`);
  }
  if (Buffer.byteLength(path) > unixPathBytesMax) {
    throw new WrongValue(`${shown(raw)} is longer than the ${unixPathBytesMax} bytes that a socket path can have`);
  }
  return { kind: 'unix', path };
}

/** True where only this machine can connect. */
export function isLocal(address: ListenAddress): boolean {
  return address.kind === 'unix' || isLoopbackHost(address.host);
}

/** Names and literals of the loopback interface; no name is looked up. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

export function formatListenAddress(address: ListenAddress | SystemdSockets): string {
  if (address.kind === 'systemd') return `systemd:${address.name}`;
  if (address.kind === 'unix') return `unix:${address.path}`;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
