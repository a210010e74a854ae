/**
 * Every command with its options. A command's work is in the file of its name; what is wrong is thrown to main.ts. What
 * needs much code is loaded when it is called, so that `keepgate status` answers at once.
 */
import { Command, InvalidArgumentError, Option } from 'commander';
import { GatewayError } from '../base/errors.js';
import { readRunFile } from '../gateway/run-file.js';
import { levelsOf, parseLogLevels } from '../platform/log-levels.js';
import type { LogLevels } from '../platform/log-levels.js';
import { SystemClock } from '../platform/system-clock.js';
import { SystemRandom } from '../platform/system-random.js';
import { ApiClient } from './api-client.js';
import { attachLines } from './attach.js';
import { drain } from './drain.js';
import { exitCodes } from './exit-code.js';
import type { ExitCode } from './exit-code.js';
import { findConfiguration } from './find-configuration.js';
import type { ConfigurationChoice } from './find-configuration.js';
import { generateKey, init } from './init.js';
import { addLaterCommands } from './later-command.js';
import type { KeyFlags } from './key-ring.js';
import type { NbdWatchFlags } from './nbd-watch.js';
import type { RemoveFlags, VerifyFlags } from './remote-verify.js';
import type { RestoreFlags } from './restore.js';
import { status } from './status.js';
import type { CostFlags } from './store-cost.js';
import type { Terminal } from './terminal.js';

export interface ProgramOptions {
  readonly version: string;
  readonly terminal: Terminal;
  /** Told how the command ended, unless it threw. */
  readonly exit: (code: ExitCode) => void;
}

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

export function createProgram(options: ProgramOptions): Command {
  const { version } = options;
  const program = new Command('keepgate')
    .description('A block-storage gateway: a disk over NBD and iSCSI, replicated encrypted to any S3 bucket.')
    .version(version)
    .showHelpAfterError('(keepgate help COMMAND says more)')
    .exitOverride();
  addServe(program, options);
  addClientCommands(program, options);
  addResizeCommand(program, options);
  addVolumeCommands(program, options);
  addSnapshotCommands(program, options);
  addTrustCommands(program, options);
  addLocalCommands(program, options);
  addRemoteCommands(program, options);
  addNbdWatch(program, options);
  addLaterCommands(program);
  return program;
}

const configOption = [
  '--config <file>',
  'the configuration; default: KEEPGATE_CONFIG, else the demonstration',
] as const;

function logLevelOption(): Option {
  const parse = (text: string): LogLevels => {
    try {
      return parseLogLevels(text);
    } catch (error) {
      throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
    }
  };
  return new Option('--log-level <levels>', 'debug, info, warn or error; for one module: info,request=debug')
    .argParser(parse)
    .default(levelsOf('info'), 'info')
    .env('KEEPGATE_LOG_LEVEL');
}

function addServe(program: Command, { version, terminal }: ProgramOptions): void {
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

interface ClientFlags {
  readonly config?: string;
  readonly api?: string;
  readonly json?: boolean;
  readonly watch?: boolean;
}

const apiOption = ['--api <url>', 'where the gateway is asked: http://HOST:PORT or unix:/PATH'] as const;

/** Commands that ask a running gateway. */
function addClientCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const connect = async (flags: ClientFlags) => ApiClient.open(await findConfiguration(flags), flags.api);
  program
    .command('status')
    .description('volumes: state, size, clients, buffer, lag, upload rate, time to full')
    .option(...configOption)
    .option(...apiOption)
    .option('--json', 'as JSON')
    .option('--watch', 'again every second')
    .action(async (flags: ClientFlags) => {
      const client = await connect(flags);
      const json = flags.json === true;
      exit(await status({ client, terminal, clock: new SystemClock(), json, watch: flags.watch === true }));
    });
  program
    .command('drain <volume>')
    .description('wait until all that is acknowledged now is replicated')
    .option(...configOption)
    .option(...apiOption)
    .option('--json', 'the end as JSON')
    .action(async (volume: string, flags: ClientFlags) => {
      const client = await connect(flags);
      exit(await drain({ volume, client, terminal, clock: new SystemClock(), json: flags.json === true }));
    });
}

interface ReceiptFlags extends ClientFlags {
  readonly out?: string;
}

/** Commands about who owns a volume's history, and whether it is whole. */
function addTrustCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const connect = async (flags: ClientFlags) => ApiClient.open(await findConfiguration(flags), flags.api);
  program
    .command('receipt <volume>')
    .description('a receipt of the newest recovery point: what shows later that the bucket was rolled back')
    .option(...configOption)
    .option(...apiOption)
    .option('--out <file>', 'write it there, atomically; default: print it')
    .action(async (volume: string, flags: ReceiptFlags) => {
      const { receipt } = await import('./receipt.js');
      exit(await receipt({ volume, out: flags.out, client: await connect(flags), terminal }));
    });
  program
    .command('scrub <volume>')
    .description('verify log, image and bucket; exit 1 if anything was found')
    .option(...configOption)
    .option(...apiOption)
    .option('--heal', 'send again what the bucket has lost, from the local copy')
    .option('--json', 'the end as JSON')
    .action(async (volume: string, flags: ClientFlags & { heal?: boolean }) => {
      const { operate } = await import('./operation.js');
      const path = `/v1/volumes/${encodeURIComponent(volume)}/scrub${flags.heal === true ? '?heal=true' : ''}`;
      const done = `${volume}: nothing is missing or damaged`;
      const json = flags.json === true;
      const title = `scrubbing ${volume}`;
      exit(
        await operate({ path, title, done, json, client: await connect(flags), terminal, clock: new SystemClock() }),
      );
    });
  program
    .command('takeover <volume>')
    .description('make this gateway the owner again after `fenced`; refused where either side would lose something')
    .option(...configOption)
    .option(...apiOption)
    .option('--json', 'the end as JSON')
    .action(async (volume: string, flags: ClientFlags) => {
      const { operate } = await import('./operation.js');
      const path = `/v1/volumes/${encodeURIComponent(volume)}/takeover`;
      const title = `taking over ${volume}`;
      const done = `${volume}: this gateway is the owner again`;
      const json = flags.json === true;
      exit(
        await operate({ path, title, done, json, client: await connect(flags), terminal, clock: new SystemClock() }),
      );
    });
}

/** Growing a running gateway's volumes. */
function addResizeCommand(program: Command, { terminal, exit }: ProgramOptions): void {
  program
    .command('resize <volume> <size>')
    .description('grow a volume, attached or not; the file system on it grows on its client')
    .option(...configOption)
    .option(...apiOption)
    .option('--json', 'as JSON')
    .action(async (volume: string, size: string, flags: ClientFlags) => {
      const { resizeVolume } = await import('./resize.js');
      const client = await ApiClient.open(await findConfiguration(flags), flags.api);
      exit(await resizeVolume({ volume, size, client, terminal, json: flags.json === true }));
    });
}

/** Which volumes a running gateway has. */
function addVolumeCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const volume = program.command('volume').description('add and remove volumes of a running gateway');
  const command = (usage: string, description: string): Command =>
    volume
      .command(usage)
      .description(description)
      .option(...configOption)
      .option(...apiOption)
      .option('--json', 'as JSON');
  const given = async (name: string, flags: ClientFlags) => ({
    name,
    client: await ApiClient.open(await findConfiguration(flags), flags.api),
    terminal,
    json: flags.json === true,
  });
  command('add <name> <size>', 'add a volume, which is served at once and after every restart')
    .option('--settings <yaml>', "whatever else an entry of volumes has, such as '{ buffer: { size: 4GiB } }'")
    .action(async (name: string, size: string, flags: ClientFlags & { settings?: string }) => {
      const { addVolume } = await import('./volume.js');
      exit(await addVolume({ ...(await given(name, flags)), size, settings: flags.settings }));
    });
  command('remove <name>', 'remove an added volume that nobody has attached; asks for its name again')
    .option('--confirm <name>', 'its name again, where nobody can type it')
    .option('--accept-loss', 'even if the bucket lacks what was written last')
    .action(async (name: string, flags: ClientFlags & { confirm?: string; acceptLoss?: boolean }) => {
      const { removeVolume } = await import('./volume.js');
      const { confirm, acceptLoss = false } = flags;
      exit(await removeVolume({ ...(await given(name, flags)), confirm, acceptLoss }));
    });
}

/** Snapshots of a running gateway's volumes. */
function addSnapshotCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const snapshot = program.command('snapshot').description('create, list, delete and revert to snapshots');
  const command = (usage: string, description: string): Command =>
    snapshot
      .command(usage)
      .description(description)
      .option(...configOption)
      .option(...apiOption)
      .option('--json', 'as JSON');
  const given = async (volume: string, flags: ClientFlags) => ({
    volume,
    client: await ApiClient.open(await findConfiguration(flags), flags.api),
    terminal,
    json: flags.json === true,
  });
  command(
    'create <volume> [name]',
    'everything acknowledged before the call is in it; named by the time by default',
  ).action(async (volume: string, name: string | undefined, flags: ClientFlags) => {
    const { createSnapshot } = await import('./snapshot.js');
    exit(await createSnapshot({ ...(await given(volume, flags)), ...(name === undefined ? {} : { name }) }));
  });
  command('list <volume>', 'the snapshots of a volume, oldest first').action(
    async (volume: string, flags: ClientFlags) => {
      const { listSnapshots } = await import('./snapshot.js');
      exit(await listSnapshots(await given(volume, flags)));
    },
  );
  command('revert <volume> <name>', 'make a volume that nobody has attached what the snapshot is')
    .option('--discard-present', 'take no snapshot of what the volume is now; default: before-revert-TIME')
    .action(async (volume: string, name: string, flags: ClientFlags & { discardPresent?: boolean }) => {
      const { operate } = await import('./operation.js');
      const { client, json } = await given(volume, flags);
      const path = `/v1/volumes/${encodeURIComponent(volume)}/snapshots/${encodeURIComponent(name)}/revert`;
      const body = { keepPresent: flags.discardPresent !== true };
      const [title, done] = [`reverting ${volume}`, `${volume} is what snapshot ${name} is`];
      exit(await operate({ path, body, title, done, json, client, terminal, clock: new SystemClock() }));
    });
  command('delete <volume> <name>', 'give a snapshot up').action(
    async (volume: string, name: string, flags: ClientFlags) => {
      const { deleteSnapshot } = await import('./snapshot.js');
      exit(await deleteSnapshot({ ...(await given(volume, flags)), name }));
    },
  );
}

/** Commands that need no gateway. */
function addLocalCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const random = new SystemRandom();
  program
    .command('init [dir]')
    .description('write a commented keepgate.yaml and a key')
    .action((directory = '.') => init(String(directory), random, terminal));
  program
    .command('attach <volume>')
    .description('print, never run, the commands that attach a volume on this machine')
    .option(...configOption)
    .addOption(new Option('--protocol <protocol>').choices(['nbd', 'iscsi']).default('nbd'))
    .action(async (volume: string, flags: { config?: string; protocol: 'nbd' | 'iscsi' }) => {
      const configuration = await findConfiguration(flags);
      const run = await readRunFile(configuration.dataDir);
      const configured = configuration[flags.protocol].listen.flatMap((address) =>
        address.kind === 'systemd' ? [] : [address],
      );
      const listen = run?.[flags.protocol] ?? configured;
      for (const line of attachLines({ configuration, volume, protocol: flags.protocol, listen })) terminal.print(line);
    });
  program
    .command('doctor')
    .description('check ports, disk, memory rights, clock, key, store and kernel modules')
    .option(...configOption)
    .option('--cost', 'what the store will cost in a month, instead')
    .option('--prices <name>', 's3-standard (default), s3-standard-ia, s3-glacier-ir or r2')
    .option('--stored <size>', 'live data; default: the volumes’ sizes')
    .option('--changes <size>', 'sent in a day; default: 1, 10 and 100 GiB')
    .option('--object-size <size>', 'default: 1, 8 and 32 MiB')
    .option('--interval <seconds>', 'between groups; default: the shortest of the volumes')
    .option('--storage-price <dollars>', 'a GB and month')
    .option('--put-price <dollars>', '1,000 PUTs')
    .option('--get-price <dollars>', '1,000 GETs')
    .option('--traffic-price <dollars>', 'a GB that leaves the provider')
    .action(async (flags: CostFlags & { config?: string; cost?: boolean }) => {
      const configuration = await findConfiguration(flags);
      if (flags.cost === true) {
        const { printCost } = await import('./store-cost.js');
        return printCost(flags, configuration, terminal);
      }
      const { doctor } = await import('./doctor.js');
      exit(await doctor({ configuration, terminal, random, clock: new SystemClock() }));
    });
  const key = program.command('key').description('master keys');
  key
    .command('generate <file>')
    .description('make a key; never replaces a file')
    .action((file: string) => generateKey(file, random, terminal));
  addKeyCommands(key, terminal);
}

/** Which master keys open a volume in a bucket. */
function addKeyCommands(key: Command, terminal: Terminal): void {
  const given = { terminal, random: new SystemRandom(), clock: new SystemClock() };
  const command = (usage: string, description: string): Command =>
    addStoreOptions(key.command(usage).description(description)).option(
      '--from <url>',
      's3://BUCKET/PREFIX or file:///DIRECTORY; default: store.url of the configuration',
    );
  const newKeyOption = ['--new-key-file <file>', 'the key to add'] as const;
  command('list <volume>', 'the master keys that open a volume')
    .option('--json', 'as JSON')
    .action(async (volume: string, flags: KeyFlags) => {
      await (await import('./key-ring.js')).listKeys({ ...given, volume, flags });
    });
  command('add <volume>', 'let one more master key open a volume')
    .requiredOption(...newKeyOption)
    .action(async (volume: string, flags: KeyFlags) => {
      await (await import('./key-ring.js')).addKey({ ...given, volume, flags });
    });
  command(
    'remove <volume> <id>',
    'take a master key from a volume; another one, given with --key-file, must open it',
  ).action(async (volume: string, id: string, flags: KeyFlags) => {
    await (await import('./key-ring.js')).removeKey({ ...given, volume, id, flags });
  });
  command('rotate <volumes...>', 'a new master key in place of the one that opens now')
    .requiredOption(...newKeyOption)
    .action(async (volumes: string[], flags: KeyFlags) => {
      await (await import('./key-ring.js')).rotateKey({ ...given, volumes, flags });
    });
}

function addStoreOptions(command: Command): Command {
  return command
    .option(...configOption)
    .option('--key-file <file>', 'the master key; default: keyFile of the configuration')
    .option('--endpoint <url>', 'of a store that is not AWS')
    .option('--region <region>', 'of the bucket')
    .option('--force-path-style', 'http://ENDPOINT/BUCKET instead of http://BUCKET.ENDPOINT');
}

/** Commands that work on a bucket. */
function addRemoteCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const remote = program.command('remote').description('what a bucket holds');
  const storeOptions = addStoreOptions;
  storeOptions(remote.command('ls <url>'))
    .description('the volumes in a bucket')
    .option('--json', 'as JSON')
    .action(async (url: string, flags: RestoreFlags & { json?: boolean }) => {
      const { listRemote } = await import('./remote-list.js');
      await listRemote({
        url,
        flags,
        terminal,
        random: new SystemRandom(),
        clock: new SystemClock(),
        json: flags.json === true,
      });
      exit(exitCodes.done);
    });
  const given = (url: string, volume: string) => ({
    url,
    volume,
    terminal,
    random: new SystemRandom(),
    clock: new SystemClock(),
  });
  storeOptions(remote.command('verify <url> <volume>'))
    .description('read everything that a bucket holds of a volume; exit 1 if anything is missing or damaged')
    .option('--receipt <file>', 'the history must contain this receipt')
    .option('--rate <rate>', 'read no faster, such as 20MB/s; default: bandwidth.download of the configuration')
    .option('--json', 'as JSON')
    .action(async (url: string, volume: string, flags: VerifyFlags) => {
      const { verify } = await import('./remote-verify.js');
      exit(await verify({ ...given(url, volume), flags }));
    });
  storeOptions(remote.command('rm <url> <volume>'))
    .description('remove a volume from a bucket for good; asks for its name again')
    .option('--confirm <name>', 'its name again, where nobody can type it')
    .option('--force', 'also one that was written within a day, and, by uuid, one that the key does not open')
    .action(async (url: string, volume: string, flags: RemoveFlags) => {
      const { remove } = await import('./remote-verify.js');
      exit(await remove({ ...given(url, volume), flags }));
    });
  storeOptions(program.command('restore <volume>'))
    .description('bring a volume back from its bucket, to be used at once; through the gateway where one runs')
    .requiredOption('--from <url>', 's3://BUCKET/PREFIX or file:///DIRECTORY')
    .option('--full', 'copy everything before the volume is used')
    .option('--as <name>', 'the name of the restored volume')
    .option('--take-over', 'continue the volume itself: this gateway becomes its owner')
    .option('--snapshot <name>', 'this snapshot instead of the newest recovery point, as a copy')
    .option('--receipt <file>', 'refuse a bucket that is older than this receipt')
    .option('--accept-loss', 'take what lies before a gap in the history')
    .option('--data-dir <dir>', 'the gateway’s data directory; default: that of the configuration')
    .option(
      '--api <url>',
      'the gateway that restores it; default: the one that runs on the data directory, if one does',
    )
    .action(async (volume: string, flags: RestoreFlags) => {
      const { restore } = await import('./restore.js');
      exit(await restore({ volume, flags, terminal, random: new SystemRandom(), clock: new SystemClock() }));
    });
}

/** On the client's machine, beside its kernel. */
function addNbdWatch(program: Command, { exit }: ProgramOptions): void {
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

/** Commander's own refusals are usage errors; its help and version are none. */
export function exitCodeOfUsage(code: string): ExitCode {
  return code === 'commander.helpDisplayed' || code === 'commander.version' || code === 'commander.help'
    ? exitCodes.done
    : exitCodes.usage;
}

/** For options whose values are combined in ways that commander does not know. */
export function usageError(message: string): GatewayError {
  return new GatewayError('config-invalid', message);
}
