/**
 * The NBD front end alone, over a volume in memory: what the protocol layer costs, without the engine.
 *
 *   node dist/test/bench/nbd-memory-server.js [--listen HOST:PORT | unix:PATH] [--size BYTES]
 *   fio --name=x --ioengine=nbd --uri=nbd://127.0.0.1:10899/demo --rw=randread --bs=4k --iodepth=32 --size=512m --time_based --runtime=5
 *
 * Pin it as the peers are pinned (taskset -c 0 the server, -c 1 the client), and profile with `node --cpu-prof`. It
 * runs until SIGINT or SIGTERM, and then says how much processor time a request took, user and kernel: the figure to
 * compare where the client, not the server, is what limits the rate.
 */
import { parseArgs } from 'node:util';
import { parseListenAddress } from '../../src/config/listen-address.js';
import { NbdServer } from '../../src/frontends/nbd/server.js';
import { NetStreamFactory } from '../../src/platform/socket-listener.js';
import { SystemClock } from '../../src/platform/system-clock.js';
import { RecordedLog } from '../fake/log.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../fake/memory-device.js';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:10899' },
    size: { type: 'string', default: String(512 * 1024 * 1024) },
  },
});

const log = new RecordedLog();
const device = new MemoryDevice({ name: 'demo', sizeBytes: Number(values.size), keepHistory: false });
const volume = new MemoryVolume(device, { shared: true });
const { stats } = volume.nbd;
const server = new NbdServer({
  directory: new MemoryDirectory(volume),
  streams: new NetStreamFactory({ log }),
  clock: new SystemClock(),
  log,
});
await server.listen([parseListenAddress(values.listen)]);
console.log(`serving volume demo on ${values.listen}`);
const before = process.cpuUsage();

function stop(): void {
  const { user, system } = process.cpuUsage(before);
  const requests = stats.operations.reduce((sum, count) => sum + count, 0);
  const perRequest = (us: number): string => (us / Math.max(1, requests)).toFixed(2);
  console.log(`${requests} requests, ${perRequest(user)} us user and ${perRequest(system)} us kernel each`);
  void server.close();
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
