/**
 * UUID/volume: what a volume is, sealed; its index is:
 *
 *      0   8  creation, wall time in milliseconds
 *      8   8  size in bytes at creation
 *     16   4  logical block size in bytes
 *     20   4  block size in bytes (4096)
 *     24  2+n name, UTF-8
 *
 * That it opens proves the volume key. The name stands nowhere else in the bucket.
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import { BLOCK_BYTES } from '../base/units.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { uuidOfKey } from './name.js';
import type { ObjectIdentity, ObjectSealer, SealedObject } from './seal.js';

export interface RemoteVolume {
  readonly name: string;
  readonly createdMs: number;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
}

export function sealVolume(sealer: ObjectSealer, volume: RemoteVolume): SealedObject {
  const writer = new ByteWriter(256);
  writer.u64(volume.createdMs);
  writer.u64(volume.sizeBytes);
  writer.u32(volume.logicalBlockBytes);
  writer.u32(BLOCK_BYTES);
  writer.text(volume.name);
  return sealer.seal(volumeIdentity(sealer), writer.finish());
}

export function openVolume(sealer: ObjectSealer, bytes: Uint8Array): RemoteVolume {
  const identity = volumeIdentity(sealer);
  const reader = new ByteReader(sealer.openWhole(identity, bytes).index, identity.name);
  const createdMs = reader.u64();
  const sizeBytes = reader.u64();
  const logicalBlockBytes = reader.u32();
  const blockBytes = reader.u32();
  if (blockBytes !== BLOCK_BYTES) {
    throw new GatewayError('format-newer', `${identity.name}: blocks of ${blockBytes} bytes`);
  }
  const name = reader.text();
  reader.endOfZeros();
  return { name, createdMs, sizeBytes, logicalBlockBytes };
}

/** undefined: it is not there. object-damaged, format-newer */
export async function readVolume(
  store: ObjectStore,
  sealer: ObjectSealer,
  request: StoreRequest,
): Promise<RemoteVolume | undefined> {
  try {
    return openVolume(sealer, await store.get(sealer.names.volume, request));
  } catch (error) {
    if (error instanceof GatewayError && error.code === 'object-missing') return undefined;
    throw error;
  }
}

/** The uuids of all volumes in the store, with one listing request for each: it skips over their objects. */
export async function listVolumeUuids(store: ObjectStore, request: StoreRequest = {}): Promise<string[]> {
  const uuids: string[] = [];
  let after: string | undefined;
  for (;;) {
    const first = await firstKey(store, after, request);
    if (first === undefined) return uuids;
    const uuid = uuidOfKey(first);
    if (uuid !== undefined) uuids.push(uuid);
    // '0' is the character after '/': nothing of this folder sorts behind it.
    const slash = first.indexOf('/');
    after = slash < 0 ? first : `${first.slice(0, slash)}0`;
  }
}

async function firstKey(
  store: ObjectStore,
  after: string | undefined,
  request: StoreRequest,
): Promise<string | undefined> {
  for await (const { key } of store.list('', after === undefined ? request : { ...request, after })) return key;
  return undefined;
}

function volumeIdentity(sealer: ObjectSealer): ObjectIdentity {
  return { kind: 'volume', name: sealer.names.volume, epoch: 0, number: 0, part: 0 };
}
