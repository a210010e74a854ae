/** `keepgate key list|add|remove|rotate`: which master keys open a volume, without uploading data again. */
import { resolve } from 'node:path';
import { GatewayError } from '../base/errors.js';
import { readSecretFile } from '../platform/secret-file.js';
import type { Clock } from '../ports/clock.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { parseMasterKey } from '../remote/key.js';
import type { MasterKey } from '../remote/key.js';
import { KeyRing } from '../remote/key-ring.js';
import { findRemoteVolume } from '../remote/remote-list.js';
import { painted } from './colour.js';
import { findConfiguration } from './find-configuration.js';
import { openRemote } from './remote-access.js';
import type { StoreFlags } from './remote-access.js';
import { tableOf } from './table.js';
import type { Terminal } from './terminal.js';

export interface KeyFlags extends StoreFlags {
  readonly from?: string;
  readonly newKeyFile?: string;
  readonly json?: boolean;
}

interface KeyCommand {
  readonly flags: KeyFlags;
  readonly terminal: Terminal;
  readonly random: Random;
  readonly clock: Clock;
}

export async function listKeys(options: KeyCommand & { readonly volume: string }): Promise<void> {
  const { volume, flags, terminal } = options;
  await withBucket(options, async ({ open, master }) => {
    const keys = await (await open(volume, [master])).list();
    if (flags.json === true)
      return terminal.print(JSON.stringify(keys.map(({ id, opens }) => ({ id, opens: opens ?? null }))));
    const rows = keys.map(({ id, opens }) => [
      id,
      opens === undefined
        ? 'another key'
        : opens
          ? painted('the given key: opens', 'green', terminal)
          : painted('the given key: DAMAGED, does not open', 'red', terminal),
    ]);
    terminal.print(tableOf(['KEY', 'WHAT IT IS'], rows));
  });
}

export async function addKey(options: KeyCommand & { readonly volume: string }): Promise<void> {
  const { volume, terminal } = options;
  await withBucket(options, async ({ open, master }) => {
    const added = await newKey(options.flags);
    await (await open(volume, [master])).add(added);
    terminal.print(`${volume}: key ${added.id} opens it too`);
  });
}

export async function removeKey(options: KeyCommand & { readonly volume: string; readonly id: string }): Promise<void> {
  const { volume, id, terminal } = options;
  await withBucket(options, async ({ open, master }) => {
    await (await open(volume, [master])).remove(id);
    terminal.print(`${volume}: key ${id} does not open it any more`);
  });
}

/** New keys to all volumes first, then the old ones go. */
export async function rotateKey(options: KeyCommand & { readonly volumes: readonly string[] }): Promise<void> {
  const { volumes, terminal } = options;
  await withBucket(options, async ({ open, master }) => {
    const added = await newKey(options.flags);
    if (added.id === master.id)
      throw new GatewayError('config-invalid', '--new-key-file: it is the key that opens now');
    const rings: KeyRing[] = [];
    for (const volume of volumes) {
      const ring = await open(volume, [master, added]);
      await ring.add(added);
      rings.push(ring);
    }
    for (const [at, ring] of rings.entries()) {
      // A rotation that was interrupted is given again.
      if ((await ring.list()).some(({ id }) => id === master.id)) await ring.remove(master.id);
      terminal.print(`${volumes[at] ?? ''}: key ${added.id} opens it, key ${master.id} does not any more`);
    }
    terminal.note('keepgate: set keyFile to the new key before the gateway is started again');
  });
}

interface Bucket {
  readonly master: MasterKey;
  readonly open: (volume: string, masters: readonly MasterKey[]) => Promise<KeyRing>;
}

async function withBucket(options: KeyCommand, work: (bucket: Bucket) => Promise<void>): Promise<void> {
  const { flags, random, clock } = options;
  const configuration = await findConfiguration(flags);
  const url = flags.from ?? configuration.store?.url;
  if (url === undefined)
    throw new GatewayError('config-invalid', 'there is no store.url; name the bucket with --from URL');
  const { store, master } = await openRemote({ ...options, url, configuration });
  const open = async (volume: string, masters: readonly MasterKey[]): Promise<KeyRing> => {
    const request = {};
    const { sealer } = await findRemoteVolume(store, { volume, masters, random, request });
    return new KeyRing({ store, uuid: sealer.names.uuid, masters, clock, random, request });
  };
  await closing(store, () => work({ master, open }));
}

async function closing(store: ObjectStore, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } finally {
    await store.close();
  }
}

async function newKey({ newKeyFile }: KeyFlags): Promise<MasterKey> {
  if (newKeyFile === undefined)
    throw new GatewayError('config-invalid', '--new-key-file is missing: keepgate key generate FILE makes one');
  const path = resolve(newKeyFile);
  return parseMasterKey(await readSecretFile(path, 'key'), path);
}
