/**
 * A TLS connection that the kernel carries on with (kTLS): the handshake is Node's, and then the kernel gets the keys of both
 * directions, and the number of the next record in each. It goes by TLS 1.3 with ChaCha20-Poly1305 alone: there no number of
 * records wears a key out (RFC 8446 section 5.5), and so nothing has to be agreed on again, which the kernel could not do.
 *
 * Node tells the secrets ("keylog"), and no numbers. So the records are counted on their way, below TLS. Those of the handshake
 * look like all others, but have other keys: the first that opens with the key and number 0 is where counting begins.
 */
import { createDecipheriv, createHmac } from 'node:crypto';
import { constants } from 'node:os';
import { GatewayError } from '../base/errors.js';
import { loadAddon } from './addon.js';

export const KERNEL_CIPHER = 'TLS_CHACHA20_POLY1305_SHA256';

const HEADER_BYTES = 5;
const TAG_BYTES = 16;
const KEY_BYTES = 32;
const IV_BYTES = 12;
const ENCRYPTED = 23;
/** Records that are kept until it is known which one is the first: a handshake has a few. */
const KEPT_MAX = 16;

export interface DirectionKeys {
  readonly key: Buffer;
  readonly iv: Buffer;
}

/** The records that went by in one direction, since the connection's first byte of TLS. */
export class RecordTrail {
  #encrypted = 0;
  readonly #first: Buffer[] = [];
  #rest: Buffer = Buffer.alloc(0);

  note(chunk: Uint8Array): void {
    let rest = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    while (rest.length >= HEADER_BYTES && rest.length >= HEADER_BYTES + rest.readUInt16BE(3)) {
      const record = rest.subarray(0, HEADER_BYTES + rest.readUInt16BE(3));
      if (record[0] === ENCRYPTED) {
        this.#encrypted++;
        if (this.#first.length < KEPT_MAX) this.#first.push(record);
      }
      rest = rest.subarray(record.length);
    }
    this.#rest = rest;
  }

  /** Nothing of a further record went by. */
  get isWhole(): boolean {
    return this.#rest.length === 0;
  }

  /** How many went by with these keys; undefined: none that is known. */
  countOf(keys: DirectionKeys): number | undefined {
    const first = this.#first.findIndex((record) => opens(record, keys));
    return first < 0 ? undefined : this.#encrypted - first;
  }
}

/** As the first record of its keys. */
function opens(record: Buffer, { key, iv }: DirectionKeys): boolean {
  if (record.length < HEADER_BYTES + TAG_BYTES) return false;
  const body = record.subarray(HEADER_BYTES, record.length - TAG_BYTES);
  const decipher = createDecipheriv('chacha20-poly1305', key, iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(record.subarray(0, HEADER_BYTES), { plaintextLength: body.length });
  decipher.setAuthTag(record.subarray(record.length - TAG_BYTES));
  try {
    decipher.update(body);
    decipher.final();
    return true;
  } catch {
    return false;
  }
}

/** Of a traffic secret (RFC 8446 section 7.3), with SHA-256. */
export function directionKeys(secret: Buffer): DirectionKeys {
  return { key: expandLabel(secret, 'key', KEY_BYTES), iv: expandLabel(secret, 'iv', IV_BYTES) };
}

/** HKDF-Expand-Label (section 7.1) without a context, up to one block of the hash. */
function expandLabel(secret: Buffer, label: string, lengthBytes: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.of(0, lengthBytes, name.length), name, Buffer.of(0, 1)]);
  return createHmac('sha256', secret).update(info).digest().subarray(0, lengthBytes);
}

/** What Node tells of a handshake's secrets. */
export class TrafficSecrets {
  #client: Buffer | undefined;
  #server: Buffer | undefined;

  /** A line in the format of NSS: LABEL CLIENT_RANDOM SECRET. */
  readonly note = (line: Buffer): void => {
    const [label, , secret = ''] = line.toString('latin1').trim().split(' ');
    if (label === 'CLIENT_TRAFFIC_SECRET_0') this.#client = Buffer.from(secret, 'hex');
    else if (label === 'SERVER_TRAFFIC_SECRET_0') this.#server = Buffer.from(secret, 'hex');
  };

  /** undefined: the handshake is not over, or is not TLS 1.3. */
  keys(): { readonly client: DirectionKeys; readonly server: DirectionKeys } | undefined {
    if (this.#client === undefined || this.#server === undefined) return undefined;
    return { client: directionKeys(this.#client), server: directionKeys(this.#server) };
  }
}

/** Key, IV and the number of the next record, as the addon takes them. */
export function directionBytes({ key, iv }: DirectionKeys, next: number): Uint8Array {
  const number = Buffer.alloc(8);
  number.writeBigUInt64BE(BigInt(next));
  return Buffer.concat([key, iv, number]);
}

/** The kernel does it from here on. @throws GatewayError not-supported where it has no TLS */
export function installKernelTls(fd: number, transmit: Uint8Array, receive: Uint8Array): void {
  const addon = loadAddon();
  const result = addon.installKernelTls(fd, transmit, receive);
  if (result >= 0) return;
  if (result === -constants.errno.ENOENT)
    throw new GatewayError('not-supported', 'this kernel has no TLS for nbds://: load it with `modprobe tls`');
  if (result === -constants.errno.ENOPROTOOPT)
    throw new GatewayError(
      'not-supported',
      'this kernel lacks ChaCha20-Poly1305: load it with `modprobe chacha20poly1305`',
    );
  throw new GatewayError('gateway-unreachable', `the kernel did not take over TLS: ${addon.errorText(-result)}`);
}
