/**
 * Metadata contexts: which there are, how a client chooses them, and the options' bytes ("Metadata querying",
 * "NBD_OPT_LIST_META_CONTEXT", "NBD_OPT_SET_META_CONTEXT" of proto.md).
 *
 *   base:allocation   hole 1, zero 2: "The base: metadata namespace" of proto.md
 *   keepgate:dirty    1: acknowledged here, and in no recovery point of the bucket yet
 *   keepgate:remote   1: the content is in the bucket only, and a read fetches it
 *
 *   request  C | length of export name 4 | name | queries 4 | (length 4 | query) of each
 *   reply    S | context id 4 | name |, one for each, then ACK
 */
import type { BlockDevice } from '../../ports/block-device.js';
import { decodeName, encodeOptionReply } from './option-codec.js';
import { optionReply, readU32, STRING_BYTES_MAX, writeU32 } from './wire.js';

export type ContextKind = 'allocation' | 'dirty' | 'remote';

/** A context that a client selected; `id` is what its status chunks carry. */
export interface MetaContext {
  readonly id: number;
  readonly kind: ContextKind;
}

const contextNames: Readonly<Record<ContextKind, string>> = {
  allocation: 'base:allocation',
  dirty: 'keepgate:dirty',
  remote: 'keepgate:remote',
};

/** Never 0, which is what LIST_META_CONTEXT answers with. */
const contextIds: Readonly<Record<ContextKind, number>> = { allocation: 1, dirty: 2, remote: 3 };

export interface ContextRequest {
  readonly name: string | undefined;
  readonly queries: readonly string[];
}

/** undefined: malformed, or a query is no string with a namespace. */
export function decodeContextRequest(data: Uint8Array): ContextRequest | undefined {
  const strings: string[] = [];
  let at = 0;
  /** The string at `at`, behind its length; undefined: there is no such. */
  const next = (): Uint8Array | undefined => {
    if (data.length - at < 4) return undefined;
    const lengthBytes = readU32(data, at);
    if (lengthBytes > STRING_BYTES_MAX || lengthBytes > data.length - at - 4) return undefined;
    at += 4 + lengthBytes;
    return data.subarray(at - lengthBytes, at);
  };
  const nameBytes = next();
  if (nameBytes === undefined || data.length - at < 4) return undefined;
  const count = readU32(data, at);
  at += 4;
  for (let query = 0; query < count; query++) {
    const bytes = next();
    const text = bytes && decodeName(bytes);
    if (text?.includes(':') !== true) return undefined;
    strings.push(text);
  }
  return at === data.length ? { name: decodeName(nameBytes), queries: strings } : undefined;
}

/** The contexts that a volume has. */
function contextsOf(device: BlockDevice): ContextKind[] {
  return ['allocation', ...device.marks];
}

/** What LIST_META_CONTEXT shows: without queries all; `namespace:` stands for all of a namespace. */
export function listedContexts(device: BlockDevice, queries: readonly string[]): MetaContext[] {
  return contextsOf(device)
    .filter((kind) => queries.length === 0 || queries.some((query) => matches(kind, query, true)))
    .map((kind) => ({ id: 0, kind }));
}

/** What SET_META_CONTEXT selects: contexts that are named in full, each once. */
export function selectedContexts(device: BlockDevice, queries: readonly string[]): MetaContext[] {
  return contextsOf(device)
    .filter((kind) => queries.some((query) => matches(kind, query, false)))
    .map((kind) => ({ id: contextIds[kind], kind }));
}

function matches(kind: ContextKind, query: string, wildcards: boolean): boolean {
  const name = contextNames[kind];
  return query === name || (wildcards && query.endsWith(':') && name.startsWith(query));
}

/** NBD_REP_META_CONTEXT. */
export function encodeContext(option: number, { id, kind }: MetaContext): Uint8Array {
  const name = Buffer.from(contextNames[kind]);
  const data = new Uint8Array(4 + name.length);
  writeU32(data, 0, id);
  data.set(name, 4);
  return encodeOptionReply(option, optionReply.metaContext, data);
}
