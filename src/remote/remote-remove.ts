/**
 * Removes a volume from its bucket, for good. The volume's identity and its keys go last, so that a removal that was
 * interrupted goes on by name; its very last object, a key, goes by uuid and force.
 *
 * Whether an owner lives cannot be known: one whose volume is idle sends nothing. What can be seen is when the newest
 * object was written, by the store's own clock; within a day the volume counts as owned. An owner that lives in spite of
 * that notices at its next start, or with its next receipt (remote-vanished), and keeps its own directory.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import type { MasterKey } from './key.js';
import { openEpoch } from './epoch-object.js';
import { isUuid, ObjectNames } from './name.js';
import { findRemoteVolume } from './remote-list.js';

const OWNED_MS = 86_400_000;

export interface RemoveOptions {
  readonly store: ObjectStore;
  readonly masters: readonly MasterKey[];
  /** Name or uuid. */
  readonly volume: string;
  readonly random: Random;
  readonly request: StoreRequest;
  /** Also what was written a moment ago, and, by uuid, what no given key opens. */
  readonly force: boolean;
  /** Asked once it is known what would go; false: nothing is removed. */
  readonly confirm: (what: Removal) => Promise<boolean>;
  readonly progress?: (done: number, total: number) => void;
}

export interface Removal {
  readonly uuid: string;
  /** undefined: no key opens it. */
  readonly name: string | undefined;
  readonly objects: number;
  readonly bytes: number;
  /** Age of its newest object by the store's clock. */
  readonly idleMs: number;
  /** Host that took the newest epoch. */
  readonly owner: string | undefined;
}

/** undefined: it was not confirmed. not-found, key-mismatch, remote-in-use (an owner may live). */
export async function removeRemote(options: RemoveOptions): Promise<Removal | undefined> {
  const { store, request, force, confirm, progress } = options;
  const { uuid, name, owner } = await find(options);
  const names = new ObjectNames(uuid);
  const keys: string[] = [];
  let bytes = 0;
  let newestMs = 0;
  for await (const object of store.list(names.folder, request)) {
    keys.push(object.key);
    bytes += object.sizeBytes;
    // Readers are no owners.
    if (names.parse(object.key)?.kind !== 'pin') newestMs = Math.max(newestMs, object.modifiedMs);
  }
  if (keys.length === 0) throw new GatewayError('not-found', `${store.description} holds no volume ${uuid}`);
  const idleMs = Math.max(0, (await storeTime(options, names)) - newestMs);
  const removal = { uuid, name, objects: keys.length, bytes, idleMs, owner };
  if (idleMs < OWNED_MS && !force) {
    const by = owner === undefined ? '' : `, by ${owner}`;
    throw new GatewayError(
      'remote-in-use',
      `${name ?? uuid} was written ${Math.round(idleMs / 60_000)} minutes ago${by}: its gateway may live`,
    );
  }
  if (!(await confirm(removal))) return undefined;
  const last = keys.filter((key) => key === names.volume || names.parse(key)?.kind === 'key');
  const order = [...keys.filter((key) => !last.includes(key)), ...last.reverse()];
  for (const [done, key] of order.entries()) {
    await store.delete(key, request);
    progress?.(done + 1, order.length);
  }
  return removal;
}

async function find(options: RemoveOptions): Promise<{ uuid: string; name?: string; owner?: string }> {
  const { store, volume: wanted, request, force } = options;
  try {
    const { sealer, volume } = await findRemoteVolume(store, { ...options, volume: wanted });
    const { names } = sealer;
    let owner: string | undefined;
    for await (const { key } of store.list(names.epochsPrefix, request)) {
      const parsed = names.parse(key);
      if (parsed?.kind === 'epoch') owner = key;
    }
    const parsed = owner === undefined ? undefined : names.parse(owner);
    if (owner === undefined || parsed?.kind !== 'epoch') return { uuid: names.uuid, name: volume.name };
    const claim = await claimOf(() =>
      store.get(owner, request).then((bytes) => openEpoch(sealer, parsed.epoch, bytes)),
    );
    return { uuid: names.uuid, name: volume.name, ...(claim === undefined ? {} : { owner: claim.owner }) };
  } catch (error) {
    const broken =
      error instanceof GatewayError && ['key-mismatch', 'object-missing', 'object-damaged'].includes(error.code);
    if (!broken || !force || !isUuid(wanted)) throw error;
    return { uuid: wanted };
  }
}

async function claimOf<Claim>(read: () => Promise<Claim>): Promise<Claim | undefined> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof GatewayError && error.code.startsWith('object-')) return undefined;
    throw error;
  }
}

/** The store's clock, by an object that is written now. */
async function storeTime({ store, random, request }: RemoveOptions, names: ObjectNames): Promise<number> {
  const probe = names.pin(random.uuid());
  await store.put(probe, new Uint8Array(1), { ...request, ifAbsent: false });
  const there = await store.head(probe, request);
  await store.delete(probe, request);
  return there?.modifiedMs ?? Infinity;
}
