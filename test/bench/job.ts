/** One measurement: fio over NBD, our own tool over iSCSI (fio has no user-space iSCSI). */
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
  readonly depth: number;
}

export interface Measured {
  readonly iops: number;
  readonly p99Us: number;
  /** Of the server, per operation: microseconds of user and system time. */
  readonly processorUs: number;
}

/** What a client can say. */
export type Seen = Omit<Measured, 'processorUs'>;

const mebibyte = 1024 * 1024;
const kilo = 4096;

export const jobs: readonly Job[] = [
  { name: 'random read 4 KiB, depth 1', writes: false, random: true, bytesPerIo: kilo, depth: 1 },
  { name: 'random read 4 KiB, depth 32', writes: false, random: true, bytesPerIo: kilo, depth: 32 },
  { name: 'random write 4 KiB, depth 1', writes: true, random: true, bytesPerIo: kilo, depth: 1 },
  { name: 'random write 4 KiB, depth 32', writes: true, random: true, bytesPerIo: kilo, depth: 32 },
  { name: 'sequential read 1 MiB, depth 8', writes: false, random: false, bytesPerIo: mebibyte, depth: 8 },
  { name: 'sequential write 1 MiB, depth 8', writes: true, random: false, bytesPerIo: mebibyte, depth: 8 },
];

export async function measureNbd(url: string, job: Job, seconds: number): Promise<Seen> {
  const folder = await mkdtemp(join(tmpdir(), 'keepgate-bench-'));
  try {
    const output = join(folder, 'fio.json');
    const pattern = `${job.random ? 'rand' : ''}${job.writes ? 'write' : 'read'}`;
    await runOnClientProcessor(
      requiredTool('fio'),
      [
        ...['--name=bench', '--ioengine=nbd', `--uri=${url}`, `--rw=${pattern}`, `--bs=${job.bytesPerIo}`],
        ...[`--iodepth=${job.depth}`, '--time_based', `--runtime=${seconds}`, '--size=1G', '--randrepeat=0'],
        ...['--output-format=json', `--output=${output}`],
      ],
      seconds,
      folder,
    );
    const text = await readFile(output, 'utf8');
    const report = JSON.parse(text.slice(text.indexOf('{'))) as {
      jobs: Record<
        'read' | 'write',
        { iops: number; total_ios: number; clat_ns: { percentile: Record<string, number> } }
      >[];
    };
    const side = report.jobs[0]?.[job.writes ? 'write' : 'read'];
    if (side === undefined || side.total_ios === 0) throw new Error(`fio did no I/O against ${url}`);
    return { iops: side.iops, p99Us: (side.clat_ns.percentile['99.000000'] ?? 0) / 1000 };
  } finally {
    await rm(folder, { recursive: true });
  }
}

export async function buildIscsiBench(folder: string): Promise<string> {
  const source = resolve(import.meta.dirname, '../../../test/bench/iscsi-bench.c');
  const program = join(folder, 'iscsi-bench');
  await run(requiredTool('cc'), ['-O2', '-o', program, source, '-liscsi']);
  return program;
}

export async function measureIscsi(program: string, url: string, job: Job, seconds: number): Promise<Seen> {
  const args = [url, job.writes ? 'write' : 'read', job.random ? 'rand' : 'seq', job.bytesPerIo, job.depth, seconds];
  const text = await runOnClientProcessor({ path: program, env: {} }, args.map(String), seconds, '/');
  const { iops, p99us } = JSON.parse(text) as { iops: number; p99us: number };
  return { iops, p99Us: p99us };
}

function runOnClientProcessor(
  program: { readonly path: string; readonly env: Readonly<Record<string, string>> },
  args: readonly string[],
  seconds: number,
  cwd: string,
): Promise<string> {
  const [first, ...before] = clientProcessor;
  const options = { timeoutMs: (seconds + 60) * 1000, cwd };
  return run({ path: first, env: program.env }, [...before, program.path, ...args], options);
}
