/**
 * Serves a VolatileDisk to QEMU over NBD, which then is the guest's disk: the guest's writes become NBD writes, its cache
 * flushes NBD_CMD_FLUSH, and nothing else is offered. Written from the protocol's document, apart from the gateway's
 * own server. Requests are served one after another, each in one go.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { VolatileDisk } from './volatile-disk.js';

const optionMagic = 0x49484156454f5054n;
const optionReplyMagic = 0x3e889045565a9n;
const requestMagic = 0x25609513;
const replyMagic = 0x67446698;
const option = { abort: 2, go: 7 } as const;
const optionReply = { ack: 1, info: 3, unsupported: 0x8000_0001 } as const;
const command = { read: 0, write: 1, disconnect: 2, flush: 3 } as const;
/** NBD_FLAG_HAS_FLAGS and NBD_FLAG_SEND_FLUSH. */
const transmissionFlags = 0b101;
const errorInvalid = 22;

export class NbdDiskServer {
  private readonly sockets = new Set<Socket>();
  private off = false;
  private writesUntilCut = Infinity;
  private onCut: () => void = () => undefined;

  private constructor(
    private readonly server: Server,
    private readonly disk: VolatileDisk,
  ) {
    server.on('connection', (socket) => {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined); // QEMU is killed in the middle of requests.
      socket.on('close', () => this.sockets.delete(socket));
      void this.serve(socket).catch(() => socket.destroy());
    });
  }

  static async start(disk: VolatileDisk): Promise<NbdDiskServer> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new NbdDiskServer(server, disk);
  }

  get url(): string {
    return `nbd://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** Calls back at the instant at which the disk has taken that many further writes; it takes no more. */
  cutAfterWrites(count: number, onCut: () => void): void {
    this.writesUntilCut = count;
    this.onCut = onCut;
  }

  /** From this instant on nothing reaches the disk. */
  cut(): void {
    this.off = true;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Another machine may be attached. */
  restore(): void {
    this.off = false;
    this.writesUntilCut = Infinity;
  }

  async close(): Promise<void> {
    this.cut();
    await once(this.server.close(), 'close');
  }

  private async serve(socket: Socket): Promise<void> {
    const take = reader(socket);
    await this.negotiate(socket, take);
    for (;;) {
      const header = await take(28);
      if (header.readUInt32BE(0) !== requestMagic) throw new Error('bad magic of a request');
      const type = header.readUInt16BE(6);
      const offset = Number(header.readBigUInt64BE(16));
      const lengthBytes = header.readUInt32BE(24);
      if (type === command.disconnect) break;
      const payload = type === command.write ? await take(lengthBytes) : undefined;
      if (this.off) return;
      const reply = Buffer.alloc(16);
      reply.writeUInt32BE(replyMagic, 0);
      header.copy(reply, 8, 8, 16);
      socket.cork();
      if (type === command.read) {
        socket.write(reply);
        socket.write(this.disk.read(offset, lengthBytes));
      } else {
        if (payload !== undefined) this.write(offset, payload);
        else if (type === command.flush) this.disk.flush();
        else reply.writeUInt32BE(errorInvalid, 4);
        socket.write(reply);
      }
      socket.uncork();
    }
    socket.end();
  }

  private write(offset: number, payload: Buffer): void {
    this.disk.write(offset, payload);
    this.writesUntilCut -= 1;
    if (this.writesUntilCut !== 0) return;
    this.cut();
    this.onCut();
  }

  private async negotiate(socket: Socket, take: (lengthBytes: number) => Promise<Buffer>): Promise<void> {
    socket.write(Buffer.concat([Buffer.from('NBDMAGICIHAVEOPT'), Buffer.from([0, 3])])); // Fixed newstyle, no zeroes.
    await take(4);
    for (;;) {
      const header = await take(16);
      if (header.readBigUInt64BE(0) !== optionMagic) throw new Error('bad magic of an option');
      const asked = header.readUInt32BE(8);
      await take(header.readUInt32BE(12));
      if (asked === option.abort) throw new Error('the client gave up');
      if (asked !== option.go) {
        socket.write(optionAnswer(asked, optionReply.unsupported, Buffer.alloc(0)));
        continue;
      }
      const info = Buffer.alloc(12);
      info.writeBigUInt64BE(BigInt(this.disk.sizeBytes), 2);
      info.writeUInt16BE(transmissionFlags, 10);
      socket.write(optionAnswer(asked, optionReply.info, info));
      socket.write(optionAnswer(asked, optionReply.ack, Buffer.alloc(0)));
      return;
    }
  }
}

function optionAnswer(asked: number, type: number, data: Buffer): Buffer {
  const header = Buffer.alloc(20);
  header.writeBigUInt64BE(optionReplyMagic, 0);
  header.writeUInt32BE(asked, 8);
  header.writeUInt32BE(type, 12);
  header.writeUInt32BE(data.length, 16);
  return Buffer.concat([header, data]);
}

/** Hands out a socket's bytes in pieces of the length that is asked for; rejects once it is closed. */
function reader(socket: Socket): (lengthBytes: number) => Promise<Buffer> {
  let chunks: Buffer[] = [];
  let held = 0;
  let closed = false;
  let wake: () => void = () => undefined;
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    held += chunk.length;
    wake();
  });
  socket.on('close', () => {
    closed = true;
    wake();
  });
  return async (lengthBytes) => {
    while (held < lengthBytes) {
      if (closed) throw new Error('the connection was closed');
      await new Promise<void>((resolve) => (wake = resolve));
    }
    const all = chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
    chunks = all.length > lengthBytes ? [all.subarray(lengthBytes)] : [];
    held = all.length - lengthBytes;
    return all.subarray(0, lengthBytes);
  };
}
