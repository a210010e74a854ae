/** `keepgate remote verify URL VOLUME` and `keepgate remote rm URL VOLUME`. */
import { hostname } from 'node:os';
import { createInterface } from 'node:readline/promises';
import { join, resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { TokenBucket } from '../bandwidth/token-bucket.js';
import { WrongValue } from '../config/problem.js';
import { formatBytes, formatDuration, parseRateLimit } from '../config/quantity.js';
import { createSystemPorts } from '../gateway/system-ports.js';
import { levelsOf } from '../platform/log-levels.js';
import { createLog } from '../platform/pino-log.js';
import { listDirectory, readTextFile } from '../platform/text-file.js';
import { UNLIMITED } from '../ports/bandwidth.js';
import type { RateLimit } from '../ports/bandwidth.js';
import type { Clock } from '../ports/clock.js';
import type { Random } from '../ports/random.js';
import { parseReceipt } from '../remote/receipt.js';
import { removeRemote } from '../remote/remote-remove.js';
import type { Removal } from '../remote/remote-remove.js';
import { verifyRemote } from '../remote/remote-verify.js';
import type { Verified } from '../remote/remote-verify.js';
import { LimitedStore } from '../remote/store-limit.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { describePoint, pointAsJson } from '../remote/segment-point.js';
import { findConfiguration } from './find-configuration.js';
import { Progress } from './progress.js';
import { openRemote } from './remote-access.js';
import type { StoreFlags } from './remote-access.js';
import type { Terminal } from './terminal.js';

export interface VerifyFlags extends StoreFlags {
  readonly receipt?: string;
  readonly rate?: string;
  readonly json?: boolean;
}

export interface RemoveFlags extends StoreFlags {
  readonly json?: boolean;
  readonly force?: boolean;
  readonly confirm?: string;
}

interface RemoteCommand<Flags> {
  readonly url: string;
  readonly volume: string;
  readonly flags: Flags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
}

export async function verify(options: RemoteCommand<VerifyFlags>): Promise<ExitCode> {
  const { volume, flags, terminal, clock, random } = options;
  const configuration = await findConfiguration(flags);
  const receiptText = flags.receipt === undefined ? undefined : await readTextFile(resolve(flags.receipt));
  if (flags.receipt !== undefined && receiptText === undefined) {
    throw new GatewayError('config-invalid', `--receipt: there is no file ${flags.receipt}`);
  }
  const bytesPerSecond = rateOf(flags.rate) ?? fixed(configuration.bandwidth.download) ?? UNLIMITED;
  const { store, master } = await openRemote({ ...options, configuration, patient: true });
  const bucket = new TokenBucket({ clock, bytesPerSecond });
  const progress = new Progress({ title: `verifying ${volume}`, terminal, clock });
  try {
    const verified = await verifyRemote({
      store: new LimitedStore(store, { upload: bucket, download: bucket, lane: volume }),
      masters: [master],
      volume,
      ...(receiptText === undefined ? {} : { receipt: parseReceipt(receiptText, flags.receipt ?? '') }),
      reader: hostname(),
      checksums: createSystemPorts().checksums,
      clock,
      random,
      log: createLog(levelsOf('error')),
      ...(flags.json === true ? {} : { progress: (done, total) => progress.update(done, total) }),
    });
    progress.end();
    if (flags.json === true) terminal.print(JSON.stringify(asJson(verified)));
    else for (const line of lines(verified)) terminal.print(line);
    return verified.findings.length === 0 ? exitCodes.done : exitCodes.failed;
  } finally {
    progress.end();
    await store.close();
  }
}

function rateOf(text: string | undefined): number | undefined {
  try {
    if (text === 'auto') throw new WrongValue('auto is for a running gateway; write a rate such as 20MB/s');
    return text === undefined ? undefined : fixed(parseRateLimit(text));
  } catch (error) {
    if (!(error instanceof WrongValue)) throw error;
    throw new GatewayError('config-invalid', `--rate: ${error.message}`);
  }
}

function fixed(limit: RateLimit): number | undefined {
  return limit === 'auto' ? undefined : limit;
}

function lines({ name, uuid, objects, bytes, recoveryPoint, findings, strangers }: Verified): string[] {
  const point = describePoint(recoveryPoint);
  const found = findings.length === 0 ? 'nothing is missing or damaged' : `${findings.length} found`;
  return [
    ...findings.map(({ object, problem }) => (problem.startsWith(object) ? problem : `${object}: ${problem}`)),
    ...(strangers > 0 ? [`${strangers} objects in its folder are none of Keepgate’s`] : []),
    `${name} (${uuid}): ${objects} objects, ${formatBytes(bytes)}, ${point}: ${found}`,
  ];
}

function asJson(verified: Verified): object {
  const { recoveryPoint, ...rest } = verified;
  return {
    ...rest,
    recoveryPoint: pointAsJson(recoveryPoint),
  };
}

export async function remove(options: RemoteCommand<RemoveFlags>): Promise<ExitCode> {
  const { volume, flags, terminal, clock, random } = options;
  const configuration = await findConfiguration(flags);
  const { store, master } = await openRemote({ ...options, configuration });
  const progress = new Progress({ title: `removing ${volume}`, unit: 'objects', terminal, clock });
  try {
    const removed = await removeRemote({
      store,
      masters: [master],
      volume,
      random,
      request: {},
      force: flags.force === true,
      ...(flags.json === true ? {} : { progress: (done, total) => progress.update(done, total) }),
      confirm: async (what) => {
        await refuseOwn(what, configuration.dataDir, flags.force === true);
        return confirmed(what, flags.confirm, terminal);
      },
    });
    progress.end();
    if (removed === undefined) {
      terminal.note('keepgate: that is not its name; nothing was removed');
      return exitCodes.failed;
    }
    const { uuid, name = uuid, objects, bytes } = removed;
    if (flags.json === true) terminal.print(JSON.stringify({ uuid, name: removed.name ?? null, objects, bytes }));
    else terminal.print(`removed ${name}: ${objects} objects, ${formatBytes(bytes)}`);
    return exitCodes.done;
  } finally {
    progress.end();
    await store.close();
  }
}

/** A volume that this machine's gateway replicates is owned, however long it has been idle. */
async function refuseOwn({ uuid, name }: Removal, dataDir: string, force: boolean): Promise<void> {
  if (force) return;
  const volumes = join(dataDir, 'volumes');
  for (const directory of await listDirectory(volumes)) {
    const identity = await readTextFile(join(volumes, directory, 'volume.json'));
    if (identity === undefined || !identity.includes(uuid)) continue;
    throw new GatewayError('remote-in-use', `${join(volumes, directory)} is the directory of ${name ?? uuid}`);
  }
}

async function confirmed(what: Removal, given: string | undefined, terminal: Terminal): Promise<boolean> {
  const wanted = what.name ?? what.uuid;
  if (given !== undefined) return given === wanted;
  const age = formatDuration(what.idleMs);
  terminal.note(
    `${wanted} (${what.uuid}): ${what.objects} objects, ${formatBytes(what.bytes)}, last written ${age} ago. This cannot be undone.`,
  );
  if (!terminal.interactive)
    throw new GatewayError('config-invalid', `write --confirm ${wanted} where nobody can type it`);
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return (await prompt.question('Its name again: ')).trim() === wanted;
  } finally {
    prompt.close();
  }
}
