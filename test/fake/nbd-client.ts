/**
 * A small NBD client for tests, written from proto.md and sharing no code with the server: bytes of requests, a parser
 * of replies, and a client over a real socket.
 */
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { ConnectionOptions, TLSSocket } from 'node:tls';
import { assert } from '../../src/base/assert.js';

export const OPT = {
  EXPORT_NAME: 1,
  ABORT: 2,
  LIST: 3,
  STARTTLS: 5,
  INFO: 6,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const;
export const CMD = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  TRIM: 4,
  CACHE: 5,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const;
export const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16, PAYLOAD_LEN: 32 } as const;
export const E = { PERM: 1, IO: 5, INVAL: 22, NOSPC: 28, OVERFLOW: 75, NOTSUP: 95 } as const;

/** "IHAVEOPT" */
const OPTION_MAGIC = 0x49484156454f5054n;

export function clientFlags(flags: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(flags);
  return bytes;
}

export function optionBytes(option: number, data: Uint8Array = Buffer.alloc(0), lengthBytes = data.length): Buffer {
  const head = Buffer.alloc(16);
  head.writeBigUInt64BE(OPTION_MAGIC, 0);
  head.writeUInt32BE(option, 8);
  head.writeUInt32BE(lengthBytes, 12);
  return Buffer.concat([head, data]);
}

/** Data of INFO and GO. */
export function infoData(name: string, types: readonly number[] = []): Buffer {
  const nameBytes = Buffer.from(name);
  const bytes = Buffer.alloc(6 + nameBytes.length + 2 * types.length);
  bytes.writeUInt32BE(nameBytes.length, 0);
  nameBytes.copy(bytes, 4);
  bytes.writeUInt16BE(types.length, 4 + nameBytes.length);
  types.forEach((type, index) => bytes.writeUInt16BE(type, 6 + nameBytes.length + 2 * index));
  return bytes;
}

export interface RequestFields {
  readonly type: number;
  readonly flags?: number;
  readonly cookie?: bigint;
  readonly offset?: bigint | number;
  readonly length?: number;
  readonly payload?: Uint8Array;
}

export function requestBytes(fields: RequestFields): Buffer {
  const head = Buffer.alloc(28);
  head.writeUInt32BE(0x25609513, 0);
  head.writeUInt16BE(fields.flags ?? 0, 4);
  head.writeUInt16BE(fields.type, 6);
  head.writeBigUInt64BE(fields.cookie ?? 0n, 8);
  head.writeBigUInt64BE(BigInt(fields.offset ?? 0), 16);
  head.writeUInt32BE(fields.length ?? fields.payload?.length ?? 0, 24);
  return Buffer.concat([head, fields.payload ?? Buffer.alloc(0)]);
}

export interface OptionReply {
  readonly option: number;
  readonly type: number;
  readonly data: Buffer;
}

/** All option replies that `bytes` begins with, and what follows them. */
export function parseOptionReplies(bytes: Uint8Array): { replies: OptionReply[]; rest: Buffer } {
  let rest = Buffer.from(bytes);
  const replies: OptionReply[] = [];
  while (rest.length >= 20 && rest.readBigUInt64BE(0) === 0x3e889045565a9n) {
    const length = rest.readUInt32BE(16);
    if (rest.length < 20 + length) break;
    replies.push({ option: rest.readUInt32BE(8), type: rest.readUInt32BE(12), data: rest.subarray(20, 20 + length) });
    rest = rest.subarray(20 + length);
  }
  return { replies, rest };
}

export interface SimpleReply {
  readonly error: number;
  readonly cookie: bigint;
  readonly data: Buffer;
}

/** Parses simple replies; `lengthOf` says how much data a successful reply to this cookie has. */
export function parseReplies(
  bytes: Uint8Array,
  lengthOf: (cookie: bigint) => number,
): { replies: SimpleReply[]; rest: Buffer } {
  let rest = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const replies: SimpleReply[] = [];
  while (rest.length >= 16) {
    assert(rest.readUInt32BE(0) === 0x67446698, 'a simple reply begins with its magic');
    const error = rest.readUInt32BE(4);
    const cookie = rest.readBigUInt64BE(8);
    const length = error === 0 ? lengthOf(cookie) : 0;
    if (rest.length < 16 + length) break;
    replies.push({ error, cookie, data: Buffer.from(rest.subarray(16, 16 + length)) });
    rest = rest.subarray(16 + length);
  }
  return { replies, rest: Buffer.from(rest) };
}

export type Address =
  { readonly host: string; readonly port: number; readonly localAddress?: string } | { readonly path: string };

/** A connection over a real socket. Requests may be in flight together; each promise is settled by its reply. */
export class NbdClient {
  readonly closed: Promise<void>;
  #onClosed: () => void = () => undefined;
  sizeBytes = 0;
  transmissionFlags = 0;
  #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  #chunkBytes = 0;
  #wanted:
    | { readonly count: number; readonly resolve: (bytes: Buffer) => void; readonly reject: (e: Error) => void }
    | undefined;
  #nextCookie = 1n;
  #inTransmission = false;
  readonly #requests = new Map<
    bigint,
    { readonly length: number; readonly resolve: (reply: SimpleReply) => void; readonly reject: (error: Error) => void }
  >();

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.#use(socket);
    this.closed = new Promise((resolve) => (this.#onClosed = resolve));
  }

  #use(socket: Socket): void {
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#chunkBytes += chunk.length;
      this.#progress();
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      const error = new Error('the server closed the connection');
      this.#wanted?.reject(error);
      for (const request of this.#requests.values()) request.reject(error);
      this.#requests.clear();
      this.#onClosed();
    });
  }

  /** Connected, greeting read, flags not sent. */
  static async open(address: Address): Promise<NbdClient> {
    const socket = connect(address);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    const client = new NbdClient(socket);
    const greeting = await client.#read(18);
    assert(greeting.toString('latin1', 0, 16) === 'NBDMAGICIHAVEOPT', 'the server greets as a newstyle server');
    return client;
  }

  /** Open, and attached to a volume by GO. */
  static async attach(address: Address, name: string): Promise<NbdClient> {
    const client = await NbdClient.open(address);
    client.send(clientFlags(3));
    await client.go(name);
    return client;
  }

  /** STARTTLS, and the handshake; rejects where either is refused. Flags were sent before. */
  async startTls(options: ConnectionOptions): Promise<TLSSocket> {
    this.send(optionBytes(OPT.STARTTLS));
    const head = await this.#read(20);
    const data = await this.#read(head.readUInt32BE(16));
    if (head.readUInt32BE(12) !== 1) throw new Error(data.toString());
    const below = this.#socket;
    below.removeAllListeners('data');
    const socket = connectTls({ ...options, socket: below });
    this.#socket = socket;
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
      socket.once('close', () => reject(new Error('the server closed the connection')));
    });
    this.#use(socket);
    return socket;
  }

  send(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Rejects with the server's message where GO is refused; the handshake then goes on. */
  async go(name: string): Promise<void> {
    this.send(optionBytes(OPT.GO, infoData(name)));
    for (;;) {
      const head = await this.#read(20);
      const type = head.readUInt32BE(12);
      const data = await this.#read(head.readUInt32BE(16));
      if (type >= 0x80000000) throw new Error(data.toString());
      if (type === 1) break;
      if (type === 3 && data.readUInt16BE(0) === 0) {
        this.sizeBytes = Number(data.readBigUInt64BE(2));
        this.transmissionFlags = data.readUInt16BE(10);
      }
    }
    this.#inTransmission = true;
  }

  request(fields: Omit<RequestFields, 'cookie'>): Promise<SimpleReply> {
    const cookie = this.#nextCookie++;
    const length = fields.type === CMD.READ ? (fields.length ?? 0) : 0;
    return new Promise((resolve, reject) => {
      this.#requests.set(cookie, { length, resolve, reject });
      this.send(requestBytes({ ...fields, cookie }));
    });
  }

  /** Sends DISC and waits until the server has closed. */
  async disconnect(): Promise<void> {
    this.send(requestBytes({ type: CMD.DISC }));
    await this.closed;
  }

  /** Closes at once, unread replies and all. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Of the socket, as a child process may get it. */
  get descriptor(): number {
    const { _handle: handle } = this.#socket as unknown as { readonly _handle: { readonly fd: number } };
    return handle.fd;
  }

  /** Stops reading replies; `resume` goes on. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  #read(count: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#wanted = { count, resolve, reject };
      this.#progress();
    });
  }

  #progress(): void {
    if (this.#wanted !== undefined) {
      this.#gather();
      const { count, resolve } = this.#wanted;
      if (this.#bytes.length < count) return;
      this.#wanted = undefined;
      const bytes = this.#bytes.subarray(0, count);
      this.#bytes = this.#bytes.subarray(count);
      resolve(bytes);
      return;
    }
    // Joining on every chunk of a 32 MiB reply would be quadratic: wait until the first reply can be whole.
    if (!this.#inTransmission || this.#bytes.length + this.#chunkBytes < this.#neededBytes()) return;
    this.#gather();
    const { replies, rest } = parseReplies(this.#bytes, (cookie) => this.#requests.get(cookie)?.length ?? 0);
    this.#bytes = rest;
    for (const reply of replies) {
      this.#requests.get(reply.cookie)?.resolve(reply);
      this.#requests.delete(reply.cookie);
    }
  }

  #neededBytes(): number {
    if (this.#bytes.length < 16) return 16;
    const error = this.#bytes.readUInt32BE(4);
    return 16 + (error === 0 ? (this.#requests.get(this.#bytes.readBigUInt64BE(8))?.length ?? 0) : 0);
  }

  #gather(): void {
    if (this.#chunks.length === 0) return;
    this.#bytes = Buffer.concat([this.#bytes, ...this.#chunks]);
    this.#chunks = [];
    this.#chunkBytes = 0;
  }
}

/** Uses an export of a gateway on this machine, and detaches. */
export async function withNbdDisk<Result>(
  port: number,
  volume: string,
  use: (client: NbdClient) => Promise<Result>,
): Promise<Result> {
  const client = await NbdClient.attach({ host: '127.0.0.1', port }, volume);
  const result = await use(client);
  await client.disconnect();
  return result;
}
