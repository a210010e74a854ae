/** Ports for servers that cannot be told to choose one and say which, or that must have the same one again. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type AddressInfo, type Server } from 'node:net';

const firstPort = 10_000;

/**
 * Free at this moment; all are held together while they are chosen, so that they differ. They lie below those that the
 * system gives to connections, and to servers that let it choose: nobody gets one by chance while it is not in use.
 */
export async function freePorts(count: number): Promise<number[]> {
  const range = await readFile('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const endPort = Number(range.split(/\s/)[0]);
  const servers: Server[] = [];
  while (servers.length < count) {
    const server = createServer().listen(endPort > firstPort ? randomInt(firstPort, endPort) : 0, '127.0.0.1');
    const listens = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (listens) servers.push(server);
  }
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
