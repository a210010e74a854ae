/**
 * TLS for accepted streams: the StreamSecurity port over node:tls. OpenSSL's, by way of Node: no cryptography of its own.
 *
 * One object holds the certificates and pre-shared keys of one reading of their files; who rereads them makes another.
 * A tls.Server that never listens does the handshakes: it is handed sockets, and applies Node's own rules to what peers
 * prove. It keeps no sessions and hands out no tickets, so every handshake proves anew who a peer is.
 *
 * Who a peer is. Asking for the key of a user proves nothing yet: in TLS 1.3 a client may name any user and then go on
 * with a certificate, or without one. So a user counts only where the finished handshake used the key: there TLS 1.3 tells
 * by "resumed" (RFC 8446 section 2.2: a pre-shared key and a resumption are one mechanism, and there are no resumptions
 * here), TLS 1.2 by the cipher suite (RFC 4279). A certificate counts where it was demanded, and verified.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { Server, TlsOptions, TLSSocket } from 'node:tls';
import { assert } from '../base/assert.js';
import { GatewayError } from '../base/errors.js';
import { limits } from '../base/limits.js';
import type { SecuredPeer, Stream, StreamSecurity } from '../ports/stream.js';
import type { PreSharedKeys } from './pre-shared-keys.js';
import { NetStream } from './socket.js';

export interface TlsCredentials {
  readonly certificates:
    | {
        /** PEM. */
        readonly certificate: string;
        readonly key: string;
        /** Who signs clients' certificates; undefined: clients need none. */
        readonly clientAuthority: string | undefined;
        /** Of certificates that were withdrawn (PEM). */
        readonly revocations: string | undefined;
      }
    | undefined;
  readonly preSharedKeys: PreSharedKeys | undefined;
}

type Done = (outcome: SecuredPeer | GatewayError) => void;

/**
 * Forward secrecy and authenticated encryption only. The SHA-256 ones come first because pre-shared keys that have no hash
 * of their own go with SHA-256 (RFC 8446 section 4.2.11), and the server decides.
 */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_CHACHA20_POLY1305_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'ECDHE+AESGCM',
  'ECDHE+CHACHA20',
].join(':');
const preSharedCiphers = [
  ciphers,
  'ECDHE-PSK-CHACHA20-POLY1305',
  'DHE-PSK-AES128-GCM-SHA256',
  'DHE-PSK-AES256-GCM-SHA384',
  'DHE-PSK-CHACHA20-POLY1305',
].join(':');

export class TlsSecurity implements StreamSecurity {
  readonly #server: Server;
  readonly #keys: PreSharedKeys | undefined;
  readonly #demandsCertificate: boolean;
  /** Handshakes under way, by the socket below. */
  readonly #waiting = new WeakMap<Socket, Waiting>();

  /** @throws GatewayError tls-invalid where OpenSSL does not take them */
  constructor({ certificates, preSharedKeys }: TlsCredentials) {
    this.#keys = preSharedKeys;
    this.#demandsCertificate = certificates?.clientAuthority !== undefined;
    const options: TlsOptions = {
      minVersion: 'TLSv1.2',
      ciphers: preSharedKeys === undefined ? ciphers : preSharedCiphers,
      dhparam: 'auto',
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: limits.handshakeMsMax,
      ...(preSharedKeys === undefined ? {} : { pskCallback: (socket, user) => this.#keyOf(socket, user) }),
    };
    if (certificates !== undefined) {
      const { certificate, key, clientAuthority, revocations } = certificates;
      Object.assign(options, { cert: certificate, key });
      if (clientAuthority !== undefined) {
        // Not `rejectUnauthorized`: Node would then close without a word of why. `#secured` refuses.
        Object.assign(options, { ca: clientAuthority, requestCert: true, rejectUnauthorized: false });
        if (revocations !== undefined) Object.assign(options, { crl: revocations });
      }
    }
    try {
      this.#server = createServer(options);
    } catch (cause) {
      throw new GatewayError('tls-invalid', reasonOf(cause), { cause });
    }
    this.#server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket));
    this.#server.on('tlsClientError', (error: Error, socket: TLSSocket) => this.#failed(error, socket));
  }

  secure(stream: Stream, done: Done): void {
    assert(stream instanceof NetStream, 'TLS is laid over sockets');
    stream.takeSocket((socket) => {
      this.#waiting.set(socket, { stream, done, named: undefined });
      // Before the stream hears of it: a client that does not like what it sees closes without a word.
      socket.prependOnceListener('close', () => this.#left(socket));
      // A peer that leaves during the handshake is gone; afterwards it may close its side and still read (`#secured`).
      socket.allowHalfOpen = false;
      // Node documents it for just this: the server treats the socket as one that it accepted.
      this.#server.emit('connection', socket);
    });
  }

  #keyOf(secured: TLSSocket, user: string): Uint8Array | null {
    const key = this.#keys?.get(user);
    const below = socketBelow(secured);
    const waiting = below && this.#waiting.get(below);
    if (waiting !== undefined) waiting.named = { user, known: key !== undefined };
    return key ?? null;
  }

  #secured(socket: TLSSocket): void {
    const waiting = this.#taken(socket);
    if (waiting === undefined) return void socket.destroy();
    const { named } = waiting;
    const byKey = isByKey(socket);
    const proved = byKey ? named?.known === true : socket.authorized;
    if (this.#demandsCertificate && !proved) {
      waiting.stream.destroy();
      return waiting.done(new GatewayError('tls-failed', certificateRefusal(socket)));
    }
    socket.disableRenegotiation();
    socket.allowHalfOpen = true;
    waiting.stream.replaceSocket(socket);
    const user = byKey ? (named?.known === true ? named.user : undefined) : certifiedName(socket);
    waiting.done({ user, cipher: `${socket.getProtocol() ?? 'TLS'} ${socket.getCipher().name}` });
  }

  #failed(error: Error, socket: TLSSocket): void {
    const waiting = this.#taken(socket);
    if (waiting !== undefined) fail(waiting, reasonOf(error), error);
  }

  #left(below: Socket): void {
    const waiting = this.#waiting.get(below);
    this.#waiting.delete(below);
    if (waiting !== undefined) fail(waiting, 'the client left');
  }

  /** The handshake of a socket that the server made; once. */
  #taken(secured: TLSSocket): Waiting | undefined {
    const below = socketBelow(secured);
    const waiting = below && this.#waiting.get(below);
    if (below !== undefined) this.#waiting.delete(below);
    return waiting;
  }
}

interface Waiting {
  readonly stream: NetStream;
  readonly done: Done;
  /** The user whose key the handshake asked for last. */
  named: { readonly user: string; readonly known: boolean } | undefined;
}

/** Node has no public name for it. Where this one fails nobody gets in, and a test says so. */
function socketBelow(secured: TLSSocket): Socket | undefined {
  return (secured as unknown as { readonly _parent?: Socket })._parent;
}

function fail({ stream, done, named }: Waiting, reason: string, cause?: Error): void {
  const known = named?.known === true ? ` (it named the user ${shownUser(named.user)})` : '';
  const why = named?.known === false ? `there is no user ${shownUser(named.user)} in nbd.tlsPsk` : `${reason}${known}`;
  stream.destroy();
  done(new GatewayError('tls-failed', `the TLS handshake failed: ${why}`, { cause }));
}

/** Whether the finished handshake used the key of a user; see the head of this file. */
function isByKey(socket: TLSSocket): boolean {
  return socket.getProtocol() === 'TLSv1.3' ? socket.isSessionReused() : /_PSK_/.test(socket.getCipher().standardName);
}

/** Of a certificate that was demanded and verified. */
function certifiedName(socket: TLSSocket): string | undefined {
  if (!socket.authorized) return undefined;
  const { subject } = socket.getPeerCertificate() as { readonly subject?: { readonly CN?: unknown } };
  // Several common names are an array: such a certificate names nobody in particular.
  return typeof subject?.CN === 'string' ? subject.CN : undefined;
}

function certificateRefusal(socket: TLSSocket): string {
  if (Object.keys(socket.getPeerCertificate()).length === 0)
    return 'the client showed no certificate (nbd.tlsVerifyPeer)';
  return `the client’s certificate was refused: ${String(socket.authorizationError)}`;
}

/** OpenSSL's words, without its address and line numbers. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { reason } = error as { readonly reason?: unknown };
  return typeof reason === 'string' ? reason : error.message;
}

/** Names come from anybody. */
function shownUser(user: string): string {
  return JSON.stringify(user.length > 64 ? `${user.slice(0, 64)}…` : user);
}
