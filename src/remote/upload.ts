/**
 * Puts one sealed object where nothing may be yet, and says whose object lies there afterwards. Replies get lost and
 * requests arrive twice: one's own object is recognised by its salt, never by guessing (P7).
 */
import { equalBytes } from '../base/bytes.js';
import { GatewayError } from '../base/errors.js';
import type { ObjectStore, StoreRequest } from '../ports/object-store.js';
import { decodeHeader, HEADER_BYTES } from './seal-header.js';
import type { ObjectKind } from './seal-header.js';
import type { SealedObject } from './seal.js';

/** `none`: the store ignores If-None-Match; then one gateway alone must use the prefix (docs/threat-model.md). */
export type Fencing = 'conditional' | 'none';

export type PutOutcome =
  | { readonly outcome: 'mine' }
  /** Another object is there; `kind` is what its clear header claims. */
  | { readonly outcome: 'other'; readonly kind: ObjectKind };

/** One attempt; store errors are thrown and the caller repeats it with the same object. */
export async function putOnce(
  store: ObjectStore,
  fencing: Fencing,
  name: string,
  object: SealedObject,
  request: StoreRequest,
): Promise<PutOutcome> {
  const answer = await store.put(name, object.bytes, { ...request, ifAbsent: fencing === 'conditional' });
  return answer === 'stored' ? { outcome: 'mine' } : recognise(store, name, object, request);
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
  const header = decodeHeader(name, found);
  if (equalBytes(header.salt, object.header.salt)) return { outcome: 'mine' };
  return { outcome: 'other', kind: header.kind };
}
