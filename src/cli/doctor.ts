/**
 * `keepgate doctor`: looks at everything that a gateway needs on this machine and in its store; one line for each, the
 * fix included. Changes nothing but a scratch object in the store.
 */
import { release } from 'node:os';
import { GatewayError, errorCodes } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { formatListenAddress } from '../config/listen-address.js';
import { formatBytes } from '../config/quantity.js';
import { openStore } from '../gateway/open-store.js';
import { loadTlsSecurity } from '../gateway/tls-credentials.js';
import { readRunFile } from '../gateway/run-file.js';
import { loadAddon } from '../platform/addon.js';
import { sendRequest } from '../platform/http-client.js';
import { takeProcessRights } from '../platform/process-rights.js';
import { readSecretFile } from '../platform/secret-file.js';
import { NetStreamFactory } from '../platform/socket-listener.js';
import { ensureWritableDirectory, exists, freeSpace, readTextFile } from '../platform/text-file.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { parseMasterKey } from '../remote/key.js';
import { probeConditionalPut } from '../remote/store-probe.js';
import { bucketFindings } from './doctor-bucket.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import type { Terminal } from './terminal.js';

/** `wrong`: the gateway will not work; `note`: it will, less well. */
type Verdict = 'ok' | 'note' | 'wrong';

interface Finding {
  readonly verdict: Verdict;
  readonly what: string;
  readonly text: string;
}

export interface DoctorOptions {
  readonly configuration: Configuration;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
}

/** This program is newer than any clock that shows an earlier time. */
const wallMsMin = Date.UTC(2026, 0);
const storeMsMax = 20_000;
const silent: Log = {
  debugs: false,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

/** Exit code 1 when something is wrong. */
export async function doctor(options: DoctorOptions): Promise<ExitCode> {
  let wrong = 0;
  for await (const { verdict, what, text } of findings(options)) {
    if (verdict === 'wrong') wrong++;
    options.terminal.print(`${verdict.padEnd(5)}  ${what}: ${text}`);
  }
  return wrong === 0 ? exitCodes.done : exitCodes.failed;
}

async function* findings(options: DoctorOptions): AsyncGenerator<Finding> {
  const { configuration } = options;
  yield await checked('addon', () => `loaded, checksums by ${loadAddon().checksumKernel()}`);
  yield await checked('data directory', () => checkDirectory(configuration));
  yield checkClock(options.clock);
  for (const { name, granted, detail } of takeProcessRights()) {
    yield { verdict: granted ? 'ok' : 'note', what: name, text: detail };
  }
  yield* checkPorts(configuration);
  yield* checkTls(configuration, options.clock);
  if (configuration.volumes.some(({ replicate }) => replicate)) {
    yield await checkKey(configuration);
    yield await checkStore(options);
    yield* checkBucket(configuration);
  }
  yield await checkModule('nbd', 'attaching over NBD on this machine');
  yield await checkModule('tls', 'attaching over NBD with TLS on this machine');
  yield await checkModule('iscsi_tcp', 'attaching over iSCSI on this machine');
}

/** A check's answer, or what it threw with what to do. */
async function checked(what: string, check: () => string | Promise<string>): Promise<Finding> {
  try {
    return { verdict: 'ok', what, text: await check() };
  } catch (error) {
    const text = error instanceof GatewayError ? `${error.message}. ${errorCodes[error.code].action}` : String(error);
    return { verdict: 'wrong', what, text };
  }
}

async function checkDirectory({ dataDir, volumes, demonstration }: Configuration): Promise<string> {
  if (demonstration && !(await exists(dataDir))) return `${dataDir} will be made by the demonstration`;
  await ensureWritableDirectory(dataDir, 'dataDir');
  const free = await freeSpace(dataDir);
  const needed = volumes.reduce((sum, { sizeBytes, bufferBytes }) => sum + sizeBytes + bufferBytes, 0);
  const text = `${dataDir} has ${formatBytes(free)} free; full volumes and buffers take ${formatBytes(needed)}`;
  if (free < needed) throw new GatewayError('disk-full', `${text} (what is there already counts towards that)`);
  return text;
}

function checkClock(clock: Clock): Finding {
  const time = new Date(clock.wallMs()).toISOString();
  return clock.wallMs() >= wallMsMin
    ? { verdict: 'ok', what: 'clock', text: time }
    : { verdict: 'wrong', what: 'clock', text: `${time} is in the past; S3 refuses it: run a time service` };
}

async function* checkPorts(configuration: Configuration): AsyncGenerator<Finding> {
  const running = await isRunning(configuration);
  const streams = new NetStreamFactory({ log: silent });
  const wanted = [
    ...(configuration.nbd.enabled ? configuration.nbd.listen.map((address) => ['nbd.listen', address] as const) : []),
    ...(configuration.iscsi.enabled
      ? configuration.iscsi.listen.map((address) => ['iscsi.listen', address] as const)
      : []),
    ['api.listen', configuration.api.listen] as const,
  ];
  for (const [setting, address] of wanted) {
    const name = formatListenAddress(address);
    if (running) {
      yield { verdict: 'ok', what: setting, text: `${name}: this gateway is running` };
      continue;
    }
    if (address.kind === 'systemd') {
      yield { verdict: 'ok', what: setting, text: `${name} comes from its socket unit` };
      continue;
    }
    yield await checked(setting, async () => {
      const listener = await streams.listen({ address, setting, accept: () => undefined });
      await listener.close();
      return `${name} is free`;
    });
  }
}

async function isRunning(configuration: Configuration): Promise<boolean> {
  const run = await readRunFile(configuration.dataDir);
  if (run === undefined) return false;
  return sendRequest({ address: run.api, method: 'GET', path: '/livez', timeoutMs: 2000 }).then(
    ({ status }) => status === 200,
    () => false,
  );
}

async function* checkTls({ nbd }: Configuration, clock: Clock): AsyncGenerator<Finding> {
  if (!nbd.enabled || nbd.tls.mode === 'off') return;
  yield await checked('nbd.tls', async () => {
    const { warnings } = await loadTlsSecurity(nbd.tls, clock.wallMs());
    return warnings.length === 0 ? `${nbd.tls.mode}; certificates and keys can be used` : warnings.join('; ');
  });
}

async function checkKey({ keyFile, demonstration }: Configuration): Promise<Finding> {
  if (demonstration && !(await exists(keyFile))) {
    return { verdict: 'ok', what: 'key', text: `${keyFile} will be made by the demonstration` };
  }
  return checked('key', async () => {
    const { id } = parseMasterKey(await readSecretFile(keyFile, 'key'), keyFile);
    return `${keyFile} holds key ${id}; see that a copy lies off this machine`;
  });
}

async function checkStore({ configuration, random, clock }: DoctorOptions): Promise<Finding> {
  const { store: chosen, demonstration } = configuration;
  if (chosen === undefined) return { verdict: 'wrong', what: 'store', text: 'store.url is missing' };
  const deletes = configuration.volumes.some(({ compaction }) => compaction);
  let refusal: GatewayError | undefined;
  const finding = await checked('store', async () => {
    const store = openStore({ store: chosen, create: demonstration, random });
    try {
      const { conditionalPut, detail } = await probeConditionalPut(store, {
        random,
        clock,
        signal: AbortSignal.timeout(storeMsMax),
        appendOnly: !deletes,
        refused: (error) => (refusal = error),
      });
      if (!conditionalPut && chosen.fencing === 'auto') {
        throw new GatewayError('store-no-conditional-put', `${store.description}: ${detail}`);
      }
      await checkAbsence(store, random);
      return `${store.description} answers; ${detail}`;
    } finally {
      await store.close();
    }
  });
  // A store that is not there at all refuses deletes as well, which says nothing.
  if (refusal === undefined || finding.verdict !== 'ok') return finding;
  const text = `${finding.text}; it lets nobody delete, so that the bucket grows with every write: ${deletionAdvice}`;
  return { ...finding, verdict: 'note', text };
}

/** A chain of segments ends where the next one is absent: a store that forbids to see that stops the replication. */
async function checkAbsence(store: ObjectStore, random: Random): Promise<void> {
  try {
    await store.get(`probe-${random.uuid()}`, { signal: AbortSignal.timeout(storeMsMax) });
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code === 'object-missing') return;
    if (error.code !== 'store-forbidden') throw error;
    const advice = 'what is absent must be answered with 404: allow s3:ListBucket, on older Ceph without any condition';
    throw new GatewayError(error.code, `${error.message}: ${advice}`, { cause: error });
  }
}

const deletionAdvice = 'allow s3:DeleteObject, or say that this is meant by compaction: off of each volume';

/** What the bucket's own settings do; a directory has none. */
async function* checkBucket({ store }: Configuration): AsyncGenerator<Finding> {
  if (store?.url.startsWith('s3:') !== true) return;
  // The SDK costs a third of a second: loaded only where it is needed.
  const { readBucketRules } = await import('../platform/s3-bucket-rules.js');
  yield* bucketFindings(await readBucketRules(store, AbortSignal.timeout(storeMsMax)));
}

/** Modules may be loaded, built in, or there to be loaded. */
async function checkModule(name: string, need: string): Promise<Finding> {
  const what = `kernel module ${name}`;
  const directory = `/lib/modules/${release()}`;
  if (await exists(`/sys/module/${name}`)) return { verdict: 'ok', what, text: 'loaded' };
  for (const file of ['modules.builtin', 'modules.dep']) {
    const text = await readTextFile(`${directory}/${file}`).catch(() => undefined);
    if (text?.includes(`/${name}.ko`) === true)
      return { verdict: 'ok', what, text: `there; modprobe ${name} loads it` };
  }
  return { verdict: 'note', what, text: `not found in ${directory}; needed only for ${need}` };
}
