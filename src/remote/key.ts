/**
 * Keys. A master key is 32 bytes that the user keeps in a file as base64; every volume has a random key of its own,
 * which lies in the bucket wrapped by one or more master keys (several: rotation). Everything else of the volume is
 * sealed with keys derived from the volume key.
 *
 * keys/<master key id> is a sealed object of kind `wrappedKey` whose key is the master key and whose index is:
 *
 *      0  32  volume key
 *     32   8  wall time in milliseconds when it was wrapped
 */
import { ByteReader, ByteWriter } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { FrameCipher } from '../ports/frame-cipher.js';
import type { ObjectStore } from '../ports/object-store.js';
import type { Random } from '../ports/random.js';
import { ObjectNames } from './name.js';
import { KEY_BYTES, keyIdOf, ObjectSealer } from './seal.js';
import type { ObjectIdentity, SealedObject } from './seal.js';

export interface MasterKey {
  readonly bytes: Uint8Array;
  /** 32 hexadecimal digits; not secret. */
  readonly id: string;
}

/** The text of a key file; `where` names the file in messages. key-invalid. */
export function parseMasterKey(text: string, where: string): MasterKey {
  const base64 = text.trim();
  const bytes = Buffer.from(base64, 'base64');
  if (bytes.length !== KEY_BYTES || bytes.toString('base64') !== base64) {
    throw new GatewayError('key-invalid', `${where}: a key is 32 bytes in base64 (44 characters) on one line`, {
      context: { file: where },
    });
  }
  return { bytes, id: Buffer.from(keyIdOf(bytes)).toString('hex') };
}

/** A new master key as the text of a key file. */
export function generateMasterKeyText(random: Random): string {
  return `${Buffer.from(random.bytes(KEY_BYTES)).toString('base64')}\n`;
}

export function generateVolumeKey(random: Random): Uint8Array {
  return random.bytes(KEY_BYTES);
}

/** The object that lets `master` open the volume, and its name. */
export function wrapVolumeKey(options: {
  readonly master: MasterKey;
  readonly uuid: string;
  readonly volumeKey: Uint8Array;
  readonly wallMs: number;
  readonly random: Random;
}): { readonly name: string; readonly object: SealedObject } {
  const { master, uuid, volumeKey, wallMs, random } = options;
  const identity = wrappedKeyIdentity(uuid, master);
  const writer = new ByteWriter(64);
  writer.bytes(volumeKey);
  writer.u64(wallMs);
  const object = new ObjectSealer({ key: master.bytes, uuid, random }).seal(identity, writer.finish());
  return { name: identity.name, object };
}

/** The volume key out of the object keys/<master key id>; object-damaged when it was changed. */
export function unwrapVolumeKey(options: {
  readonly master: MasterKey;
  readonly uuid: string;
  readonly bytes: Uint8Array;
  readonly random: Random;
}): Uint8Array {
  const { master, uuid, bytes, random } = options;
  const identity = wrappedKeyIdentity(uuid, master);
  const opened = new ObjectSealer({ key: master.bytes, uuid, random }).openWhole(identity, bytes);
  const reader = new ByteReader(opened.index, identity.name);
  const volumeKey = reader.bytes(KEY_BYTES).slice();
  reader.u64();
  reader.endOfZeros();
  return volumeKey;
}

/**
 * Finds the key of a volume in the bucket with whichever of `masters` opens it, and makes its sealer.
 * key-mismatch when the volume has keys but none for these; object-missing when it has none at all.
 */
export async function openVolumeSealer(store: ObjectStore, options: OpenKeyOptions): Promise<ObjectSealer> {
  const { uuid, random } = options;
  const { volumeKey } = await openVolumeKey(store, options);
  return new ObjectSealer({ key: volumeKey, uuid, random, cipher: options.cipher });
}

export interface OpenKeyOptions {
  readonly uuid: string;
  readonly masters: readonly MasterKey[];
  readonly random: Random;
  /** Of the sealer. */
  readonly cipher?: FrameCipher | undefined;
  readonly signal?: AbortSignal;
}

/** As openVolumeSealer: the key itself, and which master key opened it. */
export async function openVolumeKey(
  store: ObjectStore,
  options: OpenKeyOptions,
): Promise<{ readonly master: MasterKey; readonly volumeKey: Uint8Array }> {
  const { uuid, masters, random } = options;
  const request = options.signal === undefined ? {} : { signal: options.signal };
  const names = new ObjectNames(uuid);
  let found = 0;
  for await (const { key } of store.list(names.keysPrefix, request)) {
    found++;
    const parsed = names.parse(key);
    const master = parsed?.kind === 'key' ? masters.find(({ id }) => id === parsed.id) : undefined;
    if (master === undefined) continue;
    return { master, volumeKey: unwrapVolumeKey({ master, uuid, bytes: await store.get(key, request), random }) };
  }
  const where = `${store.description}/${names.keysPrefix}`;
  if (found === 0) throw new GatewayError('object-missing', `${where}: the volume’s key is not there`);
  throw new GatewayError('key-mismatch', `${where}: none of the ${found} wrapped keys opens with the given key`, {
    context: { volume: uuid },
  });
}

/** As openVolumeKey, without a listing; undefined: none of `masters` opens the volume, or it has no key at all. */
export async function openKnownKey(store: ObjectStore, options: OpenKeyOptions): Promise<Uint8Array | undefined> {
  const { uuid, masters, random } = options;
  const request = options.signal === undefined ? {} : { signal: options.signal };
  for (const master of masters) {
    try {
      const bytes = await store.get(new ObjectNames(uuid).key(master.id), request);
      return unwrapVolumeKey({ master, uuid, bytes, random });
    } catch (error) {
      if (!(error instanceof GatewayError) || !['object-missing', 'object-damaged'].includes(error.code)) throw error;
    }
  }
  return undefined;
}

function wrappedKeyIdentity(uuid: string, master: MasterKey): ObjectIdentity {
  return { kind: 'wrappedKey', name: new ObjectNames(uuid).key(master.id), epoch: 0, number: 0, part: 0 };
}
