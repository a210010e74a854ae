/**
 * A client of the NBD protocol for tests, written from the protocol's document alone, so that it shares no code with
 * the server that it judges. Fixed newstyle, NBD_OPT_GO, simple replies; any number of requests in flight.
 *
 *   request   0 magic 25609513 | 4 flags | 6 type | 8 cookie | 16 offset | 24 length | 28 payload
 *   reply     0 magic 67446698 | 4 error | 8 cookie | 16 payload of a read
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const optionMagic = 0x49484156454f5054n;
const optionReplyMagic = 0x3e889045565a9n;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const optGo = 7;
const replyAck = 1;
const replyInfo = 3;
const fuaFlag = 1;

const command = { read: 0, write: 1, disconnect: 2, flush: 3, trim: 4, writeZeroes: 6 } as const;

interface Waiting {
  readonly resolve: (data: Buffer) => void;
  readonly reject: (error: Error) => void;
  readonly lengthBytes: number;
}

export class NbdRequestError extends Error {
  constructor(readonly errorNumber: number) {
    super(`the server answered error ${errorNumber}`);
  }
}

export class NbdClient {
  private readonly waiting = new Map<bigint, Waiting>();
  private received: Buffer[] = [];
  private receivedBytes = 0;
  private nextCookie = 1n;
  private closedBy: Error | undefined;
  private wakeReader: (() => void) | undefined;
  sizeBytes = 0;

  private constructor(private readonly socket: Socket) {
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => {
      this.received.push(chunk);
      this.receivedBytes += chunk.length;
      this.wakeReader?.();
    });
    socket.on('error', (error) => this.fail(error));
    socket.on('close', () => this.fail(new Error('the connection was closed')));
  }

  /** `address`: a port on loopback, or the path of a Unix socket. */
  static async connect(address: number | string, exportName: string): Promise<NbdClient> {
    const socket = typeof address === 'number' ? connect(address, '127.0.0.1') : connect(address);
    await once(socket, 'connect');
    const client = new NbdClient(socket);
    await client.negotiate(exportName);
    void client.readReplies();
    return client;
  }

  read(offset: number, lengthBytes: number): Promise<Buffer> {
    return this.request(command.read, 0, offset, lengthBytes, undefined, lengthBytes);
  }
  async write(offset: number, data: Uint8Array, options: { readonly fua?: boolean } = {}): Promise<void> {
    await this.request(command.write, options.fua === true ? fuaFlag : 0, offset, data.length, data, 0);
  }
  async writeZeroes(offset: number, lengthBytes: number): Promise<void> {
    await this.request(command.writeZeroes, 0, offset, lengthBytes, undefined, 0);
  }
  async trim(offset: number, lengthBytes: number): Promise<void> {
    await this.request(command.trim, 0, offset, lengthBytes, undefined, 0);
  }
  async flush(): Promise<void> {
    await this.request(command.flush, 0, 0, 0, undefined, 0);
  }

  /** Says goodbye and closes; what is in flight fails. */
  async close(): Promise<void> {
    if (this.closedBy !== undefined) return;
    this.socket.write(requestHeader(command.disconnect, 0, 0n, 0, 0));
    this.socket.end();
    await once(this.socket, 'close');
  }

  destroy(): void {
    this.socket.destroy();
  }

  private request(
    type: number,
    flags: number,
    offset: number,
    lengthBytes: number,
    payload: Uint8Array | undefined,
    replyBytes: number,
  ): Promise<Buffer> {
    if (this.closedBy !== undefined) return Promise.reject(this.closedBy);
    const cookie = this.nextCookie++;
    this.socket.cork();
    this.socket.write(requestHeader(type, flags, cookie, offset, lengthBytes));
    if (payload !== undefined) this.socket.write(payload);
    this.socket.uncork();
    return new Promise((resolve, reject) => {
      this.waiting.set(cookie, { resolve, reject, lengthBytes: replyBytes });
    });
  }

  private async negotiate(exportName: string): Promise<void> {
    const greeting = await this.take(18);
    if (greeting.toString('latin1', 0, 16) !== 'NBDMAGICIHAVEOPT') throw new Error('this is no NBD server');
    const clientFlags = Buffer.alloc(4);
    clientFlags.writeUInt32BE(3); // Fixed newstyle, no zeroes.
    const name = Buffer.from(exportName);
    const option = Buffer.alloc(16 + 4 + name.length + 2);
    option.writeBigUInt64BE(optionMagic, 0);
    option.writeUInt32BE(optGo, 8);
    option.writeUInt32BE(4 + name.length + 2, 12);
    option.writeUInt32BE(name.length, 16);
    name.copy(option, 20);
    this.socket.write(Buffer.concat([clientFlags, option]));
    for (;;) {
      const header = await this.take(20);
      if (header.readBigUInt64BE(0) !== optionReplyMagic) throw new Error('bad magic of an option reply');
      const type = header.readUInt32BE(12);
      const data = await this.take(header.readUInt32BE(16));
      if (type === replyAck) return;
      if (type !== replyInfo) throw new Error(`NBD_OPT_GO was answered ${type}: ${data.toString()}`);
      if (data.readUInt16BE(0) === 0) this.sizeBytes = Number(data.readBigUInt64BE(2));
    }
  }

  private async readReplies(): Promise<void> {
    try {
      for (;;) {
        const header = await this.take(16);
        if (header.readUInt32BE(0) !== replyMagic) throw new Error('bad magic of a reply');
        const waiting = this.waiting.get(header.readBigUInt64BE(8));
        if (waiting === undefined) throw new Error('a reply to no request');
        this.waiting.delete(header.readBigUInt64BE(8));
        const error = header.readUInt32BE(4);
        if (error !== 0) waiting.reject(new NbdRequestError(error));
        else waiting.resolve(await this.take(waiting.lengthBytes));
      }
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)));
      this.socket.destroy();
    }
  }

  private async take(lengthBytes: number): Promise<Buffer> {
    while (this.receivedBytes < lengthBytes) {
      if (this.closedBy !== undefined) throw this.closedBy;
      await new Promise<void>((resolve) => {
        this.wakeReader = resolve;
      });
    }
    const [only] = this.received;
    const all = this.received.length === 1 && only !== undefined ? only : Buffer.concat(this.received);
    this.received = all.length > lengthBytes ? [all.subarray(lengthBytes)] : [];
    this.receivedBytes = all.length - lengthBytes;
    return all.subarray(0, lengthBytes);
  }

  private fail(error: Error): void {
    this.closedBy ??= error;
    for (const waiting of this.waiting.values()) waiting.reject(this.closedBy);
    this.waiting.clear();
    this.wakeReader?.();
  }
}

function requestHeader(type: number, flags: number, cookie: bigint, offset: number, lengthBytes: number): Buffer {
  const header = Buffer.alloc(28);
  header.writeUInt32BE(requestMagic, 0);
  header.writeUInt16BE(flags, 4);
  header.writeUInt16BE(type, 6);
  header.writeBigUInt64BE(cookie, 8);
  header.writeBigUInt64BE(BigInt(offset), 16);
  header.writeUInt32BE(lengthBytes, 24);
  return header;
}
