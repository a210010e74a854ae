/**
 * `npm run bench:restore -- [--size GIB] [--segments N] [--rounds N] [--keep DIR]`: from the begin of a restore to the first
 * read that is served, of a volume that is completely mapped (default 1 TiB), out of a directory store; and how much memory
 * that took (VmHWM of a process of its own). The target is 5 s and 256 MiB. Then some reads of the rest, one at a time.
 *
 * The bucket is made first, which takes a minute and 0.2 % of the volume's size on the disk (mapped-bucket.ts).
 */
import { fork } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
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
import { BLOCK, contentOf, makeMappedBucket } from './mapped-bucket.js';

const GIB = 1024 ** 3;
const READS = 64;
const master = parseMasterKey(Buffer.alloc(32, 7).toString('base64'), 'the key of this bench');
const quiet: Log = {
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
  const status = await readFile('/proc/self/status', 'utf8');
  const residentMiB = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
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
        `first read served after ${(servedMs / 1000).toFixed(2)} s (restored after ${(restoredMs / 1000).toFixed(2)} s); ` +
          `reads that fetch: median ${sorted[sorted.length >> 1]?.toFixed(1)} ms, worst ${sorted.at(-1)?.toFixed(1)} ms; ` +
          `${Math.round(residentMiB)} MiB resident`,
      );
      for (const part of ['volume', 'scratch']) await rm(join(directory, part), { recursive: true });
    }
  } finally {
    if (values.keep === undefined) await rm(directory, { recursive: true });
  }
}

await main();
