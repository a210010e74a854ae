/**
 * The iSCSI target alone, over a volume in memory: what the protocol layer costs, without the engine; and what
 * iscsi-test-cu can be run against.
 *
 *   node dist/test/bench/iscsi-memory-server.js [--listen HOST:PORT] [--size BYTES] [--chap USER:SECRET[:USER:SECRET]]
 *   cc -O2 -o iscsi-bench test/bench/iscsi-bench.c -liscsi
 *   ./iscsi-bench iscsi://127.0.0.1:3299/iqn.2026-11.io.keepgate:demo/0 read rand 4096 32 5
 *
 * Pin it as the peers are pinned (taskset -c 0 the server, -c 1 the client), and profile with `node --cpu-prof`. It
 * runs until SIGINT or SIGTERM, and then says how much processor time a command took, user and kernel: the figure to
 * compare where the client, not the server, is what limits the rate.
 */
import { parseArgs } from 'node:util';
import { parseListenAddress } from '../../src/config/listen-address.js';
import { IscsiTarget } from '../../src/frontends/iscsi/target.js';
import { nativeChecksums } from '../../src/platform/checksum.js';
import { NetStreamFactory } from '../../src/platform/socket-listener.js';
import { SystemClock } from '../../src/platform/system-clock.js';
import { SystemRandom } from '../../src/platform/system-random.js';
import { RecordedLog } from '../fake/log.js';
import { MemoryDevice, MemoryDirectory, MemoryVolume } from '../fake/memory-device.js';

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '127.0.0.1:3299' },
    size: { type: 'string', default: String(512 * 1024 * 1024) },
    chap: { type: 'string' },
    shared: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
});

class PrintedLog extends RecordedLog {
  override warn(message: string, fields?: object): void {
    console.log(message, JSON.stringify(fields));
  }
}

function chap(text: string): object {
  const [user = '', secret = '', mutualUser, mutualSecret] = text.split(':');
  const mutual = mutualUser === undefined ? {} : { mutualUser, mutualSecret: Buffer.from(mutualSecret ?? '') };
  return { chap: { user, secret: Buffer.from(secret), ...mutual } };
}

const log = values.verbose ? new PrintedLog() : new RecordedLog();
const device = new MemoryDevice({ name: 'demo', sizeBytes: Number(values.size), keepHistory: false });
const volume = new MemoryVolume(device, {
  shared: values.shared,
  iscsi: values.chap === undefined ? {} : chap(values.chap),
});
const { stats } = volume.iscsi;
const target = new IscsiTarget({
  directory: new MemoryDirectory(volume),
  streams: new NetStreamFactory({ log }),
  clock: new SystemClock(),
  log,
  checksums: nativeChecksums(),
  random: new SystemRandom(),
  options: { targetPrefix: 'iqn.2026-11.io.keepgate', advertise: [], digests: 'offered' },
});
await target.listen([parseListenAddress(values.listen)]);
console.log(`serving iqn.2026-11.io.keepgate:demo on ${values.listen}`);
const before = process.cpuUsage();

function stop(): void {
  const { user, system } = process.cpuUsage(before);
  const commands = stats.operations.reduce((sum, count) => sum + count, 0);
  const perCommand = (us: number): string => (us / Math.max(1, commands)).toFixed(2);
  console.log(`${commands} commands, ${perCommand(user)} us user and ${perCommand(system)} us kernel each`);
  void target.close();
}
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
