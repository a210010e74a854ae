/**
 * `npm run bench:restore -- [--size GIB] [--segments N] [--rounds N] [--keep DIR]`: from the begin of a restore to the first
 * read that is served, of a volume that is completely mapped (default 1 TiB), out of a directory store; and how much memory
 * that took (VmHWM). The target is 5 s and 256 MiB. Each round has three parts:
 *
 *   in one process   the restore, the opening of the volume, its first read, and more reads of what is not here yet
 *   stopped          `keepgate restore` from its start to its end, then a gateway from its start to its first read over NBD
 *   running          `keepgate restore` through the API of a gateway that runs, and the first read over NBD
 *
 * The bucket is made first, which takes a minute and 0.2 % of the volume's size on the disk (mapped-bucket.ts).
 */
import { fork } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { createHydrating } from '../../src/engine/hydration-open.js';
import { Volume } from '../../src/engine/volume.js';
import { createSystemPorts } from '../../src/gateway/system-ports.js';
import { FileStore } from '../../src/platform/file-store.js';
import type { Log } from '../../src/ports/log.js';
import type { ObjectStore, StoreRequest } from '../../src/ports/object-store.js';
import { Hydrator } from '../../src/remote/hydrator.js';
import { parseMasterKey } from '../../src/remote/key.js';
import { restoreInstant } from '../../src/remote/restore-instant.js';
import { CMD, NbdClient } from '../fake/nbd-client.js';
import { keepgatePath, TestGateway } from '../tool/gateway.js';
import { attempt } from '../tool/process.js';
import { BLOCK, contentOf, makeMappedBucket } from './mapped-bucket.js';

const GIB = 1024 ** 3;
const READS = 64;
const master = parseMasterKey(Buffer.alloc(32, 7).toString('base64'), 'the key of this bench');
const quiet: Log = {
  debugs: false,
  debug: () => undefined,
  info: () => undefined,
  warn: console.error,
  error: console.error,
  child: () => quiet,
};

/** What a child finds. */
interface Found {
  readonly restoredMs: number;
  readonly servedMs: number;
  readonly readMs: readonly number[];
  readonly residentMiB: number;
}

/** Restores the bucket in `directory`/bucket into `directory`/volume, and reads blocks of `readable`. */
async function restore(directory: string, readable: readonly number[]): Promise<Found> {
  const ports = createSystemPorts();
  const { checksums, clock, random, bootId } = ports;
  const store = await FileStore.open({ location: join(directory, 'bucket'), create: false, random });
  const disk = ports.openDisk(join(directory, 'volume'));
  const scratch = ports.openDisk(join(directory, 'scratch'));
  const begunMs = performance.now();
  const common = { store, masters: [master], reader: 'bench', checksums, clock, random, log: quiet };
  await restoreInstant({
    ...common,
    volume: 'disk0',
    takeOver: false,
    acceptLoss: false,
    scratch,
    location: {},
    create: ({ uuid, name, sizeBytes, source, pins }) =>
      createHydrating({ disk, checksums, random, uuid, name, sizeBytes, source, pins }),
  });
  const restoredMs = performance.now() - begunMs;
  const fatal = (error: unknown): void => {
    console.error(error);
    process.exit(1);
  };
  const volume = await Volume.open({
    disk,
    checksums,
    clock,
    random,
    log: quiet,
    bootId,
    name: 'disk0',
    minimumSizeBytes: 0,
    bufferBytes: 64 * 1024 * 1024,
    whenFull: 'throttle',
    fullTimeoutMs: 30_000,
    readOnly: false,
    replicated: false,
    provision: 'thin',
    onFatal: fatal,
  });
  if (volume.hydration === undefined) throw new Error('the volume has everything already');
  // Most segments have no data: nobody fills.
  const never = {
    get: (_key: string, { signal }: StoreRequest = {}) => untilAborted(signal),
  } as unknown as ObjectStore;
  const hydrator = new Hydrator({ ...common, volume: volume.hydration, disk, background: never, failed: fatal });
  hydrator.start();
  const readMs: number[] = [];
  let servedMs = 0;
  for (let read = 0; read < READS; read++) {
    const first = readable[(read * 37) % readable.length] ?? 0;
    const block = first + ((read * 677) % 2048);
    const startedMs = performance.now();
    const target = new Uint8Array(BLOCK);
    await new Promise<void>((resolve, reject) => {
      const done = (error: Error | undefined): void => (error === undefined ? resolve() : reject(error));
      if (volume.read(block * BLOCK, BLOCK, target, 0, { done })) resolve();
    });
    if (Buffer.compare(target, contentOf(block)) !== 0) throw new Error(`block ${block} is not what was written`);
    if (read === 0) servedMs = performance.now() - begunMs;
    else readMs.push(performance.now() - startedMs);
  }
  const residentMiB = await residentOf('self');
  await hydrator.stop();
  await volume.close();
  return { restoredMs, servedMs, readMs, residentMiB };
}

function untilAborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('aborted'))));
}

async function inChild(directory: string, readable: readonly number[]): Promise<Found> {
  const child = fork(import.meta.filename, ['--child', directory]);
  return new Promise((resolve, reject) => {
    child.on('message', (message) => resolve(message as Found));
    child.on('exit', (code) => reject(new Error(`the restore ended with ${code}`)));
    child.send(readable);
  });
}

/** A read over NBD, which must give what was written. */
async function readOver(gateway: TestGateway, volume: string, block: number): Promise<void> {
  const client = await NbdClient.attach({ host: '127.0.0.1', port: gateway.nbdPort }, volume);
  const { error, data } = await client.request({ type: CMD.READ, offset: block * BLOCK, length: BLOCK });
  await client.disconnect();
  if (error !== 0 || Buffer.compare(data, contentOf(block)) !== 0) {
    throw new Error(`block ${block} is not what was written (error ${error})\n${gateway.log()}`);
  }
}

const residentOf = async (pid: number | 'self'): Promise<number> =>
  Number(/VmHWM:\s+(\d+)/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

interface Cost {
  readonly commandMs: number;
  readonly servedMs: number;
  readonly residentMiB: number;
}

interface Commands {
  readonly stopped: Cost;
  readonly running: Cost;
}

/** What a user sees, in a folder of its own. */
async function restoreByCommand(directory: string, readable: readonly number[]): Promise<Commands> {
  const folder = join(directory, 'gateway');
  const keyFile = join(folder, 'key');
  await mkdir(folder);
  await writeFile(keyFile, `${Buffer.from(master.bytes).toString('base64')}\n`, { mode: 0o600 });
  const from = ['restore', 'disk0', '--from', `file://${join(directory, 'bucket')}`, '--key-file', keyFile];
  const [first = 0, second = 0] = readable.slice(5);
  let begunMs = performance.now();
  const args = [keepgatePath, ...from, '--as', 'copy0', '--data-dir', join(folder, 'data')];
  const ended = await attempt(process.execPath, args);
  if (ended.status !== 0) throw new Error(ended.stderr);
  const stoppedMs = performance.now() - begunMs;
  const settings = { buffer: { size: '64MiB' }, replicate: { enabled: false } };
  const gateway = await TestGateway.start({ folder, volumes: [{ name: 'copy0', size: '1MiB', ...settings }] });
  try {
    await readOver(gateway, 'copy0', first + 77);
    const servedMs = performance.now() - begunMs;
    const stopped = { commandMs: stoppedMs, servedMs, residentMiB: await residentOf(gateway.pid) };
    begunMs = performance.now();
    const added = await gateway.command([...from, '--as', 'copy1']);
    if (added.status !== 0) throw new Error(added.stderr);
    const commandMs = performance.now() - begunMs;
    await readOver(gateway, 'copy1', second + 99);
    const running = { commandMs, servedMs: performance.now() - begunMs, residentMiB: await residentOf(gateway.pid) };
    return { stopped, running };
  } finally {
    await gateway.dispose();
    await rm(folder, { recursive: true });
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      size: { type: 'string', default: '1024' },
      segments: { type: 'string', default: '64' },
      rounds: { type: 'string', default: '3' },
      keep: { type: 'string' },
      child: { type: 'string' },
    },
  });
  const { child } = values;
  if (child !== undefined) {
    const readable = await new Promise<readonly number[]>((resolve) => {
      process.once('message', (message) => resolve(message as readonly number[]));
    });
    process.send?.(await restore(child, readable));
    process.disconnect();
    return;
  }
  const directory = values.keep ?? (await mkdtemp(join(tmpdir(), 'keepgate-restore-')));
  try {
    const { checksums, random } = createSystemPorts();
    await mkdir(join(directory, 'bucket'), { recursive: true });
    const madeMs = performance.now();
    const bucket = await makeMappedBucket({
      directory: join(directory, 'bucket'),
      master,
      checksums,
      random,
      name: 'disk0',
      sizeBytes: Number(values.size) * GIB,
      segments: Number(values.segments),
    });
    const seconds = ((performance.now() - madeMs) / 1000).toFixed(0);
    console.log(`a bucket of ${values.size} GiB, completely mapped: ${bucket.objects} objects, made in ${seconds} s`);
    for (let round = 1; round <= Number(values.rounds); round++) {
      for (const part of ['volume', 'scratch']) await mkdir(join(directory, part), { recursive: true });
      const { restoredMs, servedMs, readMs, residentMiB } = await inChild(directory, bucket.readable);
      const sorted = readMs.toSorted((left, right) => left - right);
      console.log(
        `in one process: first read served after ${(servedMs / 1000).toFixed(2)} s (restored after ${(restoredMs / 1000).toFixed(2)} s); ` +
          `reads that fetch: median ${sorted[sorted.length >> 1]?.toFixed(1)} ms, worst ${sorted.at(-1)?.toFixed(1)} ms; ` +
          `${Math.round(residentMiB)} MiB resident`,
      );
      for (const part of ['volume', 'scratch']) await rm(join(directory, part), { recursive: true });
      const commands = await restoreByCommand(directory, bucket.readable);
      for (const [how, one] of Object.entries(commands) as [string, Cost][]) {
        const [command, served] = [one.commandMs, one.servedMs].map((ms) => (ms / 1000).toFixed(2));
        console.log(
          `${how}: command done after ${command} s, first read served after ${served} s, ${Math.round(one.residentMiB)} MiB resident`,
        );
      }
    }
  } finally {
    if (values.keep === undefined) await rm(directory, { recursive: true });
  }
}

await main();
