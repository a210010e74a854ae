/** Commands that ask a running gateway, by its API. A command's work is in the file of its name. */
import type { Command } from 'commander';
import { SystemClock } from '../platform/system-clock.js';
import { ApiClient } from './api-client.js';
import { findConfiguration } from './find-configuration.js';
import { addClientOptions } from './program-option.js';
import type { ProgramOptions } from './program-option.js';

export function addGatewayCommands(program: Command, options: ProgramOptions): void {
  addClientCommands(program, options);
  addResizeCommand(program, options);
  addVolumeCommands(program, options);
  addSnapshotCommands(program, options);
  addTrustCommands(program, options);
}

interface ClientFlags {
  readonly config?: string;
  readonly api?: string;
  readonly json?: boolean;
  readonly watch?: boolean;
}

async function connect(flags: ClientFlags): Promise<ApiClient> {
  return ApiClient.open(await findConfiguration(flags), flags.api);
}

/** Commands that ask a running gateway. */
function addClientCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  addClientOptions(program.command('status'))
    .description('volumes: state, size, clients, buffer, lag, upload rate, time to full')
    .option('--json', 'as JSON')
    .option('--watch', 'again every second, until it is interrupted')
    .action(async (flags: ClientFlags) => {
      const json = flags.json === true;
      if (flags.watch !== true) {
        const { status } = await import('./status.js');
        return exit(await status({ client: await connect(flags), terminal, json }));
      }
      const { watchStatus } = await import('./status-watch.js');
      const stop = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => stop.abort());
      const { signal } = stop;
      exit(await watchStatus({ connect: () => connect(flags), terminal, clock: new SystemClock(), json, signal }));
    });
  addClientOptions(program.command('drain <volume>'))
    .description('wait until all that is acknowledged now is replicated')
    .option('--json', 'the end as JSON')
    .action(async (volume: string, flags: ClientFlags) => {
      const { drain } = await import('./drain.js');
      const client = await connect(flags);
      exit(await drain({ volume, client, terminal, clock: new SystemClock(), json: flags.json === true }));
    });
}

interface ReceiptFlags extends ClientFlags {
  readonly out?: string;
}

/** Commands about who owns a volume's history, and whether it is whole. */
function addTrustCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  addClientOptions(program.command('receipt <volume>'))
    .description('a receipt of the newest recovery point: what shows later that the bucket was rolled back')
    .option('--out <file>', 'write it there, atomically; default: print it')
    .action(async (volume: string, flags: ReceiptFlags) => {
      const { receipt } = await import('./receipt.js');
      exit(await receipt({ volume, out: flags.out, client: await connect(flags), terminal }));
    });
  addClientOptions(program.command('scrub <volume>'))
    .description('verify log, image and bucket; exit 1 if anything was found')
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
  addClientOptions(program.command('takeover <volume>'))
    .description('make this gateway the owner again after `fenced`; refused where either side would lose something')
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
  addClientOptions(program.command('resize <volume> <size>'))
    .description('grow a volume, attached or not; the file system on it grows on its client')
    .option('--json', 'as JSON')
    .action(async (volume: string, size: string, flags: ClientFlags) => {
      const { resizeVolume } = await import('./resize.js');
      const client = await connect(flags);
      exit(await resizeVolume({ volume, size, client, terminal, json: flags.json === true }));
    });
}

/** Which volumes a running gateway has. */
function addVolumeCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const volume = program.command('volume').description('add and remove volumes of a running gateway');
  const command = (usage: string, description: string): Command =>
    addClientOptions(volume.command(usage)).description(description).option('--json', 'as JSON');
  const given = async (name: string, flags: ClientFlags) => ({
    name,
    client: await connect(flags),
    terminal,
    json: flags.json === true,
  });
  command('add <name> <size>', 'add a volume, which is served at once and after every restart')
    .option('--settings <yaml>', "whatever else an entry of volumes has, such as '{ buffer: { size: 4GiB } }'")
    .action(async (name: string, size: string, flags: ClientFlags & { settings?: string }) => {
      const { addVolume } = await import('./volume.js');
      exit(await addVolume({ ...(await given(name, flags)), size, settings: flags.settings }));
    });
  command('remove <volume>', 'remove an added volume that nobody has attached; asks for its name again')
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
    addClientOptions(snapshot.command(usage)).description(description).option('--json', 'as JSON');
  const given = async (volume: string, flags: ClientFlags) => ({
    volume,
    client: await connect(flags),
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
  command('revert <volume> <snapshot>', 'make a volume that nobody has attached what the snapshot is')
    .option('--discard-present', 'take no snapshot of what the volume is now; default: before-revert-TIME')
    .action(async (volume: string, name: string, flags: ClientFlags & { discardPresent?: boolean }) => {
      const { operate } = await import('./operation.js');
      const { client, json } = await given(volume, flags);
      const path = `/v1/volumes/${encodeURIComponent(volume)}/snapshots/${encodeURIComponent(name)}/revert`;
      const body = { keepPresent: flags.discardPresent !== true };
      const [title, done] = [`reverting ${volume}`, `${volume} is what snapshot ${name} is`];
      exit(await operate({ path, body, title, done, json, client, terminal, clock: new SystemClock() }));
    });
  command('delete <volume> <snapshot>', 'give a snapshot up').action(
    async (volume: string, name: string, flags: ClientFlags) => {
      const { deleteSnapshot } = await import('./snapshot.js');
      exit(await deleteSnapshot({ ...(await given(volume, flags)), name }));
    },
  );
}
