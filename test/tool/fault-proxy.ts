/**
 * A TCP relay on loopback that stands between a client and a server and does what networks do: refuse, hang, cut off
 * a connection in the middle, lose the reply to a request that was carried out.
 */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** `cut` resets what is open and what comes; `hang` delivers nothing more; `lose-replies` delivers requests only. */
export type ProxyMode = 'pass' | 'cut' | 'hang' | 'lose-replies';

export class FaultProxy {
  private mode: ProxyMode = 'pass';
  private readonly sockets = new Set<Socket>();
  private readonly server = createServer((client) => this.relay(client));

  private constructor(private readonly targetPort: number) {}

  static async start(targetPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(targetPort);
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  setMode(mode: ProxyMode): void {
    // A connection that lost something cannot go on as if it had not.
    const mustCut = mode === 'cut' || (mode === 'pass' && this.mode !== 'pass');
    this.mode = mode;
    if (mustCut) this.cutAll();
  }

  async stop(): Promise<void> {
    this.cutAll();
    this.server.close();
    await once(this.server, 'close');
  }

  private cutAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private relay(client: Socket): void {
    if (this.mode === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const server = connect(this.targetPort, '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.sockets.add(from);
      from.on('data', (chunk: Buffer) => {
        if (this.mode === 'hang' || (this.mode === 'lose-replies' && from === server)) return;
        if (!to.write(chunk)) from.pause();
      });
      to.on('drain', () => from.resume());
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}
