/**
 * Listening on TCP and Unix sockets, and on those that the service manager hands over: the StreamFactory port over
 * node:net.
 *
 * A Unix socket is made with mode 0600, and gets its owner and then its mode from there: nobody connects who may not. A path that is left over from a process that died is replaced, one on which
 * somebody still listens, or that is not a socket, is refused.
 */
import { existsSync } from 'node:fs';
import { chmod, chown, lstat, unlink } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { dirname } from 'node:path';
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { Log } from '../ports/log.js';
import type {
  InheritedSocket,
  ListenAddress,
  Listener,
  ListenOptions,
  StreamFactory,
  StreamPeer,
} from '../ports/stream.js';
import { findOwner } from './account.js';
import { loadAddon } from './addon.js';
import { BusyPoll } from './busy-poll.js';
import { unixPathOf } from './inherited-sockets.js';
import { descriptorOf } from './socket-descriptor.js';
import { NetStream } from './socket.js';

const BACKLOG = 511;
const OWNER_ONLY_UMASK = 0o177;

export class NetStreamFactory implements StreamFactory {
  readonly #log: Log;
  /** Shared by all streams, see socket.ts. */
  readonly #poll = new BusyPoll(() => performance.now() * 1000);
  readonly #receiveBuffer = Buffer.allocUnsafeSlow(limits.receiveBufferBytes);

  constructor(options: { readonly log: Log }) {
    this.#log = options.log;
  }

  async listen(options: ListenOptions): Promise<Listener> {
    const { address } = options;
    if (address.kind === 'unix') await removeStaleSocket(address.path, options.setting);
    let where: ListenAddress | undefined = undefined;
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (accepted) => {
      this.#accept(accepted, options, where);
    });
    await bind(server, options);
    const bound = boundAddress(server, address);
    where = bound;
    try {
      options.check?.(bound);
      if (address.kind === 'unix') await openUnixSocket(address, options.setting);
    } catch (error) {
      server.close();
      throw error;
    }
    server.on('error', (error) =>
      this.#log.error('a listener failed', { setting: options.setting, error: error.message }),
    );
    return {
      address: bound,
      close: () =>
        new Promise((resolve) => {
          // Node calls back when the last connection is gone; these belong to their streams, so wait for the path only.
          server.close();
          server.unref();
          setImmediate(resolve);
        }),
    };
  }

  #accept(accepted: Socket, options: ListenOptions, where: ListenAddress | undefined): void {
    const peer = where === undefined ? undefined : peerOf(accepted, where);
    if (peer === undefined) {
      // The peer went away between its connect and our accept.
      accepted.destroy();
      return;
    }
    const stream = new NetStream(accepted, peer, this.#receiveBuffer, this.#poll);
    const handler = options.accept(stream);
    if (handler === undefined) stream.destroy();
    else stream.start(handler);
  }
}

function peerOf(socket: Socket, listening: ListenAddress): StreamPeer | undefined {
  if (listening.kind === 'unix') return { kind: 'unix', path: listening.path, userId: userOf(socket) };
  const { remoteAddress, remotePort, localAddress, localPort } = socket;
  if (
    remoteAddress === undefined ||
    remotePort === undefined ||
    localAddress === undefined ||
    localPort === undefined
  ) {
    return undefined;
  }
  return {
    kind: 'tcp',
    address: withoutMapping(remoteAddress),
    port: remotePort,
    localAddress: withoutMapping(localAddress),
    localPort,
  };
}

function userOf(socket: Socket): number | undefined {
  const fd = descriptorOf(socket);
  const userId = fd === undefined ? -1 : loadAddon().peerUserId(fd);
  return userId < 0 ? undefined : userId;
}

/** An IPv4 peer of a socket that listens on [::] shows as ::ffff:192.0.2.7: it is the same client either way. */
function withoutMapping(address: string): string {
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice('::ffff:'.length) : address;
}

function boundAddress(server: Server, asked: ListenOptions['address']): ListenAddress {
  if (asked.kind === 'unix') return asked;
  const bound = server.address();
  if (bound !== null && typeof bound !== 'string') {
    return { kind: 'tcp', host: asked.kind === 'tcp' ? asked.host : bound.address, port: bound.port };
  }
  assert(asked.kind === 'inherited', 'a TCP socket that listens has an address');
  return { kind: 'unix', path: unixPathOf(asked.fd) };
}

/** Lets in whom mode and owner name; until now it is the gateway's own. */
async function openUnixSocket(
  { path, mode, owner }: Extract<ListenAddress, { kind: 'unix' }>,
  setting: string,
): Promise<void> {
  try {
    if (owner !== undefined) {
      const { userId, groupId } = await findOwner(owner, setting);
      await chown(path, userId, groupId);
    }
    if (mode !== undefined) await chmod(path, mode);
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    const message = `${path} cannot be given to ${owner ?? 'others'} (${setting}): this user may not (${code})`;
    throw new GatewayError('listen-refused', message, { cause });
  }
}

function bind(server: Server, options: ListenOptions): Promise<void> {
  const { address } = options;
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => reject(listenRefused(options, error));
    server.once('error', onError);
    const onListening = (): void => {
      server.removeListener('error', onError);
      resolve();
    };
    if (address.kind === 'inherited') {
      listenOnInherited(server, address, onListening, onError);
      return;
    }
    if (address.kind === 'tcp') {
      server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, onListening);
      return;
    }
    // Node binds a path before `listen` returns, so that the socket never exists with wider rights.
    const umask = process.umask(OWNER_ONLY_UMASK);
    try {
      server.listen({ path: address.path, backlog: BACKLOG }, onListening);
    } finally {
      process.umask(umask);
    }
  });
}

function listenOnInherited(
  server: Server,
  { fd }: InheritedSocket,
  onListening: () => void,
  onError: (error: Error) => void,
): void {
  try {
    server.listen({ fd }, onListening);
  } catch (error) {
    // Node's answer to a descriptor that is no stream socket.
    onError(error as Error);
  }
}

/** Makes way for a listener on a path; refuses where somebody listens there, or where it is no socket. */
export async function removeStaleSocket(path: string, setting: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) {
    // libuv reports a missing directory as EACCES, which would send the user looking in the wrong place.
    if (existsSync(dirname(path))) return;
    throw new GatewayError('listen-refused', `the directory of ${path} does not exist (${setting})`);
  }
  if (!found.isSocket()) {
    throw new GatewayError(
      'listen-refused',
      `${path} exists and is not a socket (${setting}); nothing was overwritten`,
    );
  }
  if (await isListening(path)) {
    throw new GatewayError('listen-refused', `another process listens on ${path} (${setting})`);
  }
  await unlink(path).catch((cause: unknown) => {
    throw new GatewayError('listen-refused', `the stale socket ${path} cannot be removed (${setting})`, { cause });
  });
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'));
  });
}

/** What to say for what the system answered (bind(2), listen(2), getaddrinfo(3)). */
const tcpRefusals: Readonly<Record<string, (host: string, port: number) => string>> = {
  EADDRINUSE: (host, port) => `port ${port} on ${host} is in use`,
  EACCES: (host, port) => `this user may not open port ${port} on ${host}`,
  EADDRNOTAVAIL: (host) => `${host} is not an address of this machine`,
  ENOTFOUND: (host) => `the host name ${host} is not known`,
  EAI_AGAIN: (host) => `the host name ${host} could not be looked up`,
};
const unixRefusals: Readonly<Record<string, (path: string) => string>> = {
  EACCES: (path) => `this user may not create ${path}`,
  EADDRINUSE: (path) => `${path} was taken by another process`,
};

export function listenRefused(
  options: Pick<ListenOptions, 'address' | 'setting'>,
  cause: NodeJS.ErrnoException,
): GatewayError {
  const { address, setting } = options;
  const code = cause.code ?? '';
  if (address.kind === 'inherited') {
    const message = `what systemd handed over as ${address.name} is no socket to listen on (${setting}): ${cause.message}; write Accept=no and ListenStream=`;
    return new GatewayError('listen-refused', message, { cause });
  }
  const known =
    address.kind === 'tcp' ? tcpRefusals[code]?.(address.host, address.port) : unixRefusals[code]?.(address.path);
  return new GatewayError('listen-refused', `${known ?? `cannot listen: ${cause.message}`} (${setting})`, { cause });
}
