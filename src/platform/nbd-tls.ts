/**
 * TLS over a connection to an NBD server that the kernel is to have: what the client proves and demands, the handshake, and
 * how the connection leaves Node again (kernel-tls.ts). The names of files are those of libnbd.
 */
import { isIP } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { GatewayError } from '../base/errors.js';
import { KIB } from '../base/units.js';
import type { NbdTlsFiles } from '../ports/nbd-device.js';
import { directionBytes, KERNEL_CIPHER, RecordTrail, TrafficSecrets } from './kernel-tls.js';
import { parsePreSharedKeys } from './pre-shared-keys.js';
import { readSecretFile } from './secret-file.js';
import { readTextFile } from './text-file.js';

const SECRET_BYTES_MAX = 256 * KIB;

export interface NbdTlsCredentials {
  readonly options: ConnectionOptions;
  /** The handshake must use the pre-shared key, or anybody could be the server. */
  readonly byKey: boolean;
}

/** @throws GatewayError key-missing, key-permissions, key-invalid or tls-invalid, naming the file */
export async function readNbdTls({ proof, hostname }: NbdTlsFiles): Promise<NbdTlsCredentials> {
  if (proof.kind === 'pre-shared key') {
    const { file, user } = proof;
    const keys = parsePreSharedKeys(await readSecretFile(file, 'list of keys', SECRET_BYTES_MAX), file);
    const key = keys.get(user);
    if (key === undefined) throw new GatewayError('tls-invalid', `${file}: there is no key of ${user} in it`);
    const identity = { psk: key, identity: user };
    return { byKey: true, options: { pskCallback: () => identity, checkServerIdentity: () => undefined } };
  }
  const at = (file: string): string => join(proof.directory, file);
  const ca = await readTextFile(at('ca-cert.pem'));
  if (ca === undefined)
    throw new GatewayError('tls-invalid', `${at('ca-cert.pem')}: there is no certificate of who signs the gateway's`);
  const cert = await readTextFile(at('client-cert.pem'));
  const own =
    cert === undefined
      ? {}
      : { cert, key: await readSecretFile(at('client-key.pem'), 'private key', SECRET_BYTES_MAX) };
  const name = isIP(hostname) === 0 ? { servername: hostname } : {};
  return { byKey: false, options: { host: hostname, ...name, ca, ...own } };
}

/** The connection below TLS, whose records are counted as they go by. */
class CountedWire extends Duplex {
  readonly received = new RecordTrail();
  readonly sent = new RecordTrail();
  /** Nothing is sent any more: the kernel has the connection. */
  released = false;
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super({ allowHalfOpen: false });
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.received.note(chunk);
      if (!this.push(chunk)) socket.pause();
    });
    socket.once('end', () => this.push(null));
    socket.once('close', () => this.destroy());
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    if (this.released) return done();
    this.sent.note(chunk);
    this.#socket.write(chunk, () => done());
  }

  override _final(done: () => void): void {
    done();
  }
}

/** TLS over a socket, until the kernel has it. */
export class NbdTls {
  readonly socket: TLSSocket;
  readonly #wire: CountedWire;
  readonly #secrets: TrafficSecrets;

  private constructor(socket: TLSSocket, wire: CountedWire, secrets: TrafficSecrets) {
    this.socket = socket;
    this.#wire = wire;
    this.#secrets = secrets;
  }

  /** Resolves after the handshake. Rejects with tls-failed; the socket is of no use then. */
  static async over(below: Socket, { options, byKey }: NbdTlsCredentials): Promise<NbdTls> {
    const wire = new CountedWire(below);
    const secrets = new TrafficSecrets();
    const socket = connect({ ...options, socket: wire, minVersion: 'TLSv1.3', ciphers: KERNEL_CIPHER });
    socket.on('keylog', secrets.note);
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'ECONNRESET' ? left() : failed(error.message, error)),
      );
      socket.once('close', () => reject(left()));
    });
    // In TLS 1.3 that is how a pre-shared key shows: there is no earlier session.
    if (byKey && !socket.isSessionReused()) throw failed('the gateway did not use the pre-shared key');
    return new NbdTls(socket, wire, secrets);
  }

  /** What the kernel goes on with; from here on nothing is sent. Only while nothing more was received than was read. */
  release(): { readonly transmit: Uint8Array; readonly receive: Uint8Array } {
    const { received, sent } = this.#wire;
    const keys = this.#secrets.keys();
    const transmitted = keys && sent.countOf(keys.client);
    const delivered = keys && received.countOf(keys.server);
    if (this.socket.readableLength > 0 || this.#wire.readableLength > 0 || !received.isWhole)
      throw new GatewayError('gateway-unreachable', 'the server sent more than the negotiation');
    if (keys === undefined || transmitted === undefined || delivered === undefined || !sent.isWhole)
      throw failed('its records cannot be counted');
    this.#wire.released = true;
    return { transmit: directionBytes(keys.client, transmitted), receive: directionBytes(keys.server, delivered) };
  }
}

function left(): GatewayError {
  return new GatewayError('gateway-unreachable', 'the gateway closed the connection during the TLS handshake');
}

function failed(reason: string, cause?: Error): GatewayError {
  return new GatewayError('tls-failed', `the TLS handshake with the gateway failed: ${reason}`, { cause });
}
