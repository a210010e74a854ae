/**
 * `npm run bench:drain`: how fast a backlog goes into a directory store, and what that costs the clients.
 *
 *   npm run bench:drain -- [--only sequential,random,write,read] [--rounds 3] [--mebibytes 1024] [--dir DIR]
 *
 * Rate: a backlog is written while the upload is held at 64 kB/s, and everything else has come to rest; then the limit is
 * lifted through the API. The rate is the backlog over the processor time that the whole process used until it was drained
 * (user and system, of all threads: reading the log, checking, sealing, writing, and committing), so that neighbours on
 * the machine count little. The wall-clock rate stands beside it.
 *
 * Latency: reads and writes, 4 KiB at depth 8, with the drain held and with the drain at full speed, in turn, every few
 * tenths of a second (paired-latency.ts).
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { prepareClients, requiredTool } from '../tool/clients.js';
import { TestGateway } from '../tool/gateway.js';
import { run } from '../tool/process.js';
import { PairedLatency, percentile } from './paired-latency.js';

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'sequential,random,write,read' },
    rounds: { type: 'string', default: '3' },
    mebibytes: { type: 'string', default: '1024' },
    dir: { type: 'string', default: '/var/tmp/keepgate-bench-drain' },
  },
});
const wanted = new Set(values.only.split(','));
const rounds = Number(values.rounds);
const backlogMiB = Number(values.mebibytes);
const volume = 'bench';
const mebibyte = 1024 * 1024;
const ticksPerSecond = 100; // USER_HZ, which Linux fixes for /proc.
const held = '64kB/s';

function median(numbers: readonly number[]): number {
  return [...numbers].sort((left, right) => left - right)[Math.floor(numbers.length / 2)] ?? 0;
}

async function limit(gateway: TestGateway, upload: string): Promise<void> {
  const token = (await readFile(join(gateway.dataDir, 'api-token'), 'utf8')).trim();
  const answer = await fetch(`${gateway.apiUrl}/v1/bandwidth`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ upload }),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

/** Processor seconds by thread, user and system apart. */
async function processorSeconds(pid: number): Promise<Map<string, number>> {
  const byThread = new Map<string, number>();
  for (const task of await readdir(`/proc/${pid}/task`)) {
    const stat = await readFile(`/proc/${pid}/task/${task}/stat`, 'utf8').catch(() => '');
    const name = /\((.*)\)/.exec(stat)?.[1] ?? '';
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const thread = Number(task) === pid ? 'main' : `${name}-${Number(task) - pid}`;
    for (const [kind, field] of [
      ['user', 11],
      ['system', 12],
    ] as const) {
      const used = Number(fields[field]) / ticksPerSecond;
      if (Number.isFinite(used)) byThread.set(`${thread} ${kind}`, used);
    }
  }
  return byThread;
}

function sum(byThread: ReadonlyMap<string, number>): number {
  return [...byThread.values()].reduce((total, used) => total + used, 0);
}

/** Waits until the process uses next to nothing: the destager has come to rest. */
async function settle(gateway: TestGateway): Promise<void> {
  for (let quiet = 0; quiet < 3;) {
    const before = sum(await processorSeconds(gateway.pid));
    await delay(500);
    quiet = sum(await processorSeconds(gateway.pid)) - before < 0.03 ? quiet + 1 : 0;
  }
}

async function pendingBytes(gateway: TestGateway): Promise<number> {
  return gateway.metric('keepgate_replication_pending_bytes', volume);
}

async function writeBacklog(gateway: TestGateway, source: string, kind: 'sequential' | 'random'): Promise<void> {
  if (kind === 'sequential') {
    await run(requiredTool('nbdcopy'), ['--flush', source, gateway.nbdUri(volume)], { timeoutMs: 300_000 });
    return;
  }
  await run(
    requiredTool('fio'),
    [
      ...[
        '--name=fill',
        '--ioengine=nbd',
        `--uri=${gateway.nbdUri(volume)}`,
        '--rw=randwrite',
        '--bs=4096',
        '--iodepth=32',
      ],
      ...[`--size=${backlogMiB}M`, '--randrepeat=0', '--refill_buffers', '--end_fsync=1'],
    ],
    { timeoutMs: 300_000 },
  );
}

async function drainRate(gateway: TestGateway, source: string, kind: 'sequential' | 'random'): Promise<void> {
  const perCore: number[] = [];
  const perSecond: number[] = [];
  let threads = new Map<string, number>();
  for (let round = 0; round < rounds; round += 1) {
    await limit(gateway, held);
    await writeBacklog(gateway, source, kind);
    await settle(gateway);
    const before = await processorSeconds(gateway.pid);
    const uploadedBefore = await gateway.metric('keepgate_uploaded_bytes_total', volume);
    const beganMs = performance.now();
    await limit(gateway, 'unlimited');
    await gateway.drain(volume, 600_000);
    const wallSeconds = (performance.now() - beganMs) / 1000;
    const after = await processorSeconds(gateway.pid);
    const bytes = (await gateway.metric('keepgate_uploaded_bytes_total', volume)) - uploadedBefore;
    threads = new Map([...after].map(([name, used]) => [name, used - (before.get(name) ?? 0)]));
    perCore.push(bytes / 1e6 / sum(threads));
    perSecond.push(bytes / 1e6 / wallSeconds);
  }
  const spent = [...threads]
    .filter(([, used]) => used >= 0.02)
    .sort((left, right) => right[1] - left[1])
    .map(([name, used]) => `${name} ${used.toFixed(2)} s`);
  const spread = `${Math.round(Math.min(...perCore))} to ${Math.round(Math.max(...perCore))}`;
  console.log(
    `| drain, ${kind} | ${Math.round(median(perCore))} MB/s per core used (${spread}) | ${Math.round(median(perSecond))} MB/s |`,
  );
  console.log(`  threads of the last round: ${spent.join(', ')}`);
}

async function latency(gateway: TestGateway, source: string, writes: boolean): Promise<void> {
  let paired = new PairedLatency();
  for (let round = -1; round < rounds; round += 1) {
    if (round === 0) paired = new PairedLatency();
    await limit(gateway, held);
    await writeBacklog(gateway, source, 'sequential');
    await settle(gateway);
    let uploaded = 0;
    await paired.measure({
      ...{ uri: gateway.nbdUri(volume), writes },
      enter: async (state) => {
        await limit(gateway, state === 'with' ? 'unlimited' : held);
        uploaded = await gateway.metric('keepgate_uploaded_bytes_total', volume);
        // What is on its way arrives, and another segment begins.
        await delay(150);
      },
      held: async () => {
        const now = await gateway.metric('keepgate_uploaded_bytes_total', volume);
        return { counts: now - uploaded > 8 * mebibyte, goesOn: (await pendingBytes(gateway)) > 64 * mebibyte };
      },
    });
    await limit(gateway, 'unlimited');
    await gateway.drain(volume, 600_000);
  }
  const { all, pairs } = paired;
  const ratios = pairs.map((pair) => pair.with / pair.without).sort((left, right) => left - right);
  const of = (state: 'without' | 'with', fraction: number): number => Math.round(percentile(all[state], fraction));
  const quartiles = [0.25, 0.5, 0.75].map((fraction) => percentile(ratios, fraction).toFixed(2));
  for (const [name, fraction] of [
    ['median', 0.5],
    ['99th percentile', 0.99],
  ] as const) {
    const ratio = (of('with', fraction) / of('without', fraction)).toFixed(2);
    const what = `${name} of a random ${writes ? 'write' : 'read'}, 4 KiB, depth 8`;
    console.log(
      `| ${what} | ${of('without', fraction)} us without | ${of('with', fraction)} us with a drain | ${ratio} |`,
    );
  }
  console.log(`  ratios of ${pairs.length} pairs of 99th percentiles, quartiles: ${quartiles.join(', ')}`);
}

async function main(): Promise<void> {
  for (const problem of await prepareClients(console.log)) console.log(problem);
  await rm(values.dir, { recursive: true, force: true });
  await mkdir(values.dir, { recursive: true });
  const source = join(values.dir, 'source.img');
  const file = await open(source, 'w');
  for (let written = 0; written < backlogMiB; written += 16) await file.write(randomBytes(16 * mebibyte));
  await file.close();
  const gateway = await TestGateway.start({
    folder: values.dir,
    bandwidth: { upload: held },
    volumes: [{ name: volume, size: `${backlogMiB}MiB`, buffer: { size: '8GiB' } }],
  });
  try {
    if (wanted.has('sequential')) await drainRate(gateway, source, 'sequential');
    if (wanted.has('random')) await drainRate(gateway, source, 'random');
    if (wanted.has('write')) await latency(gateway, source, true);
    if (wanted.has('read')) await latency(gateway, source, false);
  } finally {
    await gateway.dispose();
    await rm(values.dir, { recursive: true, force: true });
  }
}

await main();
