/**
 * `npm run bench:sums`: what the checksums cost. Two gateways, one of them with every checksum left out of the program as it is
 * loaded (test/tool/source-patch.ts), measured in turn over NBD on the same machine, each alone.
 *
 *   npm run bench:sums -- [--rounds 5] [--seconds 3] [--job PART_OF_NAME] [--dir DIR]
 *
 * Rates are compared as medians, and round by round: a round's two turns follow each other, so that a machine whose speed
 * drifts hits both. The processor time of the whole process per operation (moving what was written into the image
 * included) hardly depends on who else uses the machine. Neither gateway replicates: what else the process did would only
 * make the share of the checksums smaller.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { prepareClients, requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { eventually, run } from '../tool/process.js';
import { patchArguments, patchEnvironment, type SourcePatch } from '../tool/source-patch.js';
import { jobs, measureNbd, type Job } from './job.js';
import { clientProcessor, serverProcessor } from './peer.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '3' },
    job: { type: 'string', default: '' },
    dir: { type: 'string', default: '/var/tmp/keepgate-bench-sums' },
  },
});
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const volume = 'bench';
const ticksPerSecond = 100;

/** A plain copy, sums that are all the same, and nothing looked at. */
const withoutSums: readonly SourcePatch[] = [
  {
    file: 'src/platform/checksum.js',
    find: 'return loadAddon();',
    replace: `const addon = loadAddon();
    const none = () => undefined;
    const found = () => -1;
    return {
      crc32c: () => 5,
      copyAndSum: (source, start, end, target, targetStart, sums) => {
        target.set(source.subarray(start, end), targetStart);
        sums.fill(5, Math.floor(targetStart / 4096), Math.ceil((targetStart + end - start) / 4096));
      },
      sumBlocks: (bytes, start, count, sums, sumsStart) => void sums.fill(5, sumsStart, sumsStart + count),
      toLogSums: none,
      logToBlockSums: none,
      toBlockSums: none,
      verifyBlocks: found,
      verifyLogBlocks: found,
      isZero: addon.isZero,
      alignedBuffer: addon.alignedBuffer,
      discard: addon.discard,
    };`,
  },
];

interface Turn {
  readonly iops: number;
  readonly cpuUs: number;
}

async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Waits until everything that was written is in the image. */
async function settle(gateway: TestGateway): Promise<void> {
  await eventually('the overlay to be empty', async () => (await gateway.metric('keepgate_overlay_blocks')) === 0, {
    timeoutMs: 300_000,
  });
}

async function turn(gateway: TestGateway, job: Job): Promise<Turn> {
  const before = await cpuSeconds(gateway.pid);
  const { iops } = await measureNbd(gateway.nbdUri(volume), job, seconds);
  if (job.writes) await settle(gateway);
  const used = (await cpuSeconds(gateway.pid)) - before;
  return { iops, cpuUs: (used * 1e6) / (iops * seconds) };
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

const percent = (ratio: number): string => `${((1 - ratio) * 100).toFixed(1)} %`;

async function compare(job: Job, sound: TestGateway, bare: TestGateway): Promise<string> {
  const withSums: Turn[] = [];
  const without: Turn[] = [];
  for (let round = 0; round < rounds; round++) {
    // Whoever begins alternates as well.
    const order = round % 2 === 0 ? [sound, bare] : [bare, sound];
    for (const gateway of order) (gateway === sound ? withSums : without).push(await turn(gateway, job));
  }
  const rate = (turns: readonly Turn[]): number => median(turns.map(({ iops }) => iops));
  const cpu = (turns: readonly Turn[]): number => median(turns.map(({ cpuUs }) => cpuUs));
  const paired = median(withSums.map(({ iops }, round) => iops / (without[round]?.iops ?? iops)));
  const unit =
    job.bytesPerIo > 65_536 ? (iops: number) => `${Math.round((iops * job.bytesPerIo) / 1e6)} MB/s` : thousands;
  return `| ${job.name} | ${unit(rate(withSums))} | ${unit(rate(without))} | ${percent(paired)} | ${cpu(withSums).toFixed(1)} | ${cpu(without).toFixed(1)} | ${percent(cpu(without) / cpu(withSums))} |`;
}

function thousands(iops: number): string {
  return `${(iops / 1000).toFixed(1)} k/s`;
}

async function startFilled(name: string, patches: readonly SourcePatch[]): Promise<TestGateway> {
  const folder = join(values.dir, name);
  await mkdir(folder, { recursive: true });
  const gateway = await TestGateway.start({
    folder,
    launcher: serverProcessor,
    env: { NODE_OPTIONS: patches.length === 0 ? '' : patchArguments.join(' '), ...patchEnvironment(patches) },
    volumes: [{ name: volume, size: '1GiB', buffer: { size: '1GiB' }, replicate: { enabled: false } }],
  });
  const fio = requiredTool('fio');
  const [program, ...rest] = [...clientProcessor, fio.path];
  const fill = [
    '--name=fill',
    '--ioengine=nbd',
    `--uri=${gateway.nbdUri(volume)}`,
    '--rw=write',
    '--bs=1M',
    '--size=1G',
  ];
  await run(program, [...rest, ...fill, '--refill_buffers'], { env: fio.env, timeoutMs: 600_000 });
  await settle(gateway);
  return gateway;
}

async function main(): Promise<void> {
  for (const problem of await prepareClients(console.log)) console.log(problem);
  await rm(values.dir, { recursive: true, force: true });
  const gateways: TestGateway[] = [];
  try {
    gateways.push(await startFilled('with', []), await startFilled('without', withoutSums));
    const [sound, bare] = gateways;
    if (sound === undefined || bare === undefined) throw new Error('two gateways were started');
    console.log('| job | with sums | without | slower by | CPU µs each, with | without | share of the sums |');
    console.log('| --- | --- | --- | --- | --- | --- | --- |');
    const measured = jobs.filter(({ depth, name }) => depth > 1 && name.includes(values.job));
    for (const job of measured) console.log(await compare(job, sound, bare));
  } finally {
    for (const gateway of gateways) await gateway.kill();
    await rm(values.dir, { recursive: true, force: true });
  }
}

await main();
