/**
 * The volume key of a volume that is about to be created (P9). Its wrapped object lies in the directory's file
 * `volume-key`, durably and byte for byte as it will lie in the bucket, before its first PUT, and until the remote
 * volume was seen to exist. So every start sends the same bytes: what a start that died has under way changes nothing
 * whenever it lands, even where the store ignores If-None-Match and a second key would make the first one's objects, or
 * its own, unreadable for good.
 */
import { GatewayError } from '../base/errors.js';
import type { Clock } from '../ports/clock.js';
import type { Disk } from '../ports/disk.js';
import type { Random } from '../ports/random.js';
import { generateVolumeKey, unwrapVolumeKey, wrapVolumeKey } from './key.js';
import type { MasterKey } from './key.js';
import { ObjectNames } from './name.js';
import { decodeHeader } from './seal-header.js';

const FIRST_KEY_FILE = 'volume-key';

export interface FirstKey {
  /** Of the wrapped object in the bucket. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * The key that an earlier start has made, or a new one, which is durable here when this resolves. The first of `masters`
 * wraps it. key-missing without one; key-mismatch where another master key has wrapped what an earlier start made;
 * object-damaged where that has rotted.
 */
export async function keepFirstKey(options: {
  readonly disk: Disk;
  readonly uuid: string;
  readonly masters: readonly MasterKey[];
  readonly clock: Clock;
  readonly random: Random;
}): Promise<FirstKey> {
  const { disk, uuid, masters, clock, random } = options;
  if (await disk.exists(FIRST_KEY_FILE)) {
    return wrappedBefore(await disk.readSmall(FIRST_KEY_FILE), options);
  }
  const [master] = masters;
  if (master === undefined) throw new GatewayError('key-missing', `volume ${uuid} has no key`);
  const volumeKey = generateVolumeKey(random);
  const { name, object } = wrapVolumeKey({ master, uuid, volumeKey, wallMs: clock.wallMs(), random });
  await disk.writeSmall(FIRST_KEY_FILE, object.bytes);
  return { name, bytes: object.bytes };
}

/** Once the directory knows that the remote volume exists: no key is made after that. */
export async function forgetFirstKey(disk: Disk): Promise<void> {
  if (await disk.exists(FIRST_KEY_FILE)) await disk.remove(FIRST_KEY_FILE);
}

function wrappedBefore(
  bytes: Uint8Array,
  options: { readonly uuid: string; readonly masters: readonly MasterKey[]; readonly random: Random },
): FirstKey {
  const { uuid, masters, random } = options;
  const remedy = `or, if no gateway has been started on this directory for an hour, remove the file ${FIRST_KEY_FILE} of volume ${uuid}`;
  let keyId: string;
  try {
    keyId = Buffer.from(decodeHeader(FIRST_KEY_FILE, bytes).keyId).toString('hex');
    const master = masters.find(({ id }) => id === keyId);
    if (master !== undefined) {
      unwrapVolumeKey({ master, uuid, bytes, random });
      return { name: new ObjectNames(uuid).key(master.id), bytes };
    }
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'object-damaged') throw error;
    throw new GatewayError('object-damaged', `${error.message}; restore that file, ${remedy}`, { cause: error });
  }
  throw new GatewayError(
    'key-mismatch',
    `the first start of volume ${uuid} was cut short, with master key ${keyId}: give that key, ${remedy}`,
    { context: { volume: uuid } },
  );
}
