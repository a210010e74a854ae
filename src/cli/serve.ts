/**
 * `keepgate serve`: the gateway in the foreground, and the only place that ends its process.
 *
 * A broken promise or invariant (DurabilityLostError, InvariantError, anything that nobody caught) ends it at once with
 * exit code 1 and without a further acknowledgement: what is on the disk decides at the next start (P1). SIGTERM and
 * SIGINT stop it in order, with exit code 0, within 10 s.
 */
import { limits } from '../base/limits.js';
import type { Configuration } from '../config/configuration.js';
import { Gateway } from '../gateway/gateway.js';
import type { RunFile } from '../gateway/run-file.js';
import { notifyServiceManager } from '../platform/notify.js';
import { createLog } from '../platform/pino-log.js';
import type { LogLevels } from '../platform/log-levels.js';
import { boundProcessMemory } from '../platform/process-memory.js';
import { takeProcessRights } from '../platform/process-rights.js';
import type { Clock } from '../ports/clock.js';
import type { Log } from '../ports/log.js';
import { attachLines } from './attach.js';
import { lookAtMachine } from './client-machine.js';
import type { ClientMachine } from './client-machine.js';
import { errorLines, exitCodes } from './exit-code.js';
import { findConfiguration } from './find-configuration.js';
import type { ConfigurationChoice } from './find-configuration.js';
import type { Terminal } from './terminal.js';

export interface ServeOptions {
  readonly choice: ConfigurationChoice;
  readonly logLevels: LogLevels;
  readonly allowNew: boolean;
  readonly version: string;
  readonly terminal: Terminal;
  readonly clock: Clock;
}

/** Returns only when a start failed; otherwise the process ends itself. */
export async function serve(options: ServeOptions): Promise<void> {
  const { choice, logLevels, allowNew, version, terminal, clock } = options;
  boundProcessMemory();
  const configuration = await findConfiguration(choice);
  const log = createLog(logLevels);
  const onFatal = (error: unknown): never => {
    log.error(`the gateway ends at once: ${error instanceof Error ? error.message : String(error)}`);
    process.exit(exitCodes.failed);
  };
  process.on('uncaughtException', onFatal);
  process.on('unhandledRejection', onFatal);
  // Before the first thread: rights are inherited from the thread that starts another.
  for (const { name, granted, detail } of takeProcessRights()) {
    log[granted ? 'debug' : 'info'](`process right ${name}: ${detail}`);
  }
  for (const warning of configuration.warnings) log.warn(warning);
  const gateway = new Gateway({ configuration, version, log, logLevels, allowNew, onFatal });
  const stopping = stopOnSignals(gateway, log, clock);
  const run = await gateway.start();
  if (stopping()) return;
  process.on('SIGHUP', () => void reread(gateway, choice, log));
  notifyServiceManager('READY=1');
  if (configuration.demonstration) printDemonstration(configuration, run, terminal, await lookAtMachine());
}

/** Tells whether the stop has begun. */
function stopOnSignals(gateway: Gateway, log: Log, clock: Clock): () => boolean {
  let stopping = false;
  const stop = (signal: string): void => {
    if (stopping) {
      log.warn(`${signal} again: ending at once`);
      process.exit(exitCodes.failed);
    }
    stopping = true;
    log.info(`${signal}: stopping`);
    notifyServiceManager('STOPPING=1');
    // Only a disk that hangs can take this long. What was acknowledged is with the kernel, but may not be durable.
    clock.after(limits.shutdownMsMax - 500, () => {
      log.error('the disk under the data directory did not finish in time; ending without a clean shutdown');
      process.exit(exitCodes.failed);
    });
    gateway.stop().then(
      () => {
        log.info('stopped');
        process.exit(exitCodes.done);
      },
      (error: unknown) => {
        log.error(errorLines(error));
        process.exit(exitCodes.failed);
      },
    );
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, stop);
  return () => stopping;
}

async function reread(gateway: Gateway, choice: ConfigurationChoice, log: Log): Promise<void> {
  log.info('SIGHUP: reading the configuration again');
  notifyServiceManager('RELOADING=1');
  try {
    await gateway.reconfigure(await findConfiguration(choice));
  } catch (error) {
    log.error(`the configuration was not taken over: ${errorLines(error)}`);
  }
  notifyServiceManager('READY=1');
}

function printDemonstration(
  configuration: Configuration,
  run: RunFile,
  terminal: Terminal,
  machine: ClientMachine,
): void {
  const [volume] = configuration.volumes;
  if (volume === undefined) return;
  terminal.print(`Keepgate's demonstration: volume ${volume.name}, everything under ${configuration.dataDir}`);
  terminal.print(`The key is ${configuration.keyFile}; the store is ${configuration.store?.url ?? 'none'}`);
  for (const protocol of ['nbd', 'iscsi'] as const) {
    const listen = run[protocol];
    if (listen.length === 0) continue;
    terminal.print(
      `\n# ---- over ${protocol === 'nbd' ? 'NBD' : 'iSCSI'}: keepgate attach ${volume.name} --protocol ${protocol}`,
    );
    const options = { configuration, volume: volume.name, protocol, listen, restored: false, machine };
    for (const line of attachLines(options)) terminal.print(line);
  }
}
