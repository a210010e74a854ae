/** Puts one sealed object where nothing may be yet, and says whose object lies there afterwards (P7). */
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { decodeHeader, HEADER_BYTES } from './seal-header.js';
import type { SealedObject } from './seal.js';
import { outcomeOf } from './upload-rules.js';
import type { PutOutcome } from './upload-rules.js';

/** `none`: the store ignores If-None-Match; then one gateway alone must use the prefix (docs/threat-model.md). */
export type Fencing = 'conditional' | 'none';

/** One attempt; store errors are thrown and the caller repeats it with the same object. */
export async function putOnce(
  store: ObjectStore,
  fencing: Fencing,
  name: string,
  object: SealedObject,
  request: StoreRequest,
): Promise<PutOutcome> {
  const answer = await store.put(name, object.bytes, { ...request, ifAbsent: fencing === 'conditional' });
  return answer === 'stored' ? { outcome: 'mine', stored: true } : recognise(store, name, object, request);
}

/** Whose object lies at `name`, where there is one. */
export async function recognise(
  store: ObjectStore,
  name: string,
  object: SealedObject,
  request: StoreRequest,
): Promise<PutOutcome> {
  const range = { start: 0, lengthBytes: HEADER_BYTES, orLess: true };
  let found: Uint8Array;
  try {
    found = await store.get(name, { ...request, range });
  } catch (error) {
    if (!(error instanceof GatewayError) || error.code !== 'object-missing') throw error;
    throw new GatewayError('store-failed', `${store.description}/${name}: it exists for PUT and not for GET`, {
      cause: error,
    });
  }
  return outcomeOf(decodeHeader(name, found), object.header);
}
