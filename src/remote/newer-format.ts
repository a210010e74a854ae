/**
 * Whether a newer version went on with a volume in the bucket. What is read of it in any case, the head of the segments, need
 * not tell: a gateway that died early has put an epoch only, and a directory with a map of its own reads no checkpoint. So
 * before a gateway puts anything it looks at the newest of both.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { FIRST_EPOCH } from './chain.js';
import { openCheckpoint } from './checkpoint.js';
import { openEpoch } from './epoch-object.js';
import { isDamage, listCheckpoints } from './restore-checkpoint.js';
import type { ObjectSealer } from './seal.js';
import { decodeHeader, FORMAT_VERSION, HEADER_BYTES, putFormatVersion } from './seal-header.js';

/** @throws GatewayError format-newer. `newestEpoch` is the highest that was taken, FIRST_EPOCH - 1: none was */
export async function refuseNewerFormat(
  newestEpoch: number,
  store: ObjectStore,
  sealer: ObjectSealer,
  request: StoreRequest,
): Promise<void> {
  const { names } = sealer;
  const look = (name: string, open: (bytes: Uint8Array) => unknown): Promise<void> =>
    refuseNewer(name, open, store, request);
  if (newestEpoch >= FIRST_EPOCH) {
    await look(names.epoch(newestEpoch), (bytes) => openEpoch(sealer, newestEpoch, bytes));
  }
  const [newest] = await listCheckpoints(store, sealer, request);
  if (newest !== undefined) {
    await look(names.checkpoint(newest), (bytes) => openCheckpoint(sealer, newest, bytes));
  }
}

/** Damage is none of this one's business; and a version that is only a bit that has flipped is damage. */
async function refuseNewer(
  name: string,
  open: (bytes: Uint8Array) => unknown,
  store: ObjectStore,
  request: StoreRequest,
): Promise<void> {
  try {
    decodeHeader(name, await store.get(name, { ...request, range: { start: 0, lengthBytes: HEADER_BYTES } }));
  } catch (error) {
    if (isDamage(error)) return;
    if (!(error instanceof GatewayError) || error.code !== 'format-newer') throw error;
    if (!(await isFlipped(open, store.get(name, request)))) throw error;
  }
}

/** The header is authenticated, the version included: what opens with this version's was sealed by this version. */
async function isFlipped(open: (bytes: Uint8Array) => unknown, bytes: Promise<Uint8Array>): Promise<boolean> {
  try {
    open(putFormatVersion(await bytes, FORMAT_VERSION));
    return true;
  } catch (error) {
    if (isDamage(error)) return false;
    throw error;
  }
}
