/** What `keepgate doctor` looks at, one finding after the other. Changes nothing but a scratch object in the store. */
import { release } from 'node:os';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { formatListenAddress } from '../config/listen-address.js';
import { formatBytes } from '../config/quantity.js';
import { loadApiToken, loadChap } from '../gateway/identity.js';
import { openStore } from '../gateway/open-store.js';
import { loadTlsSecurity } from '../gateway/tls-credentials.js';
import { readRunFile } from '../gateway/run-file.js';
import { isRoot, loadKernelModule } from '../platform/kernel-module.js';
import { loadAddon } from '../platform/addon.js';
import { sendRequest } from '../platform/http-client.js';
import { takeProcessRights } from '../platform/process-rights.js';
import { readSecretFile } from '../platform/secret-file.js';
import { NetStreamFactory } from '../platform/socket-listener.js';
import { checkDirectoryCanBeMade, ensureWritableDirectory, exists, freeSpace } from '../platform/text-file.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { parseMasterKey } from '../remote/key.js';
import { probeConditionalPut } from '../remote/store-probe.js';
import { moduleState } from './client-machine.js';
import type { ModuleName } from './client-machine.js';
import { bucketFindings } from './doctor-bucket.js';
import { checked, found } from './doctor-finding.js';
import type { Finding } from './doctor-finding.js';
import { storePatience } from './store-patience.js';

export interface CheckOptions {
  readonly configuration: Configuration;
  readonly random: Random;
  readonly clock: Clock;
}

/** This program is newer than any clock that shows an earlier time. */
const wallMsMin = Date.UTC(2026, 0);
const storeSecondsMax = 20;
const silent: Log = {
  debugs: false,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

export async function* findings(options: CheckOptions): AsyncGenerator<Finding> {
  const { configuration } = options;
  yield await checked('addon', () => `loaded, checksums by ${loadAddon().checksumKernel()}`);
  yield await checkDataDirectory(configuration);
  yield checkClock(options.clock);
  for (const { name, granted, detail } of takeProcessRights()) {
    yield { verdict: granted ? 'ok' : 'note', what: name, text: detail };
  }
  yield* checkPorts(configuration);
  yield* checkTls(configuration, options.clock);
  yield* checkSecrets(configuration, options.random);
  if (configuration.volumes.some(({ replicate }) => replicate)) {
    yield await checkKey(configuration);
    yield await checkStore(options);
    yield* checkBucket(configuration, options.clock);
  }
  yield await checkModule('nbd', 'attaching over NBD on this machine');
  yield await checkModule('tls', 'attaching over NBD with TLS on this machine');
  yield await checkModule('iscsi_tcp', 'attaching over iSCSI on this machine');
}

async function checkDataDirectory(configuration: Configuration): Promise<Finding> {
  const { dataDir, demonstration } = configuration;
  const what = 'data directory';
  if (await exists(dataDir)) return checked(what, () => checkSpace(configuration));
  if (demonstration) return found('ok', what, `${dataDir} will be made by the demonstration`);
  const creatable = await checked(what, async () => {
    await checkDirectoryCanBeMade(dataDir, 'dataDir');
    return dataDir;
  });
  if (creatable.verdict === 'wrong') return creatable;
  const text = `${dataDir} is not there yet: the gateway makes it, readable by its own user alone. If it is to be a mount of its own, mount that first`;
  return {
    ...found('note', what, text),
    repair: {
      command: `mkdir -p -m 700 ${dataDir}`,
      run: () => ensureWritableDirectory(dataDir, 'dataDir'),
      again: () => checkDataDirectory(configuration),
    },
  };
}

async function checkSpace({ dataDir, volumes }: Configuration): Promise<string> {
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

/** What the API and iSCSI ask for. */
async function* checkSecrets({ api, iscsi, volumes }: Configuration, random: Random): AsyncGenerator<Finding> {
  const what = 'API token';
  if (await exists(api.tokenFile)) {
    yield await checked(what, async () => {
      await loadApiToken(api.tokenFile, random);
      return api.tokenFile;
    });
  }
  if (!iscsi.enabled) return;
  const chaps = [
    ['discovery', iscsi.discoveryChap] as const,
    ...volumes.map(({ name, chap }) => [name, chap] as const),
  ];
  for (const [of, chap] of chaps) {
    if (chap === undefined) continue;
    yield await checked(`CHAP secret of ${of}`, async () => {
      await loadChap(chap);
      return `${chap.secretFile} can be used`;
    });
  }
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

async function checkStore({ configuration, random, clock }: CheckOptions): Promise<Finding> {
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
        signal: storePatience(clock, storeSecondsMax),
        appendOnly: !deletes,
        refused: (error) => (refusal = error),
      });
      if (!conditionalPut && chosen.fencing === 'auto') {
        throw new GatewayError('store-no-conditional-put', `${store.description}: ${detail}`);
      }
      await checkAbsence(store, random, clock);
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
async function checkAbsence(store: ObjectStore, random: Random, clock: Clock): Promise<void> {
  try {
    await store.get(`probe-${random.uuid()}`, { signal: storePatience(clock, storeSecondsMax) });
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code === 'object-missing') return;
    if (error.code !== 'store-forbidden') throw error;
    const advice = 'what is absent must be answered with 404: allow s3:ListBucket, on older Ceph without any condition';
    throw new GatewayError(error.code, `${error.message}: ${advice}`, { cause: error });
  }
}

const deletionAdvice = 'allow s3:DeleteObject, or say that this is meant by compaction: off of each volume';

/** What the bucket's own settings do; a directory has none. */
async function* checkBucket({ store }: Configuration, clock: Clock): AsyncGenerator<Finding> {
  if (store?.url.startsWith('s3:') !== true) return;
  // The SDK costs a third of a second: loaded only where it is needed.
  const { readBucketRules } = await import('../platform/s3-bucket-rules.js');
  yield* bucketFindings(await readBucketRules(store, storePatience(clock, storeSecondsMax)));
}

async function checkModule(name: ModuleName, need: string): Promise<Finding> {
  const what = `kernel module ${name}`;
  const state = await moduleState(name);
  if (state === 'ready') return found('ok', what, 'loaded, or part of the kernel');
  if (state === 'absent') return found('note', what, `not found in /lib/modules/${release()}; needed only for ${need}`);
  const finding = found('ok', what, `there; modprobe ${name} loads it`);
  if (!isRoot()) return finding;
  const repair = {
    command: `modprobe ${name}`,
    run: () => loadKernelModule(name),
    again: () => checkModule(name, need),
  };
  return { ...finding, repair };
}
