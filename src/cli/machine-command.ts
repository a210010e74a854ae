/** Commands about this machine: the gateway itself, its configuration and key, and the client's side of a disk. */
import { Option } from 'commander';
import type { Command } from 'commander';
import { readRunFile } from '../gateway/run-file.js';
import { createSystemPorts } from '../gateway/system-ports.js';
import { identityAt } from '../gateway/volume-home.js';
import type { LogLevels } from '../platform/log-levels.js';
import { SystemClock } from '../platform/system-clock.js';
import { SystemRandom } from '../platform/system-random.js';
import { attachLines, attachSteps } from './attach.js';
import { lookAtMachine } from './client-machine.js';
import { findConfiguration } from './find-configuration.js';
import type { ConfigurationChoice } from './find-configuration.js';
import { init } from './init.js';
import type { NbdWatchFlags } from './nbd-watch.js';
import { configOption, logLevelOption } from './program-option.js';
import type { ProgramOptions } from './program-option.js';
import type { CostFlags, PriceName } from './store-cost.js';

interface ServeFlags {
  readonly config?: string;
  readonly dataDir?: string;
  readonly nbdListen?: string;
  readonly iscsiListen?: string;
  readonly apiListen?: string;
  readonly logLevel: LogLevels;
  readonly new?: boolean;
}

const flagKeys = [
  ['dataDir', 'dataDir', '--data-dir'],
  ['nbdListen', 'nbd.listen', '--nbd-listen'],
  ['iscsiListen', 'iscsi.listen', '--iscsi-listen'],
  ['apiListen', 'api.listen', '--api-listen'],
] as const;

function choiceOf(flags: ServeFlags): ConfigurationChoice {
  const given = flagKeys.flatMap(([name, key, flag]) => {
    const value = flags[name];
    return value === undefined ? [] : [{ key, flag, value }];
  });
  return { ...(flags.config === undefined ? {} : { config: flags.config }), flags: given };
}

export function addServe(program: Command, { version, terminal }: ProgramOptions): void {
  program
    .command('serve')
    .description('the gateway, in the foreground; without any configuration a demonstration')
    .option(...configOption)
    .option('--data-dir <dir>', 'dataDir of the configuration')
    .option('--nbd-listen <list>', 'nbd.listen of the configuration')
    .option('--iscsi-listen <list>', 'iscsi.listen of the configuration')
    .option('--api-listen <address>', 'api.listen of the configuration')
    .option('--new', 'create volumes even where the bucket holds volumes that the key does not open')
    .addOption(logLevelOption())
    .action(async (flags: ServeFlags) => {
      const { serve } = await import('./serve.js');
      await serve({
        choice: choiceOf(flags),
        logLevels: flags.logLevel,
        allowNew: flags.new === true,
        version,
        terminal,
        clock: new SystemClock(),
      });
    });
}

interface DoctorFlags {
  readonly config?: string;
  readonly cost?: boolean;
  readonly fix?: boolean;
  readonly json?: boolean;
}

interface AttachFlags {
  readonly config?: string;
  readonly protocol: 'nbd' | 'iscsi';
  readonly anyMachine?: boolean;
  readonly json?: boolean;
}

/** Commands that need no gateway. */
export function addLocalCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const random = new SystemRandom();
  program
    .command('init [dir]')
    .description('write a commented keepgate.yaml and a key')
    .action((directory = '.') => init(String(directory), random, terminal));
  program
    .command('attach <volume>')
    .description('print, never run, the commands that attach a volume on this machine')
    .option(...configOption)
    .addOption(new Option('--protocol <protocol>', 'over what').choices(['nbd', 'iscsi']).default('nbd'))
    .option('--any-machine', 'for another machine than this one: what may be missing there too')
    .option('--json', 'as JSON: the steps, and what this machine has')
    .action(async (volume: string, flags: AttachFlags) => {
      const { protocol } = flags;
      const configuration = await findConfiguration(flags);
      const run = await readRunFile(configuration.dataDir);
      const configured = configuration[protocol].listen.flatMap((address) =>
        address.kind === 'systemd' ? [] : [address],
      );
      const listen = run?.[protocol] ?? configured;
      const machine = flags.anyMachine === true ? undefined : await lookAtMachine();
      const identity = await identityAt(createSystemPorts(), configuration.dataDir, volume);
      const restored = identity?.origin === 'restored';
      const options = { configuration, volume, protocol, listen, restored, machine };
      if (flags.json === true) {
        return terminal.print(
          JSON.stringify({ volume, protocol, steps: attachSteps(options), machine: machine ?? null }),
        );
      }
      for (const line of attachLines(options)) terminal.print(line);
    });
  program
    .command('doctor')
    .description('check ports, disk, memory rights, clock, key, store and kernel modules')
    .option(...configOption)
    .option('--fix', 'mend what can be mended without any risk to data; default: only say how')
    .option('--json', 'as JSON')
    .option('--cost', 'what the store will cost in a month, instead')
    .addOption(
      new Option('--prices <name>', 'whose; default: s3-standard').choices([
        's3-standard',
        's3-standard-ia',
        's3-glacier-ir',
        'r2',
      ] satisfies PriceName[]),
    )
    .option('--stored <size>', 'live data; default: the volumes’ sizes')
    .option('--changes <size>', 'sent in a day; default: 1, 10 and 100 GiB')
    .option('--object-size <size>', 'default: 1, 8 and 32 MiB')
    .option('--interval <seconds>', 'between groups; default: the shortest of the volumes')
    .option('--storage-price <dollars>', 'a GB and month')
    .option('--put-price <dollars>', '1,000 PUTs')
    .option('--get-price <dollars>', '1,000 GETs')
    .option('--traffic-price <dollars>', 'a GB that leaves the provider')
    .action(async (flags: CostFlags & DoctorFlags) => {
      const configuration = await findConfiguration(flags);
      if (flags.cost === true) {
        const { printCost } = await import('./store-cost.js');
        return printCost(flags, configuration, terminal);
      }
      const { doctor } = await import('./doctor.js');
      const [fix, json] = [flags.fix === true, flags.json === true];
      exit(await doctor({ configuration, terminal, random, clock: new SystemClock(), fix, json }));
    });
}

/** On the client's machine, beside its kernel. */
export function addNbdWatch(program: Command, { exit }: ProgramOptions): void {
  program
    .command('nbd-watch <device> <uri>')
    .description('attach /dev/nbdN, and keep it alive through restarts of the gateway; needs root')
    .option('--connections <count>', 'to attach with, if the server allows several', '1')
    .option('--dead-timeout <seconds>', 'how long requests wait for a gateway before they fail', '600')
    .option('--request-timeout <seconds>', 'with several connections: when a request is sent again on another', '30')
    .option('--detach', 'detach the device at the end, unless it is in use')
    .addOption(logLevelOption())
    .action(async (device: string, uri: string, flags: NbdWatchFlags) => {
      const { nbdWatch } = await import('./nbd-watch.js');
      exit(await nbdWatch({ device, uri, flags, clock: new SystemClock(), random: new SystemRandom() }));
    });
}
