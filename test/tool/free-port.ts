/** Ports that the system chose, for servers that cannot be told to choose one and say which. */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** Free at this moment; all are held together while they are chosen, so that they differ. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
