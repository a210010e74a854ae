/**
 * `keepgate nbd-watch /dev/nbdN URI`: on the client's machine, attaches the device and keeps it alive through restarts of
 * the gateway (nbd-client/watcher.ts). SIGHUP: look for a new size at once. SIGTERM: end; the device stays attached, and
 * the next start takes it over, unless --detach was given.
 */
import { GatewayError } from '../base/errors.js';
import { CONNECTIONS_MAX, NbdWatcher } from '../nbd-client/watcher.js';
import { parseNbdUri } from '../nbd-client/uri.js';
import { KernelNbdDevice, parseDeviceName } from '../platform/nbd-kernel.js';
import { SystemNbdDialer } from '../platform/nbd-dialer.js';
import { readNbdTls } from '../platform/nbd-tls.js';
import { notifyServiceManager } from '../platform/notify.js';
import { createLog } from '../platform/pino-log.js';
import type { LogLevels } from '../platform/log-levels.js';
import { takeProcessRights } from '../platform/process-rights.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import type { Random } from '../ports/random.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';

export interface NbdWatchFlags {
  readonly connections: string;
  readonly deadTimeout: string;
  readonly requestTimeout: string;
  readonly detach?: boolean;
  readonly logLevel: LogLevels;
}

export interface NbdWatchOptions {
  /** "/dev/nbd0" */
  readonly device: string;
  readonly uri: string;
  readonly flags: NbdWatchFlags;
  readonly clock: Clock;
  readonly random: Random;
}

/** @throws GatewayError config-invalid, not-supported, not-found */
export async function nbdWatch(options: NbdWatchOptions): Promise<ExitCode> {
  const { flags, clock, random } = options;
  const { address, exportName, tls } = parseNbdUri(options.uri);
  // What is missing or wrong is said now; later it may be right again by the next attempt.
  if (tls !== undefined) await readNbdTls(tls);
  const index = parseDeviceName(options.device);
  const connections = wholeNumber('--connections', flags.connections, CONNECTIONS_MAX);
  const deadConnectionSeconds = wholeNumber('--dead-timeout', flags.deadTimeout, 7 * 86_400);
  const requestMs = wholeNumber('--request-timeout', flags.requestTimeout, 3600) * 1000;
  const log = createLog(flags.logLevel).child('nbd-watch');
  // The kernel of this very machine may wait for this process to get memory.
  for (const { name, granted, detail } of takeProcessRights()) {
    log[granted ? 'debug' : 'info'](`process right ${name}: ${detail}`);
  }
  const device = KernelNbdDevice.open(index, log);
  const onStatus = (status: string): void => {
    notifyServiceManager(`STATUS=${status.replaceAll('\n', ' ')}`);
  };
  const onAttached = (): void => {
    notifyServiceManager('READY=1');
  };
  const dialer = new SystemNbdDialer(address, tls && { credentials: () => readNbdTls(tls) });
  const watched = { device, dialer, clock, random, log, exportName, onAttached, onStatus };
  const watcher = new NbdWatcher({ ...watched, connections, deadConnectionSeconds, requestMs });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => stop.abort());
  process.on('SIGHUP', () => watcher.lookNow());
  try {
    const end = await watcher.run(stop.signal);
    if (end === 'detached') log.info(`/dev/${device.name} was detached by somebody else`);
    else if (flags.detach === true) return await detach(device, log);
    return exitCodes.done;
  } finally {
    device.close();
  }
}

async function detach(device: KernelNbdDevice, log: Log): Promise<ExitCode> {
  if (!(await device.isAttached())) return exitCodes.done;
  if (await device.isInUse()) {
    log.error(`/dev/${device.name} stays attached: it is in use; unmount and close it first`);
    return exitCodes.failed;
  }
  await device.detach();
  log.info(`/dev/${device.name} is detached`);
  return exitCodes.done;
}

function wholeNumber(flag: string, text: string, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= max) return value;
  throw new GatewayError('config-invalid', `${flag} is "${text}"; it is a whole number from 1 to ${max}`);
}
