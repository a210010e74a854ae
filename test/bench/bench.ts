/**
 * `npm run bench`: the gateway beside nbdkit, qemu-nbd and nbd-server over NBD, and beside tgt over iSCSI.
 *
 *   npm run bench -- [--rounds 3] [--seconds 3] [--only nbd|iscsi] [--job PART_OF_NAME] [--dir DIR] [--write]
 *                    [--upload 20MB/s] [--sustained] [--mebibytes 1024]
 *
 * Servers run on processor 0, clients on processor 1. Rounds are interleaved, gateway and peers in turn, and medians
 * are compared, so that a machine whose speed drifts decides nothing. The gateway uploads at 20 MB/s (--upload) while it is
 * measured; after each of its writing turns it catches up, at any rate, so that its background work burdens no other
 * turn. --sustained adds a minute of writing for each NBD server. --mebibytes is the volume's size, of which each server and the store
 * have a copy. --write puts the table into docs/performance.md.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { cpus, release } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { prepareClients } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { buildForcedBench, buildIscsiBench, measureForced, measureIscsi, measureNbd } from './job.js';
import { jobs, nbdJobs, sustainedJob, type Job, type Measured, type Seen } from './job.js';
import { serverProcessor, startPeers, type Peer } from './peer.js';
import { processorMilliseconds } from './processor-time.js';
import { settle, writeOut } from './settle.js';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '3' },
    only: { type: 'string' },
    job: { type: 'string', default: '' },
    dir: { type: 'string', default: '/var/tmp/keepgate-bench' },
    write: { type: 'boolean', default: false },
    upload: { type: 'string', default: '20MB/s' },
    sustained: { type: 'boolean', default: false },
    mebibytes: { type: 'string', default: '1024' },
  },
});
const seconds = Number(values.seconds);
const rounds = Number(values.rounds);
const volume = 'bench';
const limited = { upload: values.upload };
const mebibyte = 1024 * 1024;
const volumeMiB = Number(values.mebibytes);

type Measure = (server: Server, job: Job) => Promise<Measured>;
type Server = Pick<Peer, 'url' | 'pid'>;

interface Row {
  readonly protocol: string;
  readonly job: Job;
  readonly ours: Measured;
  readonly peers: readonly (Measured & { readonly name: string })[];
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function medians(runs: readonly Measured[]): Measured {
  const of = (figure: keyof Measured): number => median(runs.map((one) => one[figure]));
  return { operations: of('operations'), iops: of('iops'), p99Us: of('p99Us'), processorUs: of('processorUs') };
}

/** Adds what the server used meanwhile. */
function accounted(client: (url: string, job: Job) => Promise<Seen>): Measure {
  return async ({ url, pid }, job) => {
    const before = await processorMilliseconds(pid);
    const seen = await client(url, job);
    const usedMs = (await processorMilliseconds(pid)) - before;
    return { ...seen, processorUs: (usedMs * 1000) / seen.operations };
  };
}

async function compare(
  protocol: string,
  gateway: TestGateway,
  url: string,
  all: readonly Job[],
  peers: readonly Peer[],
  measure: Measure,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const job of all.filter((each) => each.name.includes(values.job))) {
    const ours: Measured[] = [];
    const theirs = peers.map((peer) => ({ peer, runs: [] as Measured[] }));
    // The first round is thrown away: the compiler is busy in it, and files come to be.
    for (let round = job.sustainedSeconds === undefined ? -1 : rounds - 1; round < rounds; round += 1) {
      const keep = <Each>(runs: Each[], run: Each): unknown => round >= 0 && runs.push(run);
      keep(ours, await measure({ url, pid: gateway.pid }, job));
      if (job.writes) await settle(gateway, [volume], limited);
      for (const { peer, runs } of theirs) {
        keep(runs, await measure(peer, job));
        if (job.writes) await writeOut();
      }
    }
    const row = {
      protocol,
      job,
      ours: medians(ours),
      peers: theirs.map(({ peer, runs }) => ({ name: peer.name, ...medians(runs) })),
    };
    console.log(line(row));
    rows.push(row);
  }
  return rows;
}

function bestPeer(row: Row): Measured & { readonly name: string } {
  const [best, ...others] = row.peers;
  if (best === undefined) throw new Error('there is no peer');
  return others.reduce((left, right) => (right.iops > left.iops ? right : left), best);
}

function shownProcessor(measured: Measured): string {
  return measured.processorUs.toFixed(measured.processorUs < 100 ? 1 : 0);
}

/** Operations per second, or megabytes where the operations are large. */
function shown(job: Job, measured: Measured): string {
  const rate =
    job.bytesPerIo >= mebibyte
      ? `${Math.round((measured.iops * job.bytesPerIo) / 1e6)} MB/s`
      : `${Math.round(measured.iops / 100) / 10} k/s`;
  return `${rate} (${Math.round(measured.p99Us)})`;
}

function line(row: Row): string {
  const ratio = (row.ours.iops / bestPeer(row).iops).toFixed(2);
  const theirs = row.peers.map((peer) => `${peer.name} ${shown(row.job, peer)}`).join(', ');
  const processor = [row.ours, ...row.peers].map(shownProcessor).join(', ');
  return `| ${row.protocol} | ${row.job.name} | ${shown(row.job, row.ours)} | ${theirs} | ${ratio} | ${processor} |`;
}

async function memory(gateway: TestGateway): Promise<string> {
  const status = await readFile(`/proc/${gateway.pid}/status`, 'utf8');
  const mebibytes = (name: string): number =>
    Math.round(Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0) / 1024);
  return `Resident memory of the gateway: ${mebibytes('VmHWM')} MiB at its highest, ${mebibytes('VmRSS')} MiB at the end.`;
}

async function writeSource(path: string): Promise<void> {
  const file = await open(path, 'w');
  for (let written = 0; written < volumeMiB; written += 16) await file.write(randomBytes(16 * mebibyte));
  await file.close();
}

async function writeTable(lines: readonly string[]): Promise<void> {
  const path = resolve(import.meta.dirname, '../../../docs/performance.md');
  const [begin, end] = ['<!-- table: begin -->', '<!-- table: end -->'];
  const text = await readFile(path, 'utf8');
  const before = text.slice(0, text.indexOf(begin) + begin.length);
  await writeFile(path, `${before}\n${lines.join('\n')}\n${text.slice(text.indexOf(end))}`);
}

async function main(): Promise<void> {
  for (const problem of await prepareClients(console.log)) console.log(problem);
  await rm(values.dir, { recursive: true, force: true });
  await mkdir(values.dir, { recursive: true });
  const source = join(values.dir, 'source.img');
  await writeSource(source);
  const peers = await startPeers(values.dir, source);
  const buffer = { size: '4GiB' };
  const gateway = await TestGateway.start({
    folder: join(values.dir),
    launcher: serverProcessor,
    bandwidth: limited,
    volumes: [{ name: volume, size: `${volumeMiB}MiB`, buffer }],
  });
  const lines: string[] = [];
  try {
    await run('nbdcopy', [source, gateway.nbdUri(volume)], { timeoutMs: 300_000 });
    await settle(gateway, [volume], limited);
    lines.push(
      '| | job | Keepgate: rate (99th percentile, µs) | peers | ratio to the best peer | processor time per operation, µs: Keepgate, peers |',
      '| --- | --- | --- | --- | --- | --- |',
    );
    if (values.only !== 'iscsi') {
      const forced = await buildForcedBench(values.dir);
      const measure = accounted((url, job) =>
        job.forced === true
          ? measureForced(forced, url, job, seconds)
          : measureNbd(url, job, job.sustainedSeconds ?? seconds),
      );
      const all = values.sustained ? [...nbdJobs, sustainedJob] : nbdJobs;
      lines.push(...(await compare('NBD', gateway, gateway.nbdUri(volume), all, peers.nbd, measure)).map(line));
    }
    if (values.only !== 'nbd') {
      const program = await buildIscsiBench(values.dir);
      const measure = accounted((url, job) => measureIscsi(program, url, job, seconds));
      lines.push(...(await compare('iSCSI', gateway, gateway.iscsiUrl(volume), jobs, peers.iscsi, measure)).map(line));
    }
    const machine = `${cpus()[0]?.model.trim() ?? 'unknown processor'}, ${cpus().length} processors, Linux ${release()}`;
    lines.push('', await memory(gateway), '', `Machine: ${machine}, Node ${process.version}.`);
    console.log(lines.slice(-3).join('\n'));
    if (values.write) await writeTable(lines);
  } finally {
    await gateway.kill();
    await peers.stop();
    await rm(values.dir, { recursive: true, force: true });
  }
}

await main();
