/**
 * Finds the newest checkpoint that is sound. A checkpoint saves reading the whole chain and is never needed: one that is
 * damaged, or whose shards are, only costs time.
 */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { openCheckpoint } from './checkpoint.js';
import type { Checkpoint } from './checkpoint.js';
import type { SegmentKey } from './name.js';
import type { ObjectSealer } from './seal.js';

/** Names of all checkpoints, newest recovery point first. A name is only a claim. */
export async function listCheckpoints(
  store: ObjectStore,
  sealer: ObjectSealer,
  request: StoreRequest,
): Promise<SegmentKey[]> {
  const { names } = sealer;
  const keys: SegmentKey[] = [];
  for await (const { key } of store.list(names.checkpointsPrefix, request)) {
    const parsed = names.parse(key);
    if (parsed?.kind === 'checkpoint') keys.push({ epoch: parsed.epoch, number: parsed.number });
  }
  return keys.sort((left, right) => right.number - left.number || right.epoch - left.epoch);
}

/** Segment number of a sound checkpoint whose recovery point is at or behind `number`; 0: there is none. */
export async function checkpointFrom(
  store: ObjectStore,
  sealer: ObjectSealer,
  number: number,
  request: StoreRequest,
): Promise<number> {
  for (const key of await listCheckpoints(store, sealer, request)) {
    if (key.number < number) break;
    const problems: string[] = [];
    const checkpoint = await readCheckpoint(store, sealer, key, request, ({ code }) => problems.push(code));
    if (checkpoint !== undefined || problems.includes('format-newer')) return key.number;
  }
  return 0;
}

/** undefined: it is damaged, gone, or of a newer version; `onDamage` is told why. */
export async function readCheckpoint(
  store: ObjectStore,
  sealer: ObjectSealer,
  key: SegmentKey,
  request: StoreRequest,
  onDamage: (error: GatewayError) => void,
): Promise<Checkpoint | undefined> {
  try {
    return openCheckpoint(sealer, key, await store.get(sealer.names.checkpoint(key), request));
  } catch (error) {
    // A version that is newer may be a bit that has flipped; if it is not, the segments behind it will say so.
    if (!isDamage(error) && !(error instanceof GatewayError && error.code === 'format-newer')) throw error;
    onDamage(error);
    return undefined;
  }
}

/** Gone or changed: what another copy, or the chain, can make good. */
export function isDamage(error: unknown): error is GatewayError {
  return error instanceof GatewayError && (error.code === 'object-missing' || error.code === 'object-damaged');
}

/** The same, or a newer format version where only a bit that has flipped can say so. */
export function isDamageOrNewer(error: unknown): error is GatewayError {
  return isDamage(error) || (error instanceof GatewayError && error.code === 'format-newer');
}
