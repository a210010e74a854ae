/** Commands that work on a bucket, with the key; a gateway need not run. */
import type { Command } from 'commander';
import { SystemClock } from '../platform/system-clock.js';
import { SystemRandom } from '../platform/system-random.js';
import { exitCodes } from './exit-code.js';
import { generateKey } from './init.js';
import type { KeyFlags } from './key-ring.js';
import { addStoreOptions } from './program-option.js';
import type { ProgramOptions } from './program-option.js';
import type { StoreFlags } from './remote-access.js';
import type { RemoveFlags, VerifyFlags } from './remote-verify.js';
import type { RestoreFlags } from './restore.js';
import type { Terminal } from './terminal.js';

/** Commands that work on a bucket. */
export function addRemoteCommands(program: Command, { terminal, exit }: ProgramOptions): void {
  const remote = program.command('remote').description('what a bucket holds');
  addStoreOptions(remote.command('ls <url>'))
    .description('the volumes in a bucket')
    .option('--json', 'as JSON')
    .action(async (url: string, flags: StoreFlags & { json?: boolean }) => {
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
  addStoreOptions(remote.command('verify <url> <volume>'))
    .description('read everything that a bucket holds of a volume; exit 1 if anything is missing or damaged')
    .option('--receipt <file>', 'the history must contain this receipt')
    .option('--rate <rate>', 'read no faster, such as 20MB/s; default: bandwidth.download of the configuration')
    .option('--json', 'as JSON')
    .action(async (url: string, volume: string, flags: VerifyFlags) => {
      const { verify } = await import('./remote-verify.js');
      exit(await verify({ ...given(url, volume), flags }));
    });
  addStoreOptions(remote.command('rm <url> <volume>'))
    .description('remove a volume from a bucket for good; asks for its name again')
    .option('--confirm <name>', 'its name again, where nobody can type it')
    .option('--force', 'also one that was written within a day, and, by uuid, one that the key does not open')
    .option('--json', 'as JSON')
    .action(async (url: string, volume: string, flags: RemoveFlags) => {
      const { remove } = await import('./remote-verify.js');
      exit(await remove({ ...given(url, volume), flags }));
    });
}

export function addRestore(program: Command, { terminal, exit }: ProgramOptions): void {
  addStoreOptions(program.command('restore <volume>'))
    .description('bring a volume back from its bucket, to be used at once; through the gateway where one runs')
    .requiredOption('--from <url>', 's3://BUCKET/PREFIX or file:///DIRECTORY')
    .option('--full', 'copy everything before the volume is used')
    .option('--as <name>', 'the name of the restored volume')
    .option('--take-over', 'continue the volume itself: this gateway becomes its owner')
    .option('--snapshot <snapshot>', 'this snapshot instead of the newest recovery point, as a copy')
    .option('--receipt <file>', 'refuse a bucket that is older than this receipt')
    .option('--accept-loss', 'take what lies before a gap in the history')
    .option('--data-dir <dir>', 'the gateway’s data directory; default: that of the configuration')
    .option(
      '--api <url>',
      'the gateway that restores it; default: the one that runs on the data directory, if one does',
    )
    .option('--json', 'the end as JSON: the restored volume, or, through a gateway, the operation')
    .action(async (volume: string, flags: RestoreFlags) => {
      const { restore } = await import('./restore.js');
      exit(await restore({ volume, flags, terminal, random: new SystemRandom(), clock: new SystemClock() }));
    });
}

export function addKeyCommands(program: Command, { terminal }: ProgramOptions): void {
  const key = program.command('key').description('master keys');
  key
    .command('generate <file>')
    .description('make a key; never replaces a file')
    .action((file: string) => generateKey(file, new SystemRandom(), terminal));
  addKeyRingCommands(key, terminal);
}

/** Which master keys open a volume in a bucket. */
function addKeyRingCommands(key: Command, terminal: Terminal): void {
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
