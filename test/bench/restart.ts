/**
 * `npm run bench:restart -- [--rounds N] [--volumes N]`: from SIGTERM until clients are served again, with clients attached
 * that write all the time, and a service manager that starts the gateway as soon as it has ended. The target is 2 s.
 */
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import { TestGateway } from '../tool/gateway.js';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, volumes: { type: 'string', default: '4' } },
});
const names = Array.from({ length: Number(values.volumes) }, (_, index) => `disk${index}`);
const payload = Buffer.alloc(65536, 7);

const gateway = await TestGateway.start({
  volumes: names.map((name) => ({ name, size: '1GiB', buffer: { size: '256MiB' } })),
});

/** Writes until it is told to stop, and attaches again whenever it is cut off; when it was answered last. */
class Writer {
  answeredMs = 0;
  stopped = false;
  readonly ended: Promise<void>;

  constructor(readonly volume: string) {
    this.ended = this.#run();
  }

  async #run(): Promise<void> {
    for (let offset = 0; !this.stopped;) {
      try {
        const client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, this.volume);
        while (!this.stopped) {
          const { error } = await client.request({ type: CMD.WRITE, offset, payload });
          if (error !== 0) throw new Error(`error ${error}`);
          this.answeredMs = performance.now();
          offset = (offset + payload.length) % (512 * 1024 * 1024);
        }
        await client.disconnect();
      } catch {
        await delay(10);
      }
    }
  }
}

const writers = names.map((name) => new Writer(name));
const now = (): number => performance.now();

/** Resolves once every client was answered after that moment. */
async function served(sinceMs: number): Promise<void> {
  while (writers.some(({ answeredMs }) => answeredMs < sinceMs)) await delay(5);
}

try {
  for (let round = 1; round <= Number(values.rounds); round += 1) {
    await delay(3000);
    const startedMs = performance.now();
    await gateway.stop();
    const endedMs = performance.now();
    const [readyMs, servedMs] = await Promise.all([gateway.startAgain().then(now), served(endedMs).then(now)]);
    const seconds = (fromMs: number, toMs: number): string => `${((toMs - fromMs) / 1000).toFixed(2)} s`;
    console.log(
      `SIGTERM to served again ${seconds(startedMs, servedMs)} (ended after ${seconds(startedMs, endedMs)}, served ${seconds(endedMs, servedMs)} and ready ${seconds(endedMs, readyMs)} after that), ${names.length} writing clients`,
    );
  }
} finally {
  for (const writer of writers) writer.stopped = true;
  await gateway.dispose();
  await Promise.all(writers.map(({ ended }) => ended));
}
