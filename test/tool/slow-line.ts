/**
 * A line of so many bytes per second towards a server, with one queue that all connections share, as an uplink has it;
 * answers come back at once.
 *
 * `deep`: it takes whatever is sent at once and keeps it, so that a queue delays answers and nothing hides in the kernel's
 * buffers. Others may use the line as well: what they send stands in the same queue.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

const tickMs = 5;
const queueMs = 200;
const chunkBytes = 16 * 1024;
const othersChunk = Buffer.alloc(1500);

export class SlowLine {
  /** That left the queue. */
  carriedBytes = 0;
  /** Of others. */
  othersBytes = 0;
  /** Others keep this much of the line's time in the queue, as TCP does. */
  othersQueueMs = 0;
  private readonly queue: { readonly chunk: Buffer; readonly to: Socket | undefined }[] = [];
  private queuedBytes = 0;
  private credit = 0;
  private lastMs = performance.now();
  private readonly sockets = new Set<Socket>();
  private readonly paused = new Set<Socket>();
  private readonly timer: NodeJS.Timeout;
  private readonly server = createServer((client) => this.relay(client));

  private constructor(
    private readonly targetPort: number,
    private readonly bytesPerSecond: number,
    private readonly deep: boolean,
  ) {
    this.timer = setInterval(() => this.step(), tickMs);
  }

  static async start(
    targetPort: number,
    bytesPerSecond: number,
    options: { readonly deep?: boolean } = {},
  ): Promise<SlowLine> {
    const line = new SlowLine(targetPort, bytesPerSecond, options.deep === true);
    line.server.listen(0, '127.0.0.1');
    await once(line.server, 'listening');
    return line;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }

  private get queueBytesMax(): number {
    return (this.bytesPerSecond * queueMs) / 1000;
  }

  private relay(client: Socket): void {
    const server = connect(this.targetPort, '127.0.0.1');
    for (const socket of [client, server]) {
      this.sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        this.sockets.delete(socket);
        this.paused.delete(socket);
        client.destroy();
        server.destroy();
      });
    }
    client.on('data', (chunk: Buffer) => {
      this.queue.push({ chunk, to: server });
      this.queuedBytes += chunk.length;
      if (this.deep || this.queuedBytes < this.queueBytesMax) return;
      client.pause();
      this.paused.add(client);
    });
    server.pipe(client);
  }

  private step(): void {
    const nowMs = performance.now();
    this.credit = Math.min(
      this.credit + ((nowMs - this.lastMs) * this.bytesPerSecond) / 1000,
      this.bytesPerSecond / 20,
    );
    this.lastMs = nowMs;
    while (this.queuedBytes * 1000 < this.othersQueueMs * this.bytesPerSecond) {
      this.queue.push({ chunk: othersChunk, to: undefined });
      this.queuedBytes += othersChunk.length;
    }
    while (this.credit > 0) {
      const next = this.queue.shift();
      if (next === undefined) break;
      this.credit -= next.chunk.length;
      this.queuedBytes -= next.chunk.length;
      if (next.to === undefined) this.othersBytes += next.chunk.length;
      else this.carriedBytes += next.chunk.length;
      if (next.to?.destroyed === false) next.to.write(next.chunk);
    }
    if (this.queue.length === 0) this.credit = Math.min(this.credit, chunkBytes);
    if (this.queuedBytes >= this.queueBytesMax) return;
    for (const socket of this.paused) socket.resume();
    this.paused.clear();
  }
}
