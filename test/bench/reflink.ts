/**
 * `npm run bench:reflink`: what it would gain to share extents from the log with the image (FICLONERANGE) instead of copying,
 * and what it costs afterwards, on file systems that can.
 *
 *   npm run bench:reflink -- [--mebibytes 1024] [--rounds 3] [--runs 4,64,1024,4096] [--only xfs|btrfs] [--dir DIR]
 *
 * Needs root, mkfs.xfs (xfsprogs) and mkfs.btrfs (btrfs-progs). Each file system is made anew for every way of moving, in a
 * file of its own on the disk of --dir, past that disk's page cache. Both ways of a round follow each other. All is written by
 * test/bench/reflink.c, which says what each step is; log and image have been written before.
 */
import { mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { run as runToEnd } from '../tool/process.js';
import { compile } from './job.js';
import { missingProgram } from './needed-program.js';

const { values } = parseArgs({
  options: {
    mebibytes: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    runs: { type: 'string', default: '4,64,1024,4096' },
    only: { type: 'string', default: '' },
    dir: { type: 'string', default: '/var/tmp/keepgate-reflink' },
  },
});
const mebibyte = 1024 * 1024;
const movedBytes = Number(values.mebibytes) * mebibyte;
const rounds = Number(values.rounds);
const runKibibytes = values.runs.split(',').map(Number);
const randomReadBytes = 32 * mebibyte;
/** For the question what a full file system does. */
const fullCaseBytes = 256 * mebibyte;
const noSpace = 28;

interface FileSystem {
  readonly name: string;
  readonly make: readonly [program: string, ...args: string[]];
  readonly mountOptions: string;
}

const fileSystems: readonly FileSystem[] = [
  { name: 'xfs', make: ['mkfs.xfs', '-q', '-f', '-m', 'reflink=1'], mountOptions: 'noatime' },
  { name: 'btrfs', make: ['mkfs.btrfs', '-q', '-f'], mountOptions: 'noatime' },
  { name: 'btrfs, nodatacow', make: ['mkfs.btrfs', '-q', '-f'], mountOptions: 'noatime,nodatacow' },
];

type Way = 'copy' | 'share' | 'check';

interface Step {
  readonly seconds: number;
  readonly bytes: number;
  readonly errno: number;
}

/** Seconds. */
interface Turn {
  readonly move: number;
  readonly append: number;
  readonly renew: number;
  readonly sequentialRead: number;
  readonly randomRead: number;
  readonly extents: number;
}

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());

function run(program: string, args: readonly string[]): Promise<string> {
  return runToEnd(program, args, { timeoutMs: 1_200_000, killWhen: interrupted.signal });
}

/** One step of reflink.c, in a file system that has nothing left to write. */
async function step(mounted: string, program: string, ...args: readonly (string | number)[]): Promise<Step> {
  await run('sync', ['-f', mounted]);
  return JSON.parse(await run(program, args.map(String))) as Step;
}

async function whole(mounted: string, program: string, ...args: readonly (string | number)[]): Promise<number> {
  const done = await step(mounted, program, ...args);
  if (done.errno !== 0) throw new Error(`${args.join(' ')}: errno ${done.errno} after ${done.bytes} bytes`);
  return done.seconds;
}

/** Makes a file system in a file, mounts it for `work`, and leaves nothing behind. */
async function onFileSystem<T>(of: FileSystem, bytes: number, work: (mounted: string) => Promise<T>): Promise<T> {
  const backing = join(values.dir, 'disk');
  const mounted = join(values.dir, 'mounted');
  await mkdir(mounted, { recursive: true });
  await writeFile(backing, '');
  await truncate(backing, bytes);
  const device = (await run('losetup', ['--find', '--show', '--direct-io=on', backing])).trim();
  try {
    const [make, ...args] = of.make;
    await run(make, [...args, device]);
    await run('mount', ['-o', of.mountOptions, device, mounted]);
    try {
      await mkdir(join(mounted, 'log'));
      return await work(mounted);
    } finally {
      await runToEnd('umount', [mounted], { timeoutMs: 300_000 });
    }
  } finally {
    await runToEnd('losetup', ['--detach', device]);
    await rm(backing);
  }
}

async function extents(paths: readonly string[]): Promise<number> {
  const shown = await run('filefrag', paths);
  return [...shown.matchAll(/: (\d+) extents? found/g)].reduce((sum, [, count]) => sum + Number(count), 0);
}

async function turn(of: FileSystem, program: string, way: Way, runBytes: number): Promise<Turn> {
  return onFileSystem(of, 4 * movedBytes + 1024 * mebibyte, async (mounted) => {
    const [log, image] = [join(mounted, 'log'), join(mounted, 'image')];
    await whole(mounted, program, 'fill', image, movedBytes);
    const renew = await whole(mounted, program, 'log', log, movedBytes);
    const move = await whole(mounted, program, 'move', way, log, image, movedBytes, runBytes);
    if (way === 'check') return { move, renew, append: NaN, sequentialRead: NaN, randomRead: NaN, extents: NaN };
    return {
      move,
      renew,
      extents: await extents([image]),
      sequentialRead: await whole(mounted, program, 'read', 'sequential', image, movedBytes),
      randomRead: await whole(mounted, program, 'read', 'random', image, randomReadBytes),
      append: await whole(mounted, program, 'append', log, movedBytes),
    };
  });
}

/** What of the log can be written again in place once the file system is full. */
async function onFull(of: FileSystem, program: string, way: Way): Promise<string> {
  return onFileSystem(of, 4 * fullCaseBytes, async (mounted) => {
    const [log, image] = [join(mounted, 'log'), join(mounted, 'image')];
    await whole(mounted, program, 'fill', image, fullCaseBytes);
    await whole(mounted, program, 'log', log, fullCaseBytes);
    await whole(mounted, program, 'move', way, log, image, fullCaseBytes, mebibyte);
    const filled = await step(mounted, program, 'fill', join(mounted, 'other'), 16 * fullCaseBytes);
    if (filled.errno !== noSpace) throw new Error(`the file system is not full: errno ${filled.errno}`);
    const { bytes, errno } = await step(mounted, program, 'append', log, fullCaseBytes);
    const did = `${bytes / mebibyte} of ${fullCaseBytes / mebibyte} MiB`;
    return errno === 0 ? did : `${did}, then ${errno === noSpace ? 'ENOSPC' : `errno ${errno}`}`;
  });
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

type Turns = Readonly<Record<Way, Turn[]>>;

function line(of: FileSystem, kibibytes: number, turns: Turns): string {
  /** Medians of the times over those of copying, round by round. */
  const ratio = (way: Way, seconds: (turn: Turn) => number): string =>
    median(turns[way].map((one, round) => seconds(one) / seconds(turns.copy[round] ?? one))).toFixed(2);
  const extentsOf = (way: Way): number => median(turns[way].map((one) => one.extents));
  const cells = [
    `${of.name}, ${kibibytes} KiB`,
    `${(movedBytes / 1e6 / median(turns.copy.map(({ move }) => move))).toFixed(0)} MB/s`,
    ratio('share', ({ move }) => move),
    ratio('check', ({ move }) => move),
    ratio('share', ({ append }) => append),
    ratio('share', ({ move, append }) => move + append),
    // Instead of writing in place: a new file, where copying writes in place.
    median(
      turns.share.map((one, round) => {
        const copied = turns.copy[round] ?? one;
        return (one.move + one.renew) / (copied.move + copied.append);
      }),
    ).toFixed(2),
    ratio('share', ({ sequentialRead }) => sequentialRead),
    ratio('share', ({ randomRead }) => randomRead),
    `${extentsOf('copy')} / ${extentsOf('share')}`,
  ];
  return `| ${cells.join(' | ')} |`;
}

async function measure(program: string): Promise<void> {
  const chosen = fileSystems.filter(({ name }) => name.startsWith(values.only));
  console.log(`${values.mebibytes} MiB, ${rounds} rounds; times of sharing over those of copying, below 1 is faster`);
  const columns =
    'runs | copying | sharing | reading, then sharing | log again in place | move and log in place | move and a new log | image read in sequence | at random | extents of the image: copied / shared';
  console.log(`| ${columns} |\n|${' --- |'.repeat(columns.split('|').length)}`);
  for (const of of chosen) {
    for (const kibibytes of runKibibytes) {
      const turns: Turns = { copy: [], share: [], check: [] };
      for (let round = 0; round < rounds; round++)
        for (const way of ['copy', 'share', 'check'] as const)
          turns[way].push(await turn(of, program, way, kibibytes * 1024));
      console.log(line(of, kibibytes, turns));
    }
  }
  console.log(
    '\n| full file system: log written again in place | after copying | after sharing |\n| --- | --- | --- |',
  );
  for (const of of chosen)
    console.log(`| ${of.name} | ${await onFull(of, program, 'copy')} | ${await onFull(of, program, 'share')} |`);
}

async function main(): Promise<void> {
  const missing = missingProgram({ 'mkfs.xfs': 'xfsprogs', 'mkfs.btrfs': 'btrfs-progs', filefrag: 'e2fsprogs' });
  if (process.getuid?.() !== 0) throw new Error('bench:reflink mounts file systems, which only root may');
  if (missing !== undefined) throw new Error(missing);
  await mkdir(values.dir, { recursive: true });
  try {
    await measure(await compile('reflink', values.dir, []));
  } finally {
    await rm(values.dir, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
