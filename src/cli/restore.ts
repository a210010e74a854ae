/**
 * `keepgate restore VOLUME --from URL`: from the bucket and the key into a data directory; where a gateway runs on that, by
 * its API.
 */
import { resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import type { Configuration } from '../config/configuration.js';
import { formatBytes } from '../config/quantity.js';
import { locationOf } from '../gateway/restore-location.js';
import { restoreVolume } from '../gateway/restore-volume.js';
import type { RestoredVolume } from '../gateway/restore-volume.js';
import { readRunFile } from '../gateway/run-file.js';
import { createSystemPorts } from '../gateway/system-ports.js';
import { levelsOf } from '../platform/log-levels.js';
import { createLog } from '../platform/pino-log.js';
import { readTextFile } from '../platform/text-file.js';
import type { Clock } from '../ports/clock.js';
import type { Random } from '../ports/random.js';
import { parseReceipt } from '../remote/receipt.js';
import type { Receipt } from '../remote/receipt.js';
import { describePoint, pointAsJson } from '../remote/segment-point.js';
import { ApiClient } from './api-client.js';
import { commandBudget } from './command-budget.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { findConfiguration } from './find-configuration.js';
import { operate } from './operation.js';
import { Progress } from './progress.js';
import { openRemote } from './remote-access.js';
import type { StoreFlags } from './remote-access.js';
import type { Terminal } from './terminal.js';

export interface RestoreFlags extends StoreFlags {
  readonly from: string;
  readonly full?: boolean;
  readonly as?: string;
  readonly takeOver?: boolean;
  readonly snapshot?: string;
  readonly receipt?: string;
  readonly acceptLoss?: boolean;
  readonly dataDir?: string;
  readonly api?: string;
  readonly json?: boolean;
}

export interface RestoreOptions {
  readonly volume: string;
  readonly flags: RestoreFlags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
}

export async function restore(options: RestoreOptions): Promise<ExitCode> {
  const { flags } = options;
  checkName(flags.as);
  const flagged = flags.dataDir === undefined ? [] : [{ key: 'dataDir', flag: '--data-dir', value: flags.dataDir }];
  const configuration = await findConfiguration({ ...flags, flags: flagged });
  if (flags.api !== undefined) return restoreByGateway(options, configuration);
  try {
    return await restoreStopped(options, configuration);
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'volume-locked') throw error;
    if ((await readRunFile(configuration.dataDir)) === undefined) throw error;
    return restoreByGateway(options, configuration);
  }
}

/** Into the data directory of a gateway that runs. */
async function restoreByGateway(options: RestoreOptions, configuration: Configuration): Promise<ExitCode> {
  const { volume, flags, terminal, clock } = options;
  const receipt = flags.receipt === undefined ? undefined : await readReceiptText(flags.receipt);
  const { as, takeOver, snapshot, acceptLoss, full, endpoint, region, forcePathStyle } = flags;
  const body = {
    ...{ volume, from: flags.from, as, takeOver, snapshot, acceptLoss, full, endpoint, region, forcePathStyle },
    keyFile: flags.keyFile === undefined ? undefined : resolve(flags.keyFile),
    receipt: receipt === undefined ? undefined : (JSON.parse(receipt) as object),
  };
  const client = await ApiClient.open(configuration, flags.api);
  const title = `restoring ${volume}`;
  const json = flags.json === true;
  return operate({ path: '/v1/restores', body, title, done: title, client, terminal, clock, json });
}

/** An interrupt ends it in order: what was fetched goes again, so that the next try finds an empty place. */
async function restoreStopped(options: RestoreOptions, configuration: Configuration): Promise<ExitCode> {
  const { volume, flags, terminal, clock } = options;
  const receipt = flags.receipt === undefined ? undefined : await readReceipt(flags.receipt);
  const budget = commandBudget(configuration.bandwidth, { url: flags.from, clock });
  const { store, master, keyFile, settings } = await openRemote({
    ...options,
    url: flags.from,
    configuration,
    patient: true,
    budget,
  });
  const progress = new Progress({ title: `restoring ${volume}`, terminal, clock });
  const interrupted = new AbortController();
  const interrupt = (): void => interrupted.abort();
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, interrupt);
  try {
    const restored = await restoreVolume({
      dataDir: configuration.dataDir,
      store,
      master,
      volume,
      as: flags.as,
      content: flags.full === true ? 'full' : { location: locationOf(settings, keyFile) },
      takeOver: flags.takeOver === true,
      snapshot: flags.snapshot,
      receipt,
      acceptLoss: flags.acceptLoss === true,
      ports: createSystemPorts(),
      log: createLog(levelsOf('warn')),
      signal: interrupted.signal,
      progress: (doneBytes, totalBytes) => {
        if (flags.json !== true) progress.update(doneBytes, totalBytes);
      },
    });
    progress.end();
    if (flags.json === true) terminal.print(JSON.stringify(asJson(restored)));
    else for (const line of summary(restored)) terminal.print(line);
    return exitCodes.done;
  } catch (error) {
    if (!interrupted.signal.aborted) throw error;
    terminal.note('keepgate: interrupted; nothing was left behind');
    return exitCodes.failed;
  } finally {
    progress.end();
    budget.close();
    await store.close();
  }
}

function checkName(name: string | undefined): void {
  if (name === undefined || /^[a-z0-9][a-z0-9-]{0,62}$/.test(name)) return;
  throw new GatewayError('config-invalid', `--as: "${name}" is not a volume name; write 1 to 63 of a-z, 0-9 and -`);
}

async function readReceipt(path: string): Promise<Receipt> {
  return parseReceipt(await readReceiptText(path), path);
}

/** What is no receipt is refused here already. */
async function readReceiptText(path: string): Promise<string> {
  const text = await readTextFile(resolve(path));
  if (text === undefined) throw new GatewayError('config-invalid', `--receipt: there is no file ${path}`);
  parseReceipt(text, path);
  return text;
}

function asJson({ name, uuid, sizeBytes, recoveryPoint, detached, loss, lostBlocks }: RestoredVolume): object {
  return {
    ...{ name, uuid, sizeBytes, recoveryPoint: pointAsJson(recoveryPoint), detached, loss: loss ?? null },
    /** null: not known before all of its content has come. */
    lostBlocks: lostBlocks ?? null,
  };
}

function summary(restored: RestoredVolume): string[] {
  const { name, uuid, sizeBytes, recoveryPoint, detached, loss, lostBlocks } = restored;
  const point = describePoint(recoveryPoint);
  const lines = [`restored ${name} (${uuid}), ${formatBytes(sizeBytes)}, ${point}`];
  if (loss !== undefined) lines.push(`What lies behind it was lost: ${loss}`);
  if (lostBlocks === undefined) {
    lines.push(
      'Its content comes from the bucket while it is in use: start the gateway within a day, and leave the bucket',
    );
  } else if (lostBlocks > 0) {
    lines.push(`${lostBlocks} blocks had rotted before they were replicated: they are errors until they are written`);
  }
  lines.push(
    detached
      ? `It is a detached copy. In the configuration: - { name: ${name}, size: ${sizeBytes}, replicate: { enabled: false } }`
      : `This gateway continues the volume. In the configuration: - { name: ${name}, size: ${sizeBytes} }, same key, same store`,
  );
  return lines;
}
