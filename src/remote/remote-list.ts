/** What a bucket holds: finding one volume by name or uuid, and listing them all. Reads only. */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { openVolumeSealer } from './key.js';
import type { MasterKey } from './key.js';
import { isUuid } from './name.js';
import type { SegmentKey } from './name.js';
import { isDamage } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import type { ChainPoint } from './segment-point.js';
import { readSegmentHead } from './segment-reader.js';
import { listVolumeUuids, openVolume } from './volume-object.js';
import type { RemoteVolume } from './volume-object.js';

export interface FoundVolume {
  readonly sealer: ObjectSealer;
  readonly volume: RemoteVolume;
}

export interface FindOptions {
  readonly masters: readonly MasterKey[];
  readonly random: Random;
  readonly request: StoreRequest;
}

/** not-found, key-mismatch, config-invalid (a name that several volumes have), object-damaged; store errors. */
export async function findRemoteVolume(
  store: ObjectStore,
  options: FindOptions & { readonly volume: string },
): Promise<FoundVolume> {
  const { volume: wanted } = options;
  if (isUuid(wanted)) return openFound(store, wanted, options);
  const found: FoundVolume[] = [];
  let locked = 0;
  let damage: GatewayError | undefined;
  for (const uuid of await listVolumeUuids(store, options.request)) {
    const candidate = await tryOpen(store, uuid, options);
    if (candidate instanceof GatewayError) {
      if (isDamage(candidate)) damage ??= candidate;
      else locked++;
    } else if (candidate.volume.name === wanted) found.push(candidate);
  }
  const [first] = found;
  if (first === undefined) {
    // The damaged one may be the one that is wanted: its name cannot be read.
    if (damage !== undefined) {
      const message = `no sound volume is named ${wanted}, and one is damaged: ${damage.message}`;
      throw new GatewayError(damage.code, message, { cause: damage });
    }
    if (locked > 0) {
      throw new GatewayError(
        'key-mismatch',
        `${store.description}: no volume that the given key opens is named ${wanted}; ${locked} cannot be opened with it`,
      );
    }
    throw new GatewayError('not-found', `${store.description} holds no volume named ${wanted}`);
  }
  if (found.length > 1) {
    const uuids = found.map(({ sealer }) => sealer.names.uuid).join(', ');
    throw new GatewayError('config-invalid', `several volumes are named ${wanted}; give one of their uuids: ${uuids}`);
  }
  return first;
}

export interface ListedVolume {
  readonly uuid: string;
  /** undefined: no given key opens it. */
  readonly name: string | undefined;
  readonly sizeBytes: number | undefined;
  /** The newest complete group found at the end of the newest epoch, unproved: `restore` proves it. */
  readonly recoveryPoint: ChainPoint | undefined;
  readonly segments: number;
  readonly objects: number;
  readonly bytes: number;
  /** What could not be read, as one line. */
  readonly problem: string | undefined;
}

export async function* listRemoteVolumes(
  store: ObjectStore,
  options: FindOptions,
): AsyncGenerator<ListedVolume, void, undefined> {
  for (const uuid of await listVolumeUuids(store, options.request)) yield await describe(store, uuid, options);
}

async function describe(store: ObjectStore, uuid: string, options: FindOptions): Promise<ListedVolume> {
  let objects = 0;
  let bytes = 0;
  for await (const object of store.list(`${uuid}/`, options.request)) {
    objects++;
    bytes += object.sizeBytes;
  }
  const closed = { uuid, name: undefined, sizeBytes: undefined, recoveryPoint: undefined, segments: 0, objects, bytes };
  try {
    const { sealer, volume } = await openFound(store, uuid, options);
    const { count, newest } = await segmentsOf(store, sealer, options.request);
    const end = await newestGroup(store, sealer, newest, options.request);
    return {
      uuid,
      name: volume.name,
      sizeBytes: end?.sizeBytes ?? volume.sizeBytes,
      recoveryPoint: end?.point,
      segments: count,
      objects,
      bytes,
      problem: undefined,
    };
  } catch (error) {
    if (!isDamage(error) && !isMismatch(error)) throw error;
    return { ...closed, problem: error.message };
  }
}

/** Keys of the segments folder, those with the highest numbers last. */
async function segmentsOf(
  store: ObjectStore,
  sealer: ObjectSealer,
  request: StoreRequest,
): Promise<{ count: number; newest: SegmentKey[] }> {
  let count = 0;
  let newest: SegmentKey[] = [];
  for await (const { key } of store.list(sealer.names.segmentsPrefix, request)) {
    const parsed = sealer.names.parse(key);
    if (parsed?.kind !== 'segment') continue;
    count++;
    newest.push({ epoch: parsed.epoch, number: parsed.number });
    if (newest.length > 2 * NEWEST_MAX) newest = highest(newest);
  }
  return { count, newest: highest(newest) };
}

const NEWEST_MAX = 16;

function highest(keys: SegmentKey[]): SegmentKey[] {
  return keys.sort((left, right) => right.epoch - left.epoch || right.number - left.number).slice(0, NEWEST_MAX);
}

/** The newest segment that ends a group; a fence names one. */
async function newestGroup(
  store: ObjectStore,
  sealer: ObjectSealer,
  newest: readonly SegmentKey[],
  request: StoreRequest,
): Promise<{ point: ChainPoint; sizeBytes: number | undefined } | undefined> {
  for (const key of newest) {
    const head = await readSegmentHead(store, sealer, key, request);
    if (head.kind === 'fence') {
      const { lastGroup } = head.fence;
      if (lastGroup.number === 0) continue;
      const end = await readSegmentHead(store, sealer, lastGroup, request);
      return { point: lastGroup, sizeBytes: end.kind === 'segment' ? end.index.sizeBytes : undefined };
    }
    if (head.kind === 'segment' && head.index.groupEnd) {
      const { lastLsn: lsn, wallMs, sizeBytes } = head.index;
      return { point: { ...key, link: head.link, lsn, wallMs }, sizeBytes };
    }
  }
  return undefined;
}

async function tryOpen(store: ObjectStore, uuid: string, options: FindOptions): Promise<FoundVolume | GatewayError> {
  try {
    return await openFound(store, uuid, options);
  } catch (error) {
    if (isDamage(error) || isMismatch(error)) return error;
    throw error;
  }
}

async function openFound(store: ObjectStore, uuid: string, options: FindOptions): Promise<FoundVolume> {
  const { masters, random, request } = options;
  const sealer = await openVolumeSealer(store, { ...request, uuid, masters, random });
  return { sealer, volume: openVolume(sealer, await store.get(sealer.names.volume, request)) };
}

function isMismatch(error: unknown): error is GatewayError {
  return error instanceof GatewayError && error.code === 'key-mismatch';
}
