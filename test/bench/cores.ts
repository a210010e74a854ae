/**
 * `npm run bench:cores`: what a second processor is worth to one gateway, its clients' load on the same machine accounted for.
 *
 *   npm run bench:cores -- [--rounds 3] [--seconds 3] [--job PART_OF_NAME] [--dir DIR]
 *
 * Two clients, each with a volume of its own, over NBD. In turn: the gateway's threads all on processor 0 and the clients on 1, as in
 * `npm run bench`; and everybody on both. Processor time is that of the gateway and of the clients, each divided by the operations. The
 * event loop serves all clients: a second thread that serves could gain, at most, what the loop lacks while a processor is idle.
 */
import { mkdir, rm } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { prepareClients, requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { jobs, measureNbd, type Job } from './job.js';
import { processorMilliseconds, threadMilliseconds } from './processor-time.js';
import { settle } from './settle.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    job: { type: 'string', default: '' },
    dir: { type: 'string', default: '/var/tmp/keepgate-cores' },
  },
});
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const volumes = ['first', 'second'];
const limited = { upload: '20MB/s' };

const placings = [
  { name: 'gateway on one, clients on the other', gateway: '0', clients: '1' },
  { name: 'everybody on both', gateway: '0,1', clients: '0,1' },
] as const;
type Placing = (typeof placings)[number];

interface Figures {
  readonly iops: number;
  readonly gatewayUs: number;
  readonly clientsUs: number;
  /** Of the one processor that it can use. */
  readonly loopShare: number;
  /** Of both processors, by gateway and clients. */
  readonly usedShare: number;
}

interface Used {
  readonly gatewayMs: number;
  readonly clientsMs: number;
  readonly loopMs: number;
}

/** So far; clients are all children of this process but the gateway. */
async function used(gateway: TestGateway): Promise<Used> {
  const [all, gatewayMs, loopMs] = await Promise.all([
    processorMilliseconds(process.pid),
    processorMilliseconds(gateway.pid),
    threadMilliseconds(gateway.pid),
  ]);
  const { user, system } = process.cpuUsage();
  return { gatewayMs, loopMs, clientsMs: all - gatewayMs - (user + system) / 1000 };
}

async function measure(gateway: TestGateway, job: Job, placing: Placing): Promise<Figures> {
  await run('taskset', ['-a', '-c', '-p', placing.gateway, String(gateway.pid)]);
  const before = await used(gateway);
  const startedMs = performance.now();
  const clients = volumes.map((volume) =>
    measureNbd(gateway.nbdUri(volume), job, seconds, ['taskset', '-c', placing.clients]),
  );
  const seen = await Promise.all(clients);
  const elapsedMs = performance.now() - startedMs;
  const after = await used(gateway);
  const operations = seen.reduce((sum, each) => sum + each.operations, 0);
  const gatewayMs = after.gatewayMs - before.gatewayMs;
  const clientsMs = after.clientsMs - before.clientsMs;
  return {
    iops: seen.reduce((sum, each) => sum + each.iops, 0),
    gatewayUs: (gatewayMs * 1000) / operations,
    clientsUs: (clientsMs * 1000) / operations,
    loopShare: (after.loopMs - before.loopMs) / elapsedMs,
    usedShare: (gatewayMs + clientsMs) / (2 * elapsedMs),
  };
}

async function fill(gateway: TestGateway): Promise<void> {
  const fio = requiredTool('fio');
  for (const volume of volumes) {
    const load = [`--uri=${gateway.nbdUri(volume)}`, '--rw=write', '--bs=1M', '--size=1G', '--refill_buffers'];
    await run(fio.path, ['--name=fill', '--ioengine=nbd', ...load], { env: fio.env, timeoutMs: 300_000 });
  }
  await settle(gateway, volumes, limited);
}

function median(runs: readonly Figures[], figure: keyof Figures): number {
  const sorted = runs.map((each) => each[figure]).sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function line(job: Job, placing: Placing, runs: readonly Figures[]): string {
  const of = (figure: keyof Figures): number => median(runs, figure);
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  const figures = [
    Math.round(of('iops')).toString(),
    of('gatewayUs').toFixed(1),
    of('clientsUs').toFixed(1),
    percent(of('loopShare')),
    percent(of('usedShare')),
  ];
  return `| ${job.name}, of each client | ${placing.name} | ${figures.join(' | ')} |`;
}

async function main(): Promise<void> {
  for (const problem of await prepareClients(console.log)) console.log(problem);
  await rm(values.dir, { recursive: true, force: true });
  await mkdir(values.dir, { recursive: true });
  const gateway = await TestGateway.start({
    folder: values.dir,
    bandwidth: limited,
    volumes: volumes.map((name) => ({ name, size: '1GiB', buffer: { size: '4GiB' } })),
  });
  try {
    await fill(gateway);
    console.log(
      '| job | processors | operations/s | gateway, µs each | clients, µs each | event loop, of one processor | used of both |',
    );
    console.log('| --- | --- | --- | --- | --- | --- | --- |');
    for (const job of jobs.filter(({ name }) => name.includes(values.job))) {
      const runs = placings.map((placing) => ({ placing, figures: [] as Figures[] }));
      // The first round is thrown away: the compiler is busy in it.
      for (let round = -1; round < rounds; round++) {
        for (const { placing, figures } of runs) {
          const measured = await measure(gateway, job, placing);
          if (round >= 0) figures.push(measured);
          if (job.writes) await settle(gateway, volumes, limited);
        }
      }
      for (const { placing, figures } of runs) console.log(line(job, placing, figures));
    }
    console.log(
      `\n${cpus()[0]?.model.trim() ?? ''}, ${cpus().length} processors, Linux ${release()}, Node ${process.version}.`,
    );
  } finally {
    await gateway.kill();
    await rm(values.dir, { recursive: true, force: true });
  }
}

await main();
