/**
 * `npm run bench:flame`: where the gateway's processor time goes in one job of the bench, as a picture.
 *
 *   npm run bench:flame -- --job PART_OF_NAME --out FILE.svg [--protocol nbd|iscsi] [--seconds 4] [--dir DIR]
 *
 * Samples all threads of a gateway that is set up as `npm run bench` does (pinned, replicating at 20 MB/s), once the compiler
 * has been through its code. KEEPGATE_DIST=/elsewhere/dist pictures what another commit was built to. Needs perf (Debian:
 * linux-perf) and the right to use it.
 *
 * Stacks are followed by frame pointers, so a function of the C library can hide its caller; the client is not in the picture.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { prepareClients, requiredTool } from '../tool/clients.js';
import { distDirectory, TestGateway } from '../tool/gateway.js';
import { eventually, run, startService } from '../tool/process.js';
import { foldStacks, type Folded } from './folded-stacks.js';
import { flameSvg, shares } from './flame-svg.js';
import { buildForcedBench, buildIscsiBench, measureForced, measureIscsi, measureNbd } from './job.js';
import { jobs, nbdJobs, type Job } from './job.js';
import { missingProgram } from './needed-program.js';
import { clientProcessor, serverProcessor } from './peer.js';
import { settle } from './settle.js';

const { values } = parseArgs({
  options: {
    job: { type: 'string', default: '' },
    out: { type: 'string', default: '' },
    protocol: { type: 'string', default: 'nbd' },
    seconds: { type: 'string', default: '4' },
    dir: { type: 'string', default: '/var/tmp/keepgate-flame' },
  },
});
const seconds = Number(values.seconds);
const warmUpSeconds = 3;
const volume = 'bench';
const limited = { upload: '20MB/s' };
const hertz = 2999; // No divisor of anything that beats regularly.

function chosenJob(): Job {
  const all = values.protocol === 'iscsi' ? jobs : nbdJobs;
  const named = all.filter(({ name }) => name.includes(values.job));
  const [only] = named.filter(({ name }) => name === values.job).concat(named.length === 1 ? named : []);
  if (only !== undefined) return only;
  throw new Error(`--job must be part of the name of one job: ${all.map(({ name }) => name).join('; ')}`);
}

type Client = (job: Job, seconds: number) => Promise<unknown>;

async function clientOf(gateway: TestGateway): Promise<Client> {
  if (values.protocol === 'iscsi') {
    const program = await buildIscsiBench(values.dir);
    return (job, time) => measureIscsi(program, gateway.iscsiUrl(volume), job, time);
  }
  const forced = await buildForcedBench(values.dir);
  const url = gateway.nbdUri(volume);
  return (job, time) => (job.forced === true ? measureForced(forced, url, job, time) : measureNbd(url, job, time));
}

async function fill(gateway: TestGateway): Promise<void> {
  const [program, ...before] = clientProcessor;
  const fio = requiredTool('fio');
  const load = [`--uri=${gateway.nbdUri(volume)}`, '--rw=write', '--bs=1M', '--size=1G', '--refill_buffers'];
  const args = [...before, fio.path, '--name=fill', '--ioengine=nbd', ...load];
  await run(program, args, { env: fio.env, timeoutMs: 300_000 });
}

/** Runs `work` while the process is sampled. */
async function recorded(pid: number, file: string, work: () => Promise<unknown>): Promise<void> {
  const perf = startService('perf', ['record', '-F', String(hertz), '-g', '-N', '-p', String(pid), '-o', file]);
  try {
    await eventually('perf records', async () => {
      if (!perf.isRunning()) throw new Error(`perf ended\n${perf.output()}`);
      return (await stat(file).catch(() => undefined)) !== undefined;
    });
    await work();
  } finally {
    perf.signal('SIGINT'); // It writes the rest, which may take longer than a stop allows.
    await perf.ended;
  }
  if (!perf.output().includes('samples')) throw new Error(`perf recorded nothing\n${perf.output()}`);
}

async function folded(file: string, mainThread: number): Promise<Folded> {
  const script = ['script', '-i', file, '--no-inline', '-F', 'comm,tid,ip,sym,dso'];
  const perf = spawn('perf', script, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(perf, 'close');
  const result = await foldStacks(createInterface({ input: perf.stdout }), mainThread);
  await ended;
  if (result.root.samples === 0) throw new Error('perf has no samples of the gateway');
  return result;
}

/** The last one that changed the program. */
async function commit(): Promise<string> {
  const folder = dirname(distDirectory);
  const program = ['--', 'src', 'native'];
  const head = await run('git', ['-C', folder, 'log', '-1', '--format=%h', '--abbrev=7', ...program]);
  const changed = await run('git', ['-C', folder, 'status', '--porcelain', ...program]);
  return `${head.trim()}${changed === '' ? '' : ' with changes'}`;
}

async function picture(job: Job, gateway: TestGateway): Promise<void> {
  const map = `/tmp/perf-${gateway.pid}.map`; // Where perf looks for the names of compiled code.
  try {
    await fill(gateway);
    const client = await clientOf(gateway);
    await client(job, warmUpSeconds);
    await settle(gateway, [volume], limited);
    const data = join(values.dir, 'perf.data');
    await recorded(gateway.pid, data, () => client(job, seconds));
    await gateway.kill(); // What it would do now is of no interest.
    const stacks = await folded(data, gateway.pid);
    const protocol = values.protocol === 'iscsi' ? 'iSCSI' : 'NBD';
    const processor = cpus()[0]?.model.trim() ?? 'unknown processor';
    const caption = {
      title: `${protocol}: ${job.name}`,
      lines: [
        `Keepgate ${await commit()}, Node ${process.version}, Linux ${release()}, ${processor}.`,
        `${stacks.root.samples} samples of all threads of the gateway, ${hertz} a second of processor time.`,
      ],
    };
    await writeFile(values.out, flameSvg(stacks, caption));
    console.log(`${values.out}: ${caption.title}; ${caption.lines.join(' ')} ${shares(stacks)}`);
  } finally {
    await rm(map, { force: true });
  }
}

async function main(): Promise<void> {
  if (values.out === '') throw new Error('--out must name the file to write');
  const job = chosenJob();
  const missing = missingProgram({ perf: 'linux-perf' });
  if (missing !== undefined) throw new Error(missing);
  for (const problem of await prepareClients(console.log)) console.log(problem);
  await rm(values.dir, { recursive: true, force: true });
  await mkdir(values.dir, { recursive: true });
  await mkdir(dirname(resolve(values.out)), { recursive: true });
  const gateway = await TestGateway.start({
    folder: values.dir,
    // By `env`, so that only the gateway gets it, and no command that is run beside it.
    launcher: [...serverProcessor, 'env', 'NODE_OPTIONS=--perf-basic-prof'],
    bandwidth: limited,
    volumes: [{ name: volume, size: '1GiB', buffer: { size: '4GiB' } }],
  });
  try {
    await picture(job, gateway);
  } finally {
    await gateway.kill();
    await rm(values.dir, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
