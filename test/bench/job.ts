/** One measurement: fio over NBD, our own tools over iSCSI (fio has no user-space iSCSI) and for forced writes over NBD. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { requiredTool } from '../tool/clients.js';
import { run } from '../tool/process.js';
import { clientProcessor } from './peer.js';

export interface Job {
  readonly name: string;
  readonly writes: boolean;
  readonly random: boolean;
  readonly bytesPerIo: number;
  /** Of requests at a time; of connections with one request each, where every write is forced. */
  readonly depth: number;
  /** Each write is durable when it is answered. */
  readonly forced?: boolean;
  /** Longer than the others, and everything is durable at its end. */
  readonly sustainedSeconds?: number;
}

export interface Measured {
  readonly operations: number;
  readonly iops: number;
  readonly p99Us: number;
  /** Of the server, per operation: microseconds of user and system time. */
  readonly processorUs: number;
}

/** What a client can say. */
export type Seen = Omit<Measured, 'processorUs'>;

const mebibyte = 1024 * 1024;
/** What a job writes at most, unless it is about sustained writing: less than half of the gateway’s buffer. */
export const writtenBytesMax = 1536 * mebibyte;
const kilo = 4096;

export const jobs: readonly Job[] = [
  { name: 'random read 4 KiB, depth 1', writes: false, random: true, bytesPerIo: kilo, depth: 1 },
  { name: 'random read 4 KiB, depth 32', writes: false, random: true, bytesPerIo: kilo, depth: 32 },
  { name: 'random write 4 KiB, depth 1', writes: true, random: true, bytesPerIo: kilo, depth: 1 },
  { name: 'random write 4 KiB, depth 32', writes: true, random: true, bytesPerIo: kilo, depth: 32 },
  { name: 'sequential read 1 MiB, depth 8', writes: false, random: false, bytesPerIo: mebibyte, depth: 8 },
  { name: 'sequential write 1 MiB, depth 8', writes: true, random: false, bytesPerIo: mebibyte, depth: 8 },
];

const forcedWrite = { writes: true, random: true, bytesPerIo: kilo, forced: true };

/** For NBD alone. */
export const nbdJobs: readonly Job[] = [
  ...jobs,
  { ...forcedWrite, name: 'random write 4 KiB, each forced, 1 connection', depth: 1 },
  { ...forcedWrite, name: 'random write 4 KiB, each forced, 8 connections', depth: 8 },
];

export const sustainedJob: Job = {
  name: 'sequential write 1 MiB, depth 8, for a minute and flushed',
  writes: true,
  random: false,
  bytesPerIo: mebibyte,
  depth: 8,
  sustainedSeconds: 60,
};

/** Compiles a program of this folder; returns its path. */
export async function compile(name: string, folder: string, libraries: readonly string[]): Promise<string> {
  const source = resolve(import.meta.dirname, '../../../test/bench', `${name}.c`);
  const program = join(folder, name);
  await run(requiredTool('cc'), ['-O2', '-o', program, source, ...libraries]);
  return program;
}

export function buildForcedBench(folder: string): Promise<string> {
  return compile('nbd-fua', folder, []);
}

/** Writes of which each is durable when it is answered, one at a time on each of `depth` connections. */
export async function measureForced(program: string, url: string, job: Job, seconds: number): Promise<Seen> {
  const { port, pathname } = new URL(url);
  const args = [port, pathname.slice(1), job.bytesPerIo, job.depth, seconds].map(String);
  const text = await runOn(clientProcessor, { path: program, env: {} }, args, seconds, '/');
  return seen(text);
}

/** What our own clients print. */
function seen(text: string): Seen {
  const { operations, iops, p99us } = JSON.parse(text) as { operations: number; iops: number; p99us: number };
  return { operations, iops, p99Us: p99us };
}

/** `on`: begins the client's command line. */
export async function measureNbd(
  url: string,
  job: Job,
  seconds: number,
  on: readonly [string, ...string[]] = clientProcessor,
): Promise<Seen> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-bench-'));
  try {
    const output = join(folder, 'fio.json');
    const pattern = `${job.random ? 'rand' : ''}${job.writes ? 'write' : 'read'}`;
    await runOn(
      on,
      requiredTool('fio'),
      [
        ...['--name=bench', '--ioengine=nbd', `--uri=${url}`, `--rw=${pattern}`, `--bs=${job.bytesPerIo}`],
        ...[`--iodepth=${job.depth}`, `--runtime=${seconds}`, '--randrepeat=0'],
        ...(endsByTime(job) ? ['--time_based'] : [`--io_size=${writtenBytesMax}`]),
        ...['--output-format=json', `--output=${output}`],
        ...(job.sustainedSeconds === undefined ? [] : ['--end_fsync=1']),
      ],
      seconds,
      folder,
    );
    const text = await readFile(output, 'utf8');
    const report = JSON.parse(text.slice(text.indexOf('{'))) as {
      jobs: (Record<'read' | 'write', { total_ios: number; clat_ns: { percentile: Record<string, number> } }> & {
        job_runtime: number;
      })[];
    };
    const [only] = report.jobs;
    const side = only?.[job.writes ? 'write' : 'read'];
    if (side === undefined || side.total_ios === 0) throw new Error(`fio did no I/O against ${url}`);
    const iops = side.total_ios / ((only?.job_runtime ?? 0) / 1000); // With the flush at its end.
    return { operations: side.total_ios, iops, p99Us: (side.clat_ns.percentile['99.000000'] ?? 0) / 1000 };
  } finally {
    await rm(folder, { recursive: true });
  }
}

function endsByTime(job: Job): boolean {
  return !job.writes || job.sustainedSeconds !== undefined;
}

export function buildIscsiBench(folder: string): Promise<string> {
  return compile('iscsi-bench', folder, ['-liscsi']);
}

export async function measureIscsi(program: string, url: string, job: Job, seconds: number): Promise<Seen> {
  const operationsMax = endsByTime(job) ? Number.MAX_SAFE_INTEGER : writtenBytesMax / job.bytesPerIo;
  const pattern = [job.writes ? 'write' : 'read', job.random ? 'rand' : 'seq'];
  const args = [url, ...pattern, ...[job.bytesPerIo, job.depth, seconds, operationsMax].map(String)];
  return seen(await runOn(clientProcessor, { path: program, env: {} }, args, seconds, '/'));
}

function runOn(
  [first, ...before]: readonly [string, ...string[]],
  program: { readonly path: string; readonly env: Readonly<Record<string, string>> },
  args: readonly string[],
  seconds: number,
  cwd: string,
): Promise<string> {
  const options = { timeoutMs: (seconds + 60) * 1000, cwd };
  return run({ path: first, env: program.env }, [...before, program.path, ...args], options);
}
