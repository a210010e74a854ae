/**
 * `npm run bench:tls`: what TLS costs the gateway in processor time for one request, beside the same without it. A real
 * gateway, one connection, the least of three rounds each: other work on the machine can only add to it.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parsePreSharedKeys } from '../../src/platform/pre-shared-keys.js';
import { clientFlags, CMD, NbdClient } from '../fake/nbd-client.js';
import { writePreSharedKeys } from '../tool/certificates.js';
import { TestGateway } from '../tool/gateway.js';
import { processorMilliseconds } from './processor-time.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const sizeBytes = 1024 * MIB;
const rounds = 3;

interface Load {
  readonly name: string;
  readonly type: number;
  readonly lengthBytes: number;
  readonly depth: number;
  readonly count: number;
}

const loads: readonly Load[] = [
  { name: '4 KiB reads, depth 32', type: CMD.READ, lengthBytes: 4 * KIB, depth: 32, count: 40_000 },
  { name: '4 KiB writes, depth 32', type: CMD.WRITE, lengthBytes: 4 * KIB, depth: 32, count: 40_000 },
  { name: '4 KiB reads, depth 1', type: CMD.READ, lengthBytes: 4 * KIB, depth: 1, count: 10_000 },
  { name: '1 MiB reads, depth 4', type: CMD.READ, lengthBytes: MIB, depth: 4, count: 600 },
  { name: '1 MiB writes, depth 4', type: CMD.WRITE, lengthBytes: MIB, depth: 4, count: 600 },
];

/** Microseconds of the gateway's processor time for each request. */
async function cost(gateway: TestGateway, client: NbdClient, load: Load): Promise<number> {
  const { type, lengthBytes, depth, count } = load;
  const payload = Buffer.alloc(lengthBytes, 0x5a);
  const blocks = sizeBytes / lengthBytes;
  let begun = 0;
  const before = await processorMilliseconds(gateway.pid);
  const one = async (): Promise<void> => {
    while (begun < count) {
      // A stride that visits the blocks in no order that read-ahead knows.
      const offset = ((begun++ * 7919) % blocks) * lengthBytes;
      const request = type === CMD.WRITE ? { type, offset, payload } : { type, offset, length: lengthBytes };
      const { error } = await client.request(request);
      if (error !== 0) throw new Error(`${load.name}: NBD error ${error}`);
    }
  };
  await Promise.all(Array.from({ length: depth }, one));
  return (((await processorMilliseconds(gateway.pid)) - before) * 1000) / count;
}

const folder = await mkdtemp(join(tmpdir(), 'keepgate-tls-cost-'));
const keyFile = join(folder, 'keys.psk');
await writePreSharedKeys(keyFile, ['bench']);
const psk = parsePreSharedKeys(await readFile(keyFile, 'utf8'), keyFile).get('bench') ?? Buffer.alloc(0);
const gateway = await TestGateway.start({
  nbd: { tls: 'on', tlsPsk: keyFile },
  volumes: [
    { name: 'disk', size: `${sizeBytes}B`, access: 'shared', buffer: { size: '2GiB' }, replicate: { enabled: false } },
  ],
});
try {
  const clients = new Map<'clear' | 'TLS', NbdClient>();
  for (const way of ['clear', 'TLS'] as const) {
    const client = await NbdClient.open({ host: '127.0.0.1', port: gateway.nbdPort });
    client.send(clientFlags(3));
    if (way === 'TLS') {
      await client.startTls({
        pskCallback: () => ({ psk, identity: 'bench' }),
        checkServerIdentity: () => undefined,
        ciphers: 'TLS_AES_128_GCM_SHA256',
      });
    }
    await client.go('disk');
    clients.set(way, client);
  }
  const least = new Map<string, number>();
  for (let round = 0; round < rounds; round++) {
    for (const [way, client] of clients) {
      for (const load of loads) {
        const key = `${way} ${load.name}`;
        least.set(key, Math.min(least.get(key) ?? Infinity, await cost(gateway, client, load)));
      }
    }
  }
  console.log('microseconds of processor time of the gateway for one request; clear, TLS');
  for (const { name } of loads) {
    const [clear, tls] = ['clear', 'TLS'].map((way) => (least.get(`${way} ${name}`) ?? 0).toFixed(1));
    console.log(`${name}: ${clear} ${tls}`);
  }
} finally {
  await gateway.dispose();
  await rm(folder, { recursive: true });
}
